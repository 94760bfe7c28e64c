"""The stored fields of one compartment as bytes. Holds where a value came from; never opens it. docs/formats/fields.md.

fields = format u8 | n u8 | n x head | n x sealed value, heads in rising order of field, so that one set of fields has one
form. All integers are big-endian. A parser that finds anything else says `Unreadable` and not why (threats A12).
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from vault.errors import TooLarge, Unreadable

FORMAT: Final = 1
MAX_FIELDS: Final = 0xFF  # `n` is one byte; a web shop's largest set of purposes holds about thirty
MAX_SEALED_BYTES: Final = 0xFFFF  # `length` is two bytes; an event, the only way in, has at most 32 KB
SEAL_BYTES: Final = 28  # nonce 12 and tag 16 around each value
EVENT_KEY_BYTES: Final = 16
EMPTY: Final = bytes((FORMAT, 0))  # a compartment that holds events only

_HEAD: Final = struct.Struct(">HIH16sBQH")
HEAD_BYTES: Final = _HEAD.size
HEADS_FROM: Final = 2
_new: Final = tuple.__new__


class Provenance(NamedTuple):
    """Where a value came from, and how it ranks against another one."""

    source: int  # source.source_id
    event_key: bytes  # 16 bytes: the keyed tag of the message that said it
    authority: int  # a level of the consent ledger: a higher one wins whatever the time
    said_at: int  # microseconds since 1970 UTC, corrected, never later than receipt


class FieldHead(NamedTuple):
    """The directory entry of one field. Everything but `length` is bound into the seal of the value."""

    field: int  # object number: catalogue.numbers
    version: int  # row version of the compartment at which this field was last written
    source: int
    event_key: bytes
    authority: int
    said_at: int
    length: int  # bytes of the sealed value: nonce, ciphertext and tag

    @property
    def provenance(self) -> Provenance:
        """The part that says where the value came from."""
        return Provenance(self.source, self.event_key, self.authority, self.said_at)


_as_head: Final = partial(tuple.__new__, FieldHead)  # `FieldHead._make` without a Python call for each


class Form:
    """Which fields a compartment holds. Few sets serve everyone: what follows from a set is worked out once and kept with it."""

    __slots__ = ("lengths", "numbers", "places")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        """`numbers` are object numbers, rising. Made by `scan_fields` alone, which gives one for each set."""
        self.numbers = numbers
        self.places: Mapping[int, int] = MappingProxyType({field: place for place, field in enumerate(numbers)})
        # the last two bytes of each head
        self.lengths = struct.Struct(">" + f"{HEAD_BYTES - 2}xH" * len(numbers)).unpack_from

    def __repr__(self) -> str:
        return f"Form({len(self.numbers)} fields)"


class Directory(NamedTuple):
    """The stored fields of a compartment, checked and measured, with nothing cut out of them yet."""

    blob: bytes
    form: Form
    starts: list[int]  # where each sealed value begins; the last is where the bytes end

    def head(self, place: int) -> FieldHead:
        """The head at one place."""
        return _as_head(_HEAD.unpack_from(self.blob, HEADS_FROM + place * HEAD_BYTES))

    def entry(self, place: int) -> "Entry":
        """The head and the sealed value at one place."""
        return self.head(place), self.blob[self.starts[place] : self.starts[place + 1]]

    def __repr__(self) -> str:
        return f"Directory({len(self.form.numbers)} fields)"


Entry = tuple[FieldHead, bytes]
"""A field as stored: its head and its sealed value."""


def scan_fields(blob: bytes) -> Directory:
    """What a compartment's bytes hold and where. Raises `Unreadable` unless `pack_fields` could have made them.

    The feed spends its time here: no loop of Python's own over the heads, and which fields a compartment holds (few sets
    serve everyone) is checked once a set.
    """
    size = len(blob)
    if size < HEADS_FROM or blob[0] != FORMAT:
        raise Unreadable
    at = HEADS_FROM + blob[1] * HEAD_BYTES
    if size < at:
        raise Unreadable
    form = _form(blob[HEADS_FROM:at:HEAD_BYTES], blob[HEADS_FROM + 1 : at : HEAD_BYTES])
    lengths = form.lengths(blob, HEADS_FROM)
    starts = [*accumulate(lengths, initial=at)]
    if starts[-1] != size or (lengths and min(lengths) < SEAL_BYTES):
        raise Unreadable
    return _new(Directory, (blob, form, starts))


@lru_cache(maxsize=4096)
def _form(high: bytes, low: bytes) -> Form:
    """The form of a directory, from the bytes of its object numbers; refused unless they rise."""
    numbers = tuple([upper << 8 | lower for upper, lower in zip(high, low, strict=True)])
    if any(a >= b for a, b in pairwise(numbers)):
        raise Unreadable
    return Form(numbers)


def parse_fields(blob: bytes) -> tuple[tuple[FieldHead, ...], tuple[bytes, ...]]:
    """The heads and the sealed values of a compartment, in the same order. Raises `Unreadable`."""
    _, _, starts = scan_fields(blob)
    heads = map(_as_head, _HEAD.iter_unpack(blob[HEADS_FROM : starts[0]]))
    return tuple(heads), tuple([blob[a:b] for a, b in pairwise(starts)])


def pack_fields(fields: Iterable[tuple[FieldHead, bytes]]) -> bytes:
    """The bytes of a compartment's fields. Raises `TooLarge` over 255 fields, ValueError when a field comes twice."""
    ordered = sorted(fields, key=_by_field)
    if len(ordered) > MAX_FIELDS:
        raise TooLarge("A set of purposes holds at most 255 fields of one person.", code="too_many_fields")
    if len({head.field for head, _ in ordered}) != len(ordered):
        raise ValueError("one field twice in one compartment")
    if any(head.length != len(value) for head, value in ordered):
        raise ValueError("a head that tells another length than its value")
    parts = [bytes((FORMAT, len(ordered)))]
    parts += [_HEAD.pack(*head) for head, _ in ordered]
    parts += [value for _, value in ordered]
    return b"".join(parts)


