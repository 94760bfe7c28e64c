"""The names under which recipients know a person or a value: 128 bits under a key, another one for every destination.

Promises: the same for the same destination for as long as the key lives; two destinations cannot join by them, nor can
anyone go back from one without the key (threats H4). The root's subject id itself never leaves. A person's name is a
keyed permutation of the root, so that the vault can read the names in a recipient's reports without keeping a list.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from vault.crypto.blind import tag
from vault.crypto.derive import derive
from vault.crypto.permute import BLOCK_BYTES, permute, restore

_PERSON: Final = "pseudonym/person"
_VALUE: Final = "pseudonym/value"
_DESTINATION: Final = struct.Struct(">I")
_OBJECT: Final = struct.Struct(">IH")
_LETTERS: Final = 26  # 128 bits in base 32
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple([high + low for high in _ALPHABET for low in _ALPHABET])
_SHIFTS: Final = range(120, -1, -10)


def person_key(key: bytes, destination: int) -> bytes:
    """The key of a destination's names for people. `key` is the vault's pseudonym key."""
    return derive(key, _PERSON, _DESTINATION.pack(destination))


def pseudonym(destination_key: bytes, root: UUID) -> str:
    """The id of a profile at one destination: 26 lower-case letters and digits. The key comes from `person_key`."""
    return _text(permute(destination_key, root.bytes))


def pseudonyms(destination_key: bytes, roots: Sequence[UUID]) -> list[str]:
    """`pseudonym` of each, in order; for pages."""
    if not roots:
        return []
    blocks = permute(destination_key, b"".join([root.bytes for root in roots]))
    return [_text(blocks[at : at + BLOCK_BYTES]) for at in range(0, len(blocks), BLOCK_BYTES)]


def root_of(destination_key: bytes, name: str) -> UUID | None:
    """The root that `pseudonym` was given; None for text that is no name. An invented name gives a root that nobody has."""
    if len(name) != _LETTERS or not name.isascii():
        return None
    try:
        block = base64.b32decode(name.upper() + "=" * (-len(name) % 8))
    except (binascii.Error, ValueError):
        return None
    if len(block) != BLOCK_BYTES or _text(block) != name:
        return None
    return UUID(bytes=restore(destination_key, block))


def value_pseudonym(key: bytes, destination: int, number: int, value: bytes) -> str:
    """A stand-in for one value of one object at one destination: equal values have equal stand-ins there, only there."""
    return _text(tag(key, _VALUE, _OBJECT.pack(destination, number), value))


def _text(sixteen: bytes) -> str:
    """Base 32 of RFC 4648 in lower case, without padding: 130 bits, of which the last two are zero. Ten bits a look."""
    bits = int.from_bytes(sixteen, "big") << 2
    return "".join([_PAIRS[bits >> shift & 0x3FF] for shift in _SHIFTS])
