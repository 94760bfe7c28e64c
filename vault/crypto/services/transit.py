"""The transit engine of OpenBao or HashiCorp Vault: one `aes256-gcm96` key of the engine for each lock, named by it.

Promises: the name of the sealed key is associated data of every call; a redirect is not followed, a certificate always
checked, no proxy of the environment used; the token is read anew from its file where that changed. What this process may
is what the token's policies say, asked once a lock (`sys/capabilities-self`), never guessed. A key is made by `prepare`
only: rules for others give `update`, not `create`. Docs: docs/how-to/choose-a-key-service.md.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
import msgspec

from vault import durable
from vault.crypto.keyservice import REFUSED, away, context_of, lock_of, missing, refused
from vault.crypto.services.envelope import pack, parse
from vault.crypto.services.guarded import CONNECT_SECONDS, READ_SECONDS, Busy
from vault.errors import ConfigError, Unavailable, Unreadable

FORM: Final = 5
MAX_TOKEN_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 1 << 20
KEY_TYPE: Final = "aes256-gcm96"
_CIPHERTEXT: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+", re.ASCII)
_MAY: Final = frozenset(("update", "root"))
_MAKES: Final = frozenset(("create", "root"))
_BUSY: Final = frozenset((429, 500, 502, 504))
_Json = dict[str, Any]


class TransitKeyService:
    """Speaks to one mount of one server, with the token of a file."""

    def __init__(
        self,
        url: str,
        token_file: Path,
        *,
        mount: str = "transit",
        prefix: str = "profile-vault",
        ca: Path | None = None,
    ) -> None:
        """`url` as `config` checked it; `ca`: certificates to trust, in place of the system's. Asks nothing yet."""
        self._token_file = token_file
        self._token: tuple[tuple[int, int], str] | None = None
        self._mount, self._prefix = mount, prefix
        self._may: dict[str, frozenset[str]] = {}  # path -> what this token may there
        self._latest: dict[str, int] = {}
        try:
            trusted = httpx.create_ssl_context(trust_env=False) if ca is None else ssl.create_default_context(cafile=ca)
        except OSError:
            raise ConfigError("the file that transit_ca_file names holds no certificates") from None
        self._client = httpx.Client(
            base_url=f"{url}/v1/",
            verify=trusted,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        )

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
        """True if the token may make keys of this prefix."""
        return not self._allowed(f"{self._mount}/keys/{self._prefix}-journal").isdisjoint(_MAKES)

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """As the protocol says. The answer must be a ciphertext of the key that was asked."""
        lock = lock_of(key_name)
        self._check_there(lock)
        answer = self._call(
            "encrypt", lock, plaintext=_b64(plaintext), associated_data=_b64(context_of(FORM, key_name))
        )
        made = answer.get("ciphertext")
        if not isinstance(made, str) or not (found := _CIPHERTEXT.fullmatch(made)):
            raise Unreadable
        self._latest[lock] = max(int(found[1]), self._latest.get(lock, 0))
        return pack(FORM, lock, made.encode())

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """As the protocol says."""
        lock, body = parse(FORM, sealed)
        text = body.decode("ascii", "replace")
        if lock != lock_of(key_name) or not _CIPHERTEXT.fullmatch(text):
            raise Unreadable
        context = _b64(context_of(FORM, key_name))
        plaintext = self._call("decrypt", lock, ciphertext=text, associated_data=context).get("plaintext")
        try:
            return base64.b64decode(plaintext if isinstance(plaintext, str) else "-", validate=True)
        except binascii.Error:
            raise Unreadable from None

    def opens(self, key_name: str) -> bool:
        """What the token's policies say of `decrypt`."""
        return not self._allowed(self._path("decrypt", lock_of(key_name))).isdisjoint(_MAY)

    def seals(self, key_name: str) -> bool:
        """What they say of `encrypt`."""
        return not self._allowed(self._path("encrypt", lock_of(key_name))).isdisjoint(_MAY)

    def outdated(self, sealed: bytes) -> bool:
        """True for an older version of the engine's key."""
        lock, body = parse(FORM, sealed)
        found = _CIPHERTEXT.fullmatch(body.decode("ascii", "replace"))
        return found is None or int(found[1]) < (self._latest.get(lock) or self._newest(lock))

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """Makes the engine's keys that are missing: not exportable, no backup in plaintext."""
        wanted = [lock for lock in sorted(set(locks)) if self._read(lock) is None]
        for lock in wanted:
            self._ask("POST", self._path("keys", lock), {"type": KEY_TYPE, "exportable": False})
        self._may.clear()
        return wanted

    def renew(self, lock: str) -> None:
        """The next version of the engine's key."""
        self._ask("POST", f"{self._path('keys', lock)}/rotate", {})
        self._newest(lock)

    def retire(self, lock: str) -> int:
        """Trims all versions before the newest: gone at once."""
        newest, path = self._newest(lock), self._path("keys", lock)
        if newest > 1:
            self._ask("POST", f"{path}/config", {"min_decryption_version": newest, "min_encryption_version": newest})
            self._ask("POST", f"{path}/trim", {"min_available_version": newest})
        return 0

    def close(self) -> None:
        """Gives back its connections."""
        self._client.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _path(self, what: str, lock: str) -> str:
        return f"{self._mount}/{what}/{self._prefix}-{lock}"

    def _newest(self, lock: str) -> int:
        found = self._read(lock)
        version = None if found is None else found.get("latest_version")
        if not isinstance(version, int) or version < 1:
            raise missing(f"{self._prefix}-{lock}")
        self._latest[lock] = version
        return version

    def _check_there(self, lock: str) -> None:
        """The engine would make a missing key in passing, for a token that may create: with a slip in a name, unseen."""
        if lock not in self._latest:
            try:
                self._newest(lock)
            except Unavailable as error:
                if error.reason != REFUSED:
                    raise  # who may not even read it may not create it

    def _read(self, lock: str) -> _Json | None:
        return self._ask("GET", self._path("keys", lock), None, absent=True)

    def _call(self, what: str, lock: str, **body: str) -> _Json:
        return self._ask("POST", self._path(what, lock), body) or {}

    def _allowed(self, path: str) -> frozenset[str]:
        found = self._may.get(path)
        if found is None:
            answer = self._ask("POST", "sys/capabilities-self", {"paths": [path]}) or {}
            listed = answer.get(path)
            found = self._may[path] = frozenset(listed if isinstance(listed, list) else ())
        return found

    def _ask(self, method: str, path: str, body: _Json | None, *, absent: bool = False) -> _Json | None:
        """The `data` of the answer; None for a 404 where `absent` says that this is one. Raises Unavailable, Unreadable."""
        status, answer = self._send(method, path, body)
        if status in {200, 204}:
            data = answer.get("data")
            return data if isinstance(data, dict) else {}
        if status == 404 and absent:
            return None
        if status == 403:
            self._may.clear()
            if self._send("GET", "auth/token/lookup-self", None)[0] != 200:
                raise away("does not take the token: put a valid one into the file of transit_token_file")
            raise refused()
        if status == 400:
            raise _judged(answer.get("errors"), f"{method} {path}")
        if status == 503:
            raise away("is sealed or stands by; unseal it")
        if status in _BUSY:
            raise Busy(status)
        raise away(f"answered {status}, which is no answer of a transit engine; check transit_url and transit_mount")

    def _send(self, method: str, path: str, body: _Json | None) -> tuple[int, _Json]:
        headers = {"X-Vault-Token": self._read_token(), "X-Vault-Request": "true"}
        try:
            with self._client.stream(method, path, headers=headers, json=body) as answer:
                content = b""
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER_BYTES:
                        raise away("answers too much; check transit_url")
            found = msgspec.json.decode(content) if content else {}
        except httpx.TimeoutException:
            raise away("does not answer in time") from None
        except httpx.HTTPError as error:
            raise away(_reason(error)) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = {}
        return answer.status_code, found if isinstance(found, dict) else {}

    def _read_token(self) -> str:
        """The token; read again when its file was replaced, as agents of the server do."""
        try:
            status = self._token_file.stat()
            mark = (status.st_mtime_ns, status.st_ino)
            if self._token is None or self._token[0] != mark:
                text = durable.read_private(self._token_file, MAX_TOKEN_BYTES).decode("ascii").strip()
                if not text.isprintable() or not text:
                    raise ConfigError("the file of transit_token_file holds no token")
                self._token = (mark, text)
                self._may.clear()
        except (FileNotFoundError, UnicodeDecodeError, Unreadable):
            raise away("needs a token, and the file of transit_token_file has none") from None
        return self._token[1]

    def __repr__(self) -> str:
        return "TransitKeyService(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key service does not leave its process")


def _judged(errors: object, what: str) -> Unavailable | Unreadable:
    """What a 400 means: a key that is not there, or bytes that do not open."""
    told = " ".join(one for one in errors if isinstance(one, str)) if isinstance(errors, list) else ""
    if "/decrypt/" in what:
        return Unreadable()  # also of a key that is not there: then another service sealed it
    if "not found" in told:
        return missing(what.rpartition("/")[2])
    return away("refuses what it was asked; compare its version with docs/how-to/choose-a-key-service.md")


def _reason(error: httpx.HTTPError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "shows a certificate that is not trusted here; see transit_ca_file"
    if isinstance(error, httpx.ConnectError):
        return "refuses the connection, or is not found"
    return "broke off in the middle"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