def splice(stored: Directory, changes: Mapping[int, Entry | None]) -> Directory:
    """What is stored once these fields are set, or taken out where None stands: the bytes that `pack_fields` makes of all.

    What did not change is copied in stretches. Raises as `pack_fields`.
    """
    blob, form, starts = stored
    numbers = form.numbers
    heads: list[bytes] = [b""]
    values: list[bytes] = []
    count, at = len(numbers), 0
    lengths: list[tuple[int, int]] | None = []  # (place, how much longer) of values replaced; None if the fields differ
    for field in sorted(changes):
        place = bisect_left(numbers, field, at)
        heads.append(blob[HEADS_FROM + at * HEAD_BYTES : HEADS_FROM + place * HEAD_BYTES])
        values.append(blob[starts[at] : starts[place]])
        at = place
        there = place < len(numbers) and numbers[place] == field
        entry = changes[field]
        if entry is not None:
            head, value = entry
            if head[0] != field or head[6] != len(value):
                raise ValueError("a head that tells another field or length than its value")
            heads.append(_HEAD.pack(*head))
            values.append(value)
        if there:
            at += 1
        if there and entry is not None:
            if lengths is not None and len(entry[1]) != starts[at] - starts[place]:
                lengths.append((at, len(entry[1]) - starts[at] + starts[place]))
        else:
            lengths = None
            count += (entry is not None) - there
    if count > MAX_FIELDS:
        raise TooLarge("A set of purposes holds at most 255 fields of one person.", code="too_many_fields")
    heads[0] = bytes((FORMAT, count))
    heads.append(blob[HEADS_FROM + at * HEAD_BYTES : starts[0]])
    values.append(blob[starts[at] :])
    made = b"".join(heads + values)
    if lengths is None:
        return scan_fields(made)
    for place, longer in lengths:
        starts = [*starts[:place], *[start + longer for start in starts[place:]]]
    return _new(Directory, (made, form, starts))


def _by_field(entry: tuple[FieldHead, bytes]) -> int:
    return entry[0].field
