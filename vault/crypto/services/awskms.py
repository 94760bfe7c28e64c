"""AWS KMS: for each lock one customer-managed key, found by the alias `PREFIX-LOCK` and known by its description.

Promises: the name of the sealed key is encryption context of every call (it shows in CloudTrail; it is never a value); a
key id from sealed bytes is used only if that key is described as of this lock, and only an answer that names it counts
(threats A14); one try a call, by `guarded` alone. Who may list aliases prepares: `kms:ListAliases` goes to nobody else.
Credentials are found as every AWS tool finds them. Docs: docs/how-to/choose-a-key-service.md.
"""

import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final, NoReturn

from vault.clock import Clock, SystemClock
from vault.crypto.keyservice import REFUSED, away, context_of, lock_of, missing, refused
from vault.crypto.services.envelope import pack, parse
from vault.crypto.services.guarded import AT_ONCE, CONNECT_SECONDS, READ_SECONDS, Busy
from vault.errors import ConfigError, Unavailable, Unreadable

FORM: Final = 4
MIN_DAYS: Final = 7  # KMS keeps a key that is to be destroyed for so many days at least
MAX_DAYS: Final = 30
_OLD: Final = "-old-"  # alias of an own key that a newer one followed: PREFIX-LOCK-old-KEYID
_PAGES: Final = 100  # of aliases, a hundred each
_DENIED: Final = frozenset(("AccessDeniedException", "AccessDenied"))
_CREDENTIALS: Final = frozenset(
    ("ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId",
     "InvalidSignatureException", "SignatureDoesNotMatch", "MissingAuthenticationTokenException",
     "IncompleteSignature", "RequestExpired")
)  # fmt: skip
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}", re.ASCII)
_NO_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
     "ProfileNotFound", "InvalidIMDSEndpointError", "MetadataRetrievalError", "UnauthorizedSSOTokenError")
)  # fmt: skip
_WRONG: Final = frozenset(("InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException"))
_CLOSED: Final = frozenset(
    ("DisabledException", "KMSInvalidStateException", "InvalidKeyIdException", "InvalidArnException")
)
_BUSY: Final = frozenset(
    ("ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException", "RequestLimitExceeded",
     "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailable",
     "InternalFailure", "InternalError")
)  # fmt: skip
_Json = dict[str, Any]


