"""The key service of a single machine: one root key in a file of its own, a key derived from it for every key name.

Sealed bytes:  format 1 | nonce 12 | ciphertext and tag, bound to the key name. Docs: docs/formats/keystore.md.
The root key comes from a key file (64 hex digits) or from a passphrase file through Argon2id (RFC 9106). Either file is
outside the data folder, belongs to its reader and is closed to everyone else; an open one is refused, not repaired.
"""

from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault import durable
from vault.crypto import aead
from vault.crypto.derive import KEY_BYTES, derive
from vault.errors import ConfigError, Unreadable
from vault.ids import random_bytes

FORMAT: Final = 1
SALT_BYTES: Final = 16
MIN_PASSPHRASE_BYTES: Final = (
    16  # a sentence, not a word: the file can be guessed at offline by who stole the key store
)
MAX_FILE_BYTES: Final = 4096
# RFC 9106 section 4, second recommended option: 64 MiB, 3 passes, 4 lanes. About 0.2 s, once a start.
ARGON2_KIB: Final = 64 * 1024
ARGON2_PASSES: Final = 3
ARGON2_LANES: Final = 4


class LocalKeyService:
    """Seals under keys derived from one root key. Shows nothing of itself and cannot be pickled."""

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        """`root` is 32 bytes."""
        if len(root) != KEY_BYTES:
            raise ValueError("the root key has 32 bytes")
        self._root = root

    @classmethod
    def from_key_file(cls, path: Path) -> Self:
        """The service of a key file. Raises `ConfigError` if it is missing, open to others, or not 64 hex digits."""
        try:
            root = bytes.fromhex(_read(path).decode("ascii").strip())
        except ValueError:
            root = b""
        if len(root) != KEY_BYTES:
            raise ConfigError("the key file does not hold 64 hex digits; make one with `openssl rand -hex 32`")
        return cls(root)

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

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """`plaintext` sealed under the key of that name."""
        return bytes((FORMAT,)) + aead.seal(self._key(key_name), plaintext, _context(key_name))

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """What was sealed under that name. Raises `Unreadable`."""
        if not sealed or sealed[0] != FORMAT:
            raise Unreadable
        return aead.unseal(self._key(key_name), sealed[1:], _context(key_name))

    def _key(self, key_name: str) -> bytes:
        return derive(self._root, "keyservice/1", key_name.encode())

    def __repr__(self) -> str:
        return "LocalKeyService(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a root key does not leave its process")


def make_key_file(path: Path) -> None:
    """Writes a new random root key, readable by its owner only. Raises FileExistsError rather than replace one."""
    durable.create(path, random_bytes(KEY_BYTES).hex().encode() + b"\n")


def _context(key_name: str) -> bytes:
    return b"keyservice/1|" + key_name.encode()


def _read(path: Path) -> bytes:
    try:
        return durable.read_private(path, MAX_FILE_BYTES)
    except (FileNotFoundError, Unreadable):
        raise ConfigError(f"there is no key or passphrase in {path}; check the path") from None
