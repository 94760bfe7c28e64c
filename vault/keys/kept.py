"""Compartments as they stand in a row of wraps, for who opens a few of many people: scanned, and opened for one purpose each.

Promises what `compartments` does: what `parse_wraps` refuses is refused, and what `Opener` would not open stays shut. A thousand
rows a page go through here, so rows are not cut up, and each step is done for all before the next (ADR 0087).
"""

import struct
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final, NamedTuple
from uuid import UUID

from vault.catalogue.numbers import RIGHTS
from vault.crypto.keyservice import LATER
from vault.crypto.wrap import WrappingKey, place_of, unwrap, wrapping_key
from vault.errors import Unavailable, Unreadable
from vault.keys.compartments import FORMAT, HEAD, MAX_GENERATION, MAX_ROW_BYTES, WRAP, Compartment, one_form
from vault.keys.keyring import Keyring

_PLACE_BYTES: Final = 26  # the front of a head: id, purposes, generation
_MASK: Final = struct.Struct(">Q")
_HEAD_BYTES: Final = HEAD.size
_WRAP_BYTES: Final = WRAP.size
_read_head: Final = HEAD.unpack_from
_read_wrap: Final = WRAP.unpack_from
_NO_EPOCH: Final = -1


class Kept(NamedTuple):
    """A compartment as it stands in a row of wraps, for a reader who needs at most one of them."""

    compartment_id: bytes
    purposes: int
    generation: int
    commitment: bytes
    held: int  # as `Wrapped.held`
    row: bytes
    at: int  # where its wraps begin in `row`
    names: bytes  # the purposes of its wraps, a byte each, in their order

    def __repr__(self) -> str:
        return f"Kept(purposes={self.purposes:#x}, generation={self.generation})"


_as_kept: Final = partial(tuple.__new__, Kept)


def scan_wraps(row: bytes) -> tuple[dict[tuple[int, int], Kept], list[bytes]]:
    """The compartments of a row by (purposes, generation), their wraps not cut out, for who opens a few of them.

    And of each what the state row vouches for: `state.record.holdings_of`. Refuses exactly what `parse_wraps` refuses.
    """
    end = len(row)
    if not 0 < end <= MAX_ROW_BYTES or row[0] != FORMAT:
        raise Unreadable
    found: dict[tuple[int, int], Kept] = {}
    holdings: list[bytes] = []
    ids = set()
    offset = 1
    while offset < end:
        body = offset + _HEAD_BYTES
        if body > end:
            raise Unreadable
        compartment_id, purposes, generation, commitment, count = _read_head(row, offset)
        after = body + count * _WRAP_BYTES
        if after > end or generation > MAX_GENERATION:
            raise Unreadable
        names = row[body:after:_WRAP_BYTES]
        held, mask = _held(purposes, names)
        found[purposes, generation] = _as_kept(
            (compartment_id, purposes, generation, commitment, held, row, body, names)
        )
        holdings.append(row[offset : offset + _PLACE_BYTES] + mask)
        ids.add(compartment_id)
        offset = after
    if not len(found) == len(ids) == len(holdings):
        raise Unreadable
    return found, holdings


@lru_cache(maxsize=4096)
def _held(purposes: int, names: bytes) -> tuple[int, bytes]:
    """The mask of the purposes that have a wrap, as a number and as bytes; refused unless `one_form`."""
    if not one_form(purposes, tuple(names)):
        raise Unreadable
    held = sum(1 << name for name in names if name != RIGHTS)
    return held, _MASK.pack(held)


class Asked(NamedTuple):
    """One compartment to be opened."""

    subject: UUID
    kept: Kept
    purpose: int


def open_each(keyring: Keyring, asked: Sequence[Asked]) -> list[Compartment | None]:
    """Each compartment opened for its purpose, as `Opener.open`; None where it has no such wrap, or does not open.

    Raises `Unavailable` where no key of a purpose is held here: then nobody is served. A wrap that names an epoch which
    never was is that person's trouble only (threat A14). Step by step over all, since a page asks for a thousand; a wrapping
    key is derived once for all compartments of a person, and lives for this call.
    """
    wraps = [_wrap_of(kept, purpose) for _, kept, purpose in asked]
    places = [place_of(kept[0], subject.bytes, kept[1], kept[2]) for subject, kept, _ in asked]
    ciphers: dict[tuple[bytes, int, int], WrappingKey | None] = {}
    chosen: list[WrappingKey | None] = []
    for (subject, _, _), wrapped in zip(asked, wraps, strict=True):
        at = (subject.bytes, wrapped[0], wrapped[1])
        if at not in ciphers:
            ciphers[at] = _cipher(keyring, *at) if wrapped[2] else None
        chosen.append(ciphers[at])
    keys = [
        _field_key(cipher, wrapped, place, kept[3])
        for cipher, wrapped, place, (_, kept, _) in zip(chosen, wraps, places, asked, strict=True)
    ]
    return [
        Compartment(subject, kept, key) if key is not None else None
        for (subject, kept, _), key in zip(asked, keys, strict=True)
    ]


def _wrap_of(kept: Kept, purpose: int) -> tuple[int, int, bytes]:
    """(purpose, epoch, sealed data key) of the wrap for a purpose; an epoch that cannot be, and nothing, where it has none."""
    index = kept[7].find(purpose)
    return _read_wrap(kept[5], kept[6] + index * _WRAP_BYTES) if index >= 0 else (purpose, _NO_EPOCH, b"")


def _cipher(keyring: Keyring, subject: bytes, purpose: int, epoch: int) -> WrappingKey | None:
    try:
        key = keyring.epoch_key(purpose, epoch)
    except Unavailable as error:
        if error.reason in LATER:
            raise
        keyring.epoch(purpose)  # raises where no key of the purpose is held
        return None
    return wrapping_key(key, subject, purpose, epoch)


def _field_key(
    cipher: WrappingKey | None, wrapped: tuple[int, int, bytes], place: bytes, commitment: bytes
) -> bytes | None:
    if cipher is None:
        return None
    purpose, epoch, blob = wrapped
    try:
        return unwrap(cipher, blob, place, commitment, purpose, epoch)
    except Unreadable:
        return None