class AwsKeyService:
    """Speaks to KMS of one region."""

    def __init__(
        self,
        region: str,
        *,
        endpoint: str | None = None,
        prefix: str = "profile-vault",
        days: int = MIN_DAYS,
        clock: Clock | None = None,
    ) -> None:
        """`endpoint`: another address than the region's own; `days`: how long KMS keeps what `retire` destroys."""
        try:
            from botocore.config import Config  # noqa: PLC0415 (an extra: only who uses it has it)
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
            from botocore.session import Session  # noqa: PLC0415
        except ImportError:
            raise ConfigError("key_service = awskms needs the extra `aws`: pip install 'profile-vault[aws]'") from None
        self._faults, self._refusals, self._session = BotoCoreError, ClientError, Session
        self._prefix, self._days = prefix, days
        self._clock: Clock = clock or SystemClock()
        self._known: dict[str, _Json] = {}  # key id -> what KMS says of it
        self._current: dict[str, str] = {}  # lock -> id of the key behind its alias
        self._answers: dict[tuple[str, str], bool] = {}  # what this identity may, by what it was told
        self._making = threading.Lock()
        self._client: Any = (
            None  # made with the first call, since finding credentials may ask the machine's own service
        )
        self._arguments: _Json = {
            "region_name": region,
            "endpoint_url": endpoint,
            "verify": True,
            "config": Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 1},
                proxies={},
                max_pool_connections=AT_ONCE,
            ),
        }

    @property
    def instant(self) -> bool:
        """It is asked over the network."""
        return False

    @property
    def fault(self) -> None:
        """Told by the guard around it."""
        return

    @property
    def whole(self) -> bool:
        """True if this identity may list aliases."""
        try:
            self._call("list_aliases", Limit=1)
        except Unavailable as error:
            if error.reason != REFUSED:
                raise
            return False
        return True

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """As the protocol says. The key that answered must be the one behind the lock's alias."""
        lock = lock_of(key_name)
        with self._noting("seals", lock):
            answer = self._call(
                "encrypt", KeyId=self._alias(lock), Plaintext=plaintext, EncryptionContext=self._context(key_name)
            )
        arn = answer.get("KeyId")
        if arn != self._key(self._now(lock), lock)["Arn"]:
            self._current.pop(lock)  # the alias may have been moved just now
            if arn != self._key(self._now(lock), lock)["Arn"]:
                raise Unreadable
        return pack(FORM, self._now(lock), _bytes(answer.get("CiphertextBlob")))

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """As the protocol says."""
        lock = lock_of(key_name)
        key_id, body = parse(FORM, sealed)
        with self._noting("opens", lock):
            arn = self._key(key_id, lock)["Arn"]
            answer = self._call("decrypt", KeyId=arn, CiphertextBlob=body, EncryptionContext=self._context(key_name))
        if answer.get("KeyId") != arn:
            raise Unreadable
        return _bytes(answer.get("Plaintext"))

    def opens(self, key_name: str) -> bool:
        """False once KMS refused to decrypt under the lock; where it may encrypt, it is tried out."""
        lock = lock_of(key_name)
        if ("opens", lock) not in self._answers and self.seals(key_name):
            probe = f"{lock}-probe" if lock == lock_of(f"{lock}-probe") else lock
            sealed = self.seal(probe, b"probe")
            try:
                self.unseal(probe, sealed)
            except Unavailable as error:
                if error.reason != REFUSED:
                    raise
        return self._answers.get(("opens", lock), True)

    def seals(self, key_name: str) -> bool:
        """True if KMS encrypts under the lock, which is tried out once."""
        lock = lock_of(key_name)
        if ("seals", lock) not in self._answers:
            try:
                self.seal(lock, b"probe")
            except Unavailable as error:
                if error.reason != REFUSED:
                    raise
        return self._answers["seals", lock]

    def outdated(self, sealed: bytes) -> bool:
        """True for a key that is no longer behind its lock's alias."""
        key_id, _ = parse(FORM, sealed)
        lock = self._lock_of_key(key_id)
        return key_id != self._now(lock)

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """Makes a key and its alias for each lock without one."""
        there = set(self._aliases(f"alias/{self._prefix}-"))
        wanted = [lock for lock in sorted(set(locks)) if self._alias(lock) not in there]
        for lock in wanted:
            self._call("create_alias", AliasName=self._alias(lock), TargetKeyId=self._made(lock))
        self._answers.clear()
        return wanted

    def renew(self, lock: str) -> None:
        """A new key behind the alias; the older keeps one of its own, by which `retire` finds it."""
        self._current.pop(lock, None)
        before = self._now(lock)
        made = self._made(lock)
        self._call("create_alias", AliasName=f"{self._alias(lock)}{_OLD}{before}", TargetKeyId=before)
        self._call("update_alias", AliasName=self._alias(lock), TargetKeyId=made)
        self._current[lock] = made

    def retire(self, lock: str) -> int:
        """KMS destroys nothing at once: answers in how many days the last of them is gone."""
        days = 0
        front = f"{self._alias(lock)}{_OLD}"
        for alias in self._aliases(front):
            key_id = alias.removeprefix(front)
            self._known.pop(key_id, None)
            found = self._key(key_id, lock)
            if key_id == self._now(lock):
                raise Unreadable  # an alias that somebody moved: the newest key is not destroyed
            if found.get("KeyState") != "PendingDeletion":
                told = self._call("schedule_key_deletion", KeyId=key_id, PendingWindowInDays=self._days)
                found = {**found, "DeletionDate": told.get("DeletionDate")}
                self._known.pop(key_id, None)
            days = max(days, self._left(found.get("DeletionDate")))
        return days

    def close(self) -> None:
        """Gives back its connections, and forgets the credentials."""
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _alias(self, lock: str) -> str:
        return f"alias/{self._prefix}-{lock}"

    def _context(self, key_name: str) -> dict[str, str]:
        return {"profile-vault": context_of(FORM, key_name).decode("ascii")}

    def _noting(self, what: str, lock: str) -> "_Noting":
        return _Noting(self._answers, (what, lock))

    def _now(self, lock: str) -> str:
        """The id of the key behind the lock's alias."""
        found = self._current.get(lock)
        if found is None:
            found = self._current[lock] = self._described(self._alias(lock), lock)["KeyId"]
        return found

    def _key(self, key_id: str, lock: str) -> _Json:
        """What KMS says of a key by its id. Raises `Unreadable` if it is not of this lock."""
        found = self._known.get(key_id)
        if found is None:
            if not _KEY_ID.fullmatch(key_id):  # an ARN or an alias could be of another account
                raise Unreadable
            found = self._described(key_id, lock)
        if found["Description"] != f"{self._prefix}-{lock}" or found["KeyId"] != key_id:
            raise Unreadable
        return found

    def _described(self, asked: str, lock: str) -> _Json:
        told = self._call("describe_key", KeyId=asked, absent=_KEY_ID.fullmatch(asked)).get("KeyMetadata")
        if not isinstance(told, dict) or told.get("Description") != f"{self._prefix}-{lock}":
            raise Unreadable
        self._known[str(told["KeyId"])] = told
        return told

    def _lock_of_key(self, key_id: str) -> str:
        if not _KEY_ID.fullmatch(key_id):
            raise Unreadable
        told = self._known.get(key_id) or self._call("describe_key", KeyId=key_id, absent=True).get("KeyMetadata") or {}
        front, description = f"{self._prefix}-", str(told.get("Description", ""))
        if not description.startswith(front):
            raise Unreadable
        return description.removeprefix(front)

    def _made(self, lock: str) -> str:
        tags = [
            {"TagKey": "profile-vault", "TagValue": self._prefix},
            {"TagKey": "profile-vault-lock", "TagValue": lock},
        ]
        told = self._call("create_key", Description=f"{self._prefix}-{lock}", Tags=tags)["KeyMetadata"]
        self._known[str(told["KeyId"])] = told
        return str(told["KeyId"])

    def _aliases(self, front: str) -> list[str]:
        found: list[str] = []
        more: dict[str, Any] = {}
        for _ in range(_PAGES):
            page = self._call("list_aliases", Limit=100, **more)
            found += [name for one in page.get("Aliases", []) if (name := str(one["AliasName"])).startswith(front)]
            if not page.get("Truncated"):
                return found
            more = {"Marker": page["NextMarker"]}
        raise away("has more aliases than are read here")

    def _left(self, until: object) -> int:
        if not isinstance(until, datetime):
            return self._days
        seconds = (until - datetime.fromtimestamp(self._clock.now() / 1_000_000, UTC)).total_seconds()
        return max(ceil(seconds / 86_400), 0)

    def _call(self, operation: str, *, absent: object = False, **arguments: Any) -> _Json:
        """One call, one try; nothing for what is `absent`. Raises Unavailable, Unreadable.

        What AWS says in words is dropped, for it repeats arguments.
        """
        try:
            with self._making:
                client = self._client = self._client or self._session().create_client("kms", **self._arguments)
            answer: _Json = getattr(client, operation)(**arguments)
        except self._refusals as error:
            told = getattr(error, "response", {})
            code = str(told.get("Error", {}).get("Code", ""))
            if code == "NotFoundException" and absent:
                return {}
            if code in _CREDENTIALS:
                self.close()
            raise _judged(code, _status(told), operation) from None
        except self._faults as error:
            if type(error).__name__ in _NO_CREDENTIALS:
                self.close()  # they are looked for again: what gives them may have been late
            raise away(_reason(type(error).__name__)) from None
        return answer

    def __repr__(self) -> str:
        return "AwsKeyService(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key service does not leave its process")


