"""The keyed tags of an identifier: the one that finds a person, and the one that stays when the person is erased.

Two keys, so that neither tells of the other: a tombstone cannot be looked up in `identity`, nor an old copy of `identity`
in the tombstones. Holds no identifier; `normal` is the normal form that `identity.identifiers.normalise` made.
"""

from typing import Final

from vault.crypto.blind import Tagger, retag
from vault.crypto.mac import Code, same_code
from vault.errors import Unavailable
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.storage.session import Raw

_FINDS: Final = "identity/1"
_TOMBSTONE: Final = "tombstone/1"
_ACCOUNT: Final = "account/1"
_POINTS: Final = "identity-row/1"

POINTER_BYTES: Final = (
    12  # forging is tried online, a row and a message each: 96 bits, and rows stay within their 72 bytes
)


class Pointers:
    """Vouches that it was this vault which pointed a tag at a subject: a row of `identity` decides whose a message is."""

    __slots__ = ("_code",)

    def __init__(self, key: bytes) -> None:
        """The key named `rows`."""
        self._code = Code(key, _POINTS)

    def make(self, tag: bytes, subject: bytes) -> bytes:
        """The code of a row; `subject` is the 16 bytes of its id."""
        return self._code.make(tag, subject)[:POINTER_BYTES]

    def hold(self, tag: bytes, subject: bytes, code: bytes | None) -> bool:
        """Is this row one of ours?"""
        return code is not None and same_code(code, self.make(tag, subject))


def identity_tag(keyring: Keyring, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the index key of the kind: the key of `identity` and `identifier` rows."""
    return finder(keyring, kind_name).tag(normal)


def finder(keyring: Keyring, kind_name: str) -> Tagger:
    """Makes `identity_tag` of many identifiers of one kind."""
    first, *later = keyring.every(names.index(kind_name))
    return Tagger(first, _FINDS, kind_name.encode(), later=later)


def account_tag(index_key: bytes, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the index key of the kind that names accounts: the key of `membership` rows. Finds no person."""
    return Tagger(index_key, _ACCOUNT, kind_name.encode()).tag(normal)


def tombstone_tag(keyring: Keyring, kind_name: str, normal: bytes) -> bytes:
    """16 bytes under the tombstone key: the key of a `tombstone` row."""
    return burier(keyring, kind_name).tag(normal)


def burier(keyring: Keyring, kind_name: str) -> Tagger:
    """Makes `tombstone_tag` of many identifiers of one kind."""
    first, *later = keyring.every(names.TOMBSTONE)
    return Tagger(first, _TOMBSTONE, kind_name.encode(), later=later)


def newest_tombstone_tag(keyring: Keyring, tag: bytes, version: int) -> bytes:
    """A tombstone's tag as it is made now, of one that was made when that version of the key was the newest."""
    for key in keyring.every(names.TOMBSTONE, after=version):
        tag = retag(key, tag)
    return tag


_TURNED: Final = "SELECT max(turn) > $1 FROM keys.epoch"


async def check_turn(connection: Raw, turn: int) -> None:
    """For who found nobody by a tag: raises `Unavailable` if tags are made with newer keys than at `turn` (ADR 0108)."""
    if await connection.fetchval(_TURNED, turn):
        raise Unavailable("The keys of lookups were rotated just now; ask again.")
