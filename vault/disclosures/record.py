"""What left: one record a profile and page, and what a recipient holds now. Numbers only, no value. docs/formats/disclosure.md.

detail = format u8 | n u8 | n x (purpose u8 | basis u8 | ledger u32 | m u16 | m x (object u16 | transform u16)); objects
rise within a purpose, purposes rise. held = objects rising, u16 each. All integers are big-endian. Kept for as long as
the person is: each value of a number means the same for ever.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from vault.errors import Unreadable

FORMAT: Final = 1
MAX_PURPOSES: Final = 63  # purposes 0 to 62; the rights desk discloses to the person, who is no recipient

_PURPOSE: Final = struct.Struct(">BBIH")
_ITEM: Final = struct.Struct(">HH")
_FRONT: Final = tuple([bytes((FORMAT, count)) for count in range(MAX_PURPOSES + 1)])


class Basis(IntEnum):
    """The legal basis on which a value left: the letters of GDPR Art. 6(1), a is 1. Named as in purposes.toml."""

    CONSENT = 1
    CONTRACT = 2
    LEGAL_OBLIGATION = 3
    VITAL_INTERESTS = 4
    PUBLIC_TASK = 5
    LEGITIMATE_INTERESTS = 6

    @classmethod
    def named(cls, name: str) -> "Basis":
        """The basis with the name that purposes.toml uses. Raises KeyError for another word."""
        return cls[name.upper()]

    @property
    def title(self) -> str:
        """The name as in purposes.toml."""
        return self.name.lower()


class Released(NamedTuple):
    """What left for one purpose."""

    purpose: int
    basis: int  # Basis
    ledger: int  # length of the root's ledger when it was decided: the permission rests on its first so many entries
    items: tuple[tuple[int, int], ...]  # (object number, transform number: destinations.transform)


def pack_detail(released: Iterable[Released]) -> bytes:
    """The bytes of a disclosure record. The same disclosure gives the same bytes."""
    return join_detail(
        [(purpose, basis, ledger, pack_items(items)) for purpose, basis, ledger, items in sorted(released)]
    )


def join_detail(parts: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """As `pack_detail`, of (purpose, basis, ledger, packed items), purposes rising: for who packs the same items often."""
    made = [_FRONT[len(parts)]]
    for purpose, basis, ledger, items in parts:
        made.append(_PURPOSE.pack(purpose, basis, ledger, len(items) // _ITEM.size) + items)
    return b"".join(made)


def pack_items(items: Iterable[tuple[int, int]]) -> bytes:
    """(object, transform) pairs as a record holds them."""
    return b"".join([_ITEM.pack(*item) for item in sorted(items)])


def parse_detail(blob: bytes) -> tuple[Released, ...]:
    """What left. Raises `Unreadable` for bytes that `pack_detail` would not have made."""
    if len(blob) < 2 or blob[0] != FORMAT:
        raise Unreadable
    found: list[Released] = []
    at = 2
    for _ in range(blob[1]):
        if at + _PURPOSE.size > len(blob):
            raise Unreadable
        purpose, basis, ledger, count = _PURPOSE.unpack_from(blob, at)
        at += _PURPOSE.size
        end = at + count * _ITEM.size
        if end > len(blob):
            raise Unreadable
        items = tuple(_ITEM.iter_unpack(blob[at:end]))
        if basis not in _BASES or purpose >= MAX_PURPOSES or not _rising([item[0] for item in items]):
            raise Unreadable
        found.append(Released(purpose, basis, ledger, items))
        at = end
    if at != len(blob) or not _rising([one.purpose for one in found]):
        raise Unreadable
    return tuple(found)


_BASES: Final = frozenset(int(basis) for basis in Basis)


def objects_of(released: Iterable[Released]) -> frozenset[int]:
    """The object numbers that left, whatever the purpose."""
    return frozenset(number for one in released for number, _ in one.items)


@lru_cache(maxsize=4096)
def pack_objects(objects: frozenset[int]) -> bytes:
    """Object numbers as stored: rising, two bytes each."""
    ordered = sorted(objects)
    return struct.pack(f">{len(ordered)}H", *ordered)


@lru_cache(maxsize=4096)
def parse_objects(blob: bytes) -> frozenset[int]:
    """The object numbers of a stored set. Raises `Unreadable`."""
    if len(blob) % 2:
        raise Unreadable
    numbers = struct.unpack(f">{len(blob) // 2}H", blob)
    if not _rising(numbers):
        raise Unreadable
    return frozenset(numbers)


def _rising(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))
