"""A hardware module by PKCS#11: for each lock AES-256 keys of the token, labelled with it and numbered by their id.

Promises: keys are made inside, sensitive and not extractable; form and name are associated data of each AES-GCM call;
one session, used by one thread at a time, opened anew after the module lost it. A token opens to its PIN as a whole: what
separates processes is which keys a token (or a user of the module) holds, not this code. docs/how-to/choose-a-key-service.md.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from vault import durable
from vault.crypto.keyservice import away, context_of, lock_of, missing, refused
from vault.crypto.services.envelope import pack, parse
from vault.errors import ConfigError, Unavailable, Unreadable
from vault.ids import random_bytes

FORM: Final = 6
NONCE_BYTES: Final = 12
TAG_BITS: Final = 128
MAX_PIN_BYTES: Final = 256
MAX_VERSION: Final = 2**16 - 1
_PROBE: Final = b"probe"

_Answer = TypeVar("_Answer")


class Pkcs11KeyService:
    """Speaks to one token of one module."""

    def __init__(self, module: Path, token: str, pin_file: Path, *, prefix: str = "profile-vault") -> None:
        """`module`: the library of the maker; `token`: its label. Asks nothing yet."""
        try:
            import pkcs11  # noqa: PLC0415 (an extra: only who uses it has it)
        except ImportError:
            raise ConfigError("key_service = pkcs11 needs its extra: pip install 'profile-vault[pkcs11]'") from None
        if not module.is_file():
            raise ConfigError(f"pkcs11_module names {module}, and there is no such library")
        self._pkcs11 = pkcs11
        self._module, self._token, self._pin_file, self._prefix = module, token, pin_file, prefix
        self._turn = threading.Lock()
        self._session: Any = None
        self._refused_pin: tuple[int, int] | None = None  # the file whose PIN was wrong: a module counts wrong ones

    @property
    def instant(self) -> bool:
        """It is asked through a library that may wait for its device."""
        return False

    @property
    def fault(self) -> None:
        """Told by the guard around it."""
        return

    @property
    def whole(self) -> bool:
        """True if the token can be written to: who has its PIN may make keys in it."""
        return self._do(lambda session: bool(session.rw))

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """As the protocol says."""
        lock = lock_of(key_name)
        return self._do(lambda session: self._sealed(session, lock, key_name, plaintext))

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """As the protocol says."""
        lock = lock_of(key_name)
        named, body = parse(FORM, sealed)
        version = _version(named, lock)
        if len(body) <= NONCE_BYTES + TAG_BITS // 8:
            raise Unreadable
        return self._do(lambda session: self._opened(session, lock, version, key_name, body))

    def opens(self, key_name: str) -> bool:
        """True if the token holds a key of the lock that decrypts."""
        return self._can(lock_of(key_name), self._pkcs11.Attribute.DECRYPT)

    def seals(self, key_name: str) -> bool:
        """True if it holds one that encrypts."""
        return self._can(lock_of(key_name), self._pkcs11.Attribute.ENCRYPT)

    def outdated(self, sealed: bytes) -> bool:
        """True for a key that has a newer one of its lock beside it."""
        named, _ = parse(FORM, sealed)
        lock = named.rpartition("/")[0]
        return self._do(lambda session: _version(named, lock) < max(self._keys(session, lock), default=0))

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """Makes a first key for each lock without one."""

        def make(session: Any) -> list[str]:
            wanted = [lock for lock in sorted(set(locks)) if not self._keys(session, lock)]
            for lock in wanted:
                self._make(session, lock, 1)
            return wanted

        return self._do(make)

    def renew(self, lock: str) -> None:
        """The next number."""
        self._do(lambda session: self._make(session, lock, max(self._keys(session, lock), default=0) + 1))

    def retire(self, lock: str) -> int:
        """Destroys the objects with lower numbers: gone at once, but for copies that the module's owner made of it."""

        def destroy(session: Any) -> int:
            keys = self._keys(session, lock)
            for version in sorted(keys)[:-1]:
                keys[version].destroy()
            return 0

        return self._do(destroy)

    def close(self) -> None:
        """Ends the session."""
        with self._turn:
            self._close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _label(self, lock: str) -> str:
        return f"{self._prefix}-{lock}"

    def _keys(self, session: Any, lock: str) -> dict[int, Any]:
        kind = self._pkcs11.constants.ObjectClass.SECRET_KEY
        attribute = self._pkcs11.Attribute
        found = session.get_objects({attribute.CLASS: kind, attribute.LABEL: self._label(lock)})
        return {int.from_bytes(key.id, "big"): key for key in found}

    def _make(self, session: Any, lock: str, version: int) -> None:
        if version > MAX_VERSION:
            raise away("has used up the numbers of a lock")
        attribute = self._pkcs11.Attribute
        template = {
            attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.ENCRYPT: True, attribute.DECRYPT: True,
            attribute.WRAP: False, attribute.UNWRAP: False, attribute.SIGN: False, attribute.VERIFY: False,
        }  # fmt: skip
        session.generate_key(
            self._pkcs11.KeyType.AES,
            256,
            label=self._label(lock),
            id=version.to_bytes(2, "big"),
            store=True,
            template=template,
        )

    def _sealed(self, session: Any, lock: str, key_name: str, plaintext: bytes) -> bytes:
        keys = self._keys(session, lock)
        if not keys:
            raise missing(self._label(lock))
        version = max(keys)
        nonce = random_bytes(NONCE_BYTES)
        made = keys[version].encrypt(plaintext, **self._gcm(nonce, key_name))
        return pack(FORM, f"{lock}/{version}", nonce + bytes(made))

    def _opened(self, session: Any, lock: str, version: int, key_name: str, body: bytes) -> bytes:
        key = self._keys(session, lock).get(version)
        if key is None:
            raise refused()
        try:
            return bytes(key.decrypt(body[NONCE_BYTES:], **self._gcm(body[:NONCE_BYTES], key_name)))
        except (self._pkcs11.exceptions.EncryptedDataInvalid, self._pkcs11.exceptions.EncryptedDataLenRange):
            raise Unreadable from None
        except (self._pkcs11.exceptions.GeneralError, self._pkcs11.exceptions.FunctionFailed):
            # Some modules (SoftHSM) have one code for a wrong tag and for a fault of their own: one that still works
            # has judged the bytes.
            nonce = random_bytes(NONCE_BYTES)
            probe = key.encrypt(_PROBE, **self._gcm(nonce, key_name))
            if bytes(key.decrypt(bytes(probe), **self._gcm(nonce, key_name))) != _PROBE:
                raise
            raise Unreadable from None

    def _gcm(self, nonce: bytes, key_name: str) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce, context_of(FORM, key_name), TAG_BITS)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    def _can(self, lock: str, attribute: Any) -> bool:
        return self._do(lambda session: any(bool(key[attribute]) for key in self._keys(session, lock).values()))

    def _do(self, work: Callable[[Any], _Answer]) -> _Answer:
        """`work` with the session, one at a time; once more with a new one, where the module lost it."""
        faults = self._pkcs11.exceptions
        lost = (
            faults.SessionHandleInvalid, faults.SessionClosed, faults.UserNotLoggedIn, faults.KeyHandleInvalid,
            faults.ObjectHandleInvalid, faults.DeviceRemoved, faults.TokenNotPresent,
        )  # fmt: skip
        with self._turn:
            try:
                try:
                    return work(self._open())
                except lost:
                    self._close()
                    return work(self._open())
            except self._pkcs11.exceptions.PKCS11Error as error:
                self._close()
                raise self._judged(type(error).__name__) from None

    def _open(self) -> Any:
        if self._session is None:
            pin, mark = self._pin()
            if mark == self._refused_pin:
                raise self._judged("PinIncorrect")
            token = self._found()
            try:
                self._session = token.open(rw=True, user_pin=pin)
            except self._pkcs11.exceptions.UserAlreadyLoggedIn:  # this process is, by another session
                self._session = token.open(rw=True)
            except self._pkcs11.exceptions.TokenWriteProtected:
                self._session = token.open(rw=False, user_pin=pin)
            except (self._pkcs11.exceptions.PinIncorrect, self._pkcs11.exceptions.PinInvalid):
                self._refused_pin = mark
                raise
        return self._session

    def _found(self) -> Any:
        library = self._pkcs11.lib(str(self._module))
        try:
            return library.get_token(token_label=self._token)
        except self._pkcs11.exceptions.NoSuchToken:
            library.reinitialize()  # a module looks for its tokens when it is started
            return library.get_token(token_label=self._token)

    def _pin(self) -> tuple[str, tuple[int, int]]:
        """The PIN, and which writing of its file it is from."""
        try:
            status = self._pin_file.stat()
            pin = durable.read_private(self._pin_file, MAX_PIN_BYTES).decode("utf-8").strip()
        except (FileNotFoundError, Unreadable, UnicodeDecodeError):
            raise ConfigError("the file that pkcs11_pin_file names holds no PIN") from None
        return pin, (status.st_mtime_ns, status.st_ino)

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except self._pkcs11.exceptions.PKCS11Error:
                return  # it is gone already

    def _judged(self, kind: str) -> Unavailable:
        if kind.startswith("Pin"):
            return away("does not take the PIN of pkcs11_pin_file; a wrong one tried often locks the token")
        if kind in {"NoSuchToken", "TokenNotPresent", "DeviceRemoved", "TokenNotRecognised"}:
            return away("has no token of the label that pkcs11_token names; plug it in, or start its service")
        if kind in {"KeyFunctionNotPermitted", "SessionReadOnly", "TokenWriteProtected", "FunctionRejected"}:
            return refused()
        return away(f"failed ({kind})")

    def __repr__(self) -> str:
        return "Pkcs11KeyService(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key service does not leave its process")


def _version(named: str, lock: str) -> int:
    """The number of a key of this lock. Raises `Unreadable` for another lock's."""
    front, _, digits = named.rpartition("/")
    if front != lock or not digits.isascii() or not digits.isdigit() or not 0 < int(digits) <= MAX_VERSION:
        raise Unreadable
    return int(digits)
