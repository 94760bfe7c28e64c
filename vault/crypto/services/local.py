"""The key service of a single machine: one root key in a file of its own, and from it a secret for every lock.

A lock seals the keys of one name, or of one family of names (`lock_of`). Who holds the root key opens all. Who holds a
folder of secrets opens those locks and no others, whatever the code of the process does: the other secrets are not there.
A folder may hold the public half of a lock instead: it seals, and does not open, not even what it sealed.

Sealed bytes begin with their form: 1 under the root key (older releases), 2 under a lock's secret, 3 to a lock's public
half by HPKE (RFC 9180). Docs: docs/formats/keystore.md. The root key comes from a key file (64 hex digits) or from a
passphrase file through Argon2id (RFC 9106). Every such file is outside the data folder, belongs to its reader and is
closed to everyone else; an open one is refused, not repaired.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault import durable
from vault.crypto import aead
from vault.crypto.derive import KEY_BYTES, derive
from vault.crypto.keyservice import context_of, lock_of, refused
from vault.errors import ConfigError, Unreadable
from vault.ids import random_bytes

ROOT_FORM: Final = 1
LOCK_FORM: Final = 2
PUBLIC_FORM: Final = 3
SECRET_FILE: Final = ".secret"  # noqa: S105 (how the name of a lock's secret ends)
PUBLIC_FILE: Final = ".public"  # a lock's public half
SALT_BYTES: Final = 16
MIN_PASSPHRASE_BYTES: Final = (
    16  # a sentence, not a word: the file can be guessed at offline by who stole the key store
)
MAX_FILE_BYTES: Final = 4096
# RFC 9106 section 4, second recommended option: 64 MiB, 3 passes, 4 lanes. About 0.2 s, once a start.
ARGON2_KIB: Final = 64 * 1024
ARGON2_PASSES: Final = 3
ARGON2_LANES: Final = 4
_HPKE: Final = Suite(KEM.X25519, KDF.HKDF_SHA512, AEAD.AES_256_GCM)


class LocalKeyService:
    """Seals under keys derived from one root key, or under those locks whose secrets it was given."""

    __slots__ = ("_publics", "_root", "_secrets")

    def __init__(
        self, root: bytes | None, secrets: Mapping[str, bytes] | None = None, publics: Mapping[str, bytes] | None = None
    ) -> None:
        """`root` is 32 bytes and opens all; None: only the locks of `secrets`, each 32 bytes, open."""
        self._root = root
        self._secrets = dict(secrets or {})
        self._publics = dict(publics or {})
        given = [*self._secrets.values(), *self._publics.values(), *(() if root is None else (root,))]
        if any(len(one) != KEY_BYTES for one in given):
            raise ValueError("a root key, a lock's secret and its public half have 32 bytes each")

    @classmethod
    def from_path(cls, path: Path) -> Self:
        """The service of a key file, or of a folder of secrets. Raises `ConfigError`."""
        return cls.from_folder(path) if path.is_dir() else cls.from_key_file(path)

    @classmethod
    def from_key_file(cls, path: Path) -> Self:
        """The service of a key file. Raises `ConfigError` if it is missing, open to others, or not 64 hex digits."""
        return cls(_read_key(path))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The service of the secrets and public halves in a folder. Raises `ConfigError` as above."""
        secrets = {path.name.removesuffix(SECRET_FILE): _read_key(path) for path in folder.glob(f"*{SECRET_FILE}")}
        publics = {path.name.removesuffix(PUBLIC_FILE): _read_key(path) for path in folder.glob(f"*{PUBLIC_FILE}")}
        if not secrets:
            raise ConfigError(f"{folder} holds no secret; `profile-vault keys hand-out` makes such a folder")
        return cls(None, secrets, publics)

    @staticmethod
    def check_secret(path: Path) -> None:
        """Raises `ConfigError` unless it is one line of 64 hex digits, private."""
        _read_key(path)

    @classmethod
    def from_passphrase_file(cls, path: Path, salt: bytes) -> Self:
        """The service of a passphrase file; `salt` is 16 random bytes kept with the key store. Takes about 0.2 s."""
        passphrase = _read(path).rstrip(b"\r\n")
        if len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise ConfigError(
                f"the passphrase file holds fewer than {MIN_PASSPHRASE_BYTES} bytes; use a whole sentence"
            )
        if len(salt) != SALT_BYTES:
            raise ValueError("a salt has 16 bytes")
        kdf = Argon2id(
            salt=salt, length=KEY_BYTES, iterations=ARGON2_PASSES, lanes=ARGON2_LANES, memory_cost=ARGON2_KIB
        )
        return cls(kdf.derive(passphrase))

    @property
    def instant(self) -> bool:
        """It answers from memory."""
        return True

    @property
    def fault(self) -> None:
        """Nothing can be away."""
        return

    @property
    def whole(self) -> bool:
        """True with the root key: nothing is closed to this process."""
        return self._root is not None

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """`plaintext` sealed under the lock of that name. Raises `Unavailable` if this process has no part of it."""
        secret = self._secret(key_name)
        if secret is not None:
            key = derive(secret, "keyservice/2", key_name.encode())
            return bytes((LOCK_FORM,)) + aead.seal(key, plaintext, context_of(LOCK_FORM, key_name))
        public = self._publics.get(lock_of(key_name))
        if public is None:
            raise refused()
        recipient = X25519PublicKey.from_public_bytes(public)
        return bytes((PUBLIC_FORM,)) + _HPKE.encrypt(plaintext, recipient, info=context_of(PUBLIC_FORM, key_name))

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """What was sealed under that name. Raises `Unreadable`, and `Unavailable` for a lock that is closed here."""
        form = sealed[0] if sealed else 0
        if form == ROOT_FORM and self._root is not None:
            key = derive(self._root, "keyservice/1", key_name.encode())
            return aead.unseal(key, sealed[1:], context_of(ROOT_FORM, key_name))
        secret = self._secret(key_name)
        if secret is None or form == ROOT_FORM:
            raise refused()
        if form == LOCK_FORM:
            key = derive(secret, "keyservice/2", key_name.encode())
            return aead.unseal(key, sealed[1:], context_of(LOCK_FORM, key_name))
        if form != PUBLIC_FORM:
            raise Unreadable
        try:
            return _HPKE.decrypt(sealed[1:], _private(secret), info=context_of(PUBLIC_FORM, key_name))
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def opens(self, key_name: str) -> bool:
        """True if this process has the secret of the name's lock."""
        return self._root is not None or lock_of(key_name) in self._secrets

    def seals(self, key_name: str) -> bool:
        """True if it has the secret or the public half."""
        return self.opens(key_name) or lock_of(key_name) in self._publics

    def outdated(self, sealed: bytes) -> bool:
        """True for what is sealed under the root key itself: no folder of secrets could open it."""
        return sealed[:1] == bytes((ROOT_FORM,))

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """Nothing: a lock's secret follows from the root key. Raises `Unavailable` for a lock that is closed here."""
        if not all(self.seals(lock) for lock in locks):
            raise refused()
        return []

    def renew(self, lock: str) -> None:
        """Nothing: there is one root key, and it has one secret for each lock."""

    def retire(self, lock: str) -> None:
        """None: the root key opens every older epoch that a copy of the key store holds (docs/reference/keys.md)."""

    def close(self) -> None:
        """Nothing: it holds no connection."""

    def hand_out(self, folder: Path, secrets: frozenset[str], publics: frozenset[str]) -> None:
        """Makes `folder` hold just these locks' secrets and public halves. What is there stays as it is.

        Raises `ConfigError` if the folder holds more, or other bytes; `Unavailable` for a lock that is closed here.
        """
        durable.private_folder(folder)
        wanted = {f"{lock}{SECRET_FILE}": self._lock(lock) for lock in secrets}
        wanted |= {
            f"{lock}{PUBLIC_FILE}": _private(self._lock(lock)).public_key().public_bytes_raw() for lock in publics
        }
        strange = sorted({path.name for path in folder.iterdir()} - wanted.keys())
        if strange:
            raise ConfigError(f"{folder} holds what its process may not have: {', '.join(strange)}; remove it")
        for name, key in wanted.items():
            path = folder / name
            if not path.exists():
                durable.create(path, key.hex().encode() + b"\n")
            elif _read_key(path) != key:
                raise ConfigError(f"{path} is of another root key; hand out into an empty folder")

    def _lock(self, lock: str) -> bytes:
        secret = self._secret(lock)
        if secret is None:
            raise refused()
        return secret

    def _secret(self, key_name: str) -> bytes | None:
        """The secret of the name's lock, if this process has it."""
        lock = lock_of(key_name)
        return derive(self._root, "keyservice/2", lock.encode()) if self._root is not None else self._secrets.get(lock)

    def __repr__(self) -> str:
        return "LocalKeyService(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a root key does not leave its process")


def make_key_file(path: Path) -> None:
    """Writes a new random root key, readable by its owner only. Raises FileExistsError rather than replace one."""
    durable.create(path, random_bytes(KEY_BYTES).hex().encode() + b"\n")


def _private(secret: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(derive(secret, "keyservice/3"))


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(_read(path).decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} does not hold 64 hex digits; make one with `openssl rand -hex 32`")
    return key


def _read(path: Path) -> bytes:
    try:
        return durable.read_private(path, MAX_FILE_BYTES)
    except (FileNotFoundError, Unreadable):
        raise ConfigError(f"there is no key or passphrase in {path}; check the path") from None