class _Noting:
    """Notes if KMS let this identity do it: a refusal, or an answer of any other kind."""

    def __init__(self, answers: dict[tuple[str, str], bool], key: tuple[str, str]) -> None:
        self._answers, self._key = answers, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, Unreadable):
            self._answers[self._key] = True
        elif isinstance(error, Unavailable) and error.reason == REFUSED:
            self._answers[self._key] = False


def _status(told: _Json) -> int:
    status = told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0


def _judged(code: str, status: int, operation: str) -> Unavailable | Unreadable:
    """What a refusal of KMS means. By its code, which is stable."""
    if code in _DENIED:
        return refused()
    if code in _CREDENTIALS:
        return away("does not take the AWS credentials of this process: renew them")
    if code in _WRONG:
        return Unreadable()
    if code in _CLOSED:
        return away("has disabled a key of this vault, or destroys it: enable it, or cancel its deletion")
    if code == "NotFoundException":
        return missing("this lock in this region")
    if code in _BUSY or status in {429, 500, 502, 503, 504}:
        return Busy(429 if "Thrott" in code or "Limit" in code or "TooMany" in code else max(status, 500))
    return away(f"refuses {operation} ({code if code.isalnum() else status})")


def _reason(kind: str) -> str:
    if kind in _NO_CREDENTIALS:
        return "needs AWS credentials, and this process finds none"
    if "Timeout" in kind:
        return "does not answer in time"
    if kind in {"EndpointConnectionError", "ConnectionError"}:
        return "refuses the connection, or is not found"
    if kind == "SSLError":
        return "shows a certificate that is not trusted here"
    return f"cannot be asked ({kind})"


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes) or not value:
        raise Unreadable
    return value
