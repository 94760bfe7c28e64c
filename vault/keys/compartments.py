"""A subject's wrapped data keys: read, made, opened, and taken away purpose by purpose. Bytes: docs/formats/wraps.md.

Promises: a wrap opens only with the key of its purpose and epoch, for its subject and its place (threats A13, A22); all
wraps of a compartment give one data key (A21); taking one away leaves the others byte for byte. The key derived from an
epoch key and a subject lives for one `Opener`, and an `Opener` lives for one journey.

Must not know what a field is, nor a database: a row of wraps comes in as bytes and goes out as bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn
from uuid import UUID

from vault.catalogue.numbers import RIGHTS, bits
from vault.crypto.aead import Aead
from vault.crypto.wrap import COMMITMENT_BYTES, WRAP_BYTES, WrappingKey, keys_of, place_of, unwrap, wrap, wrapping_key
from vault.errors import Unreadable
from vault.ids import random_bytes
from vault.keys.keyring import Keyring

if TYPE_CHECKING:
    from vault.keys.kept import Kept

FORMAT: Final = 2
ID_BYTES: Final = 16
DATA_KEY_BYTES: Final = 32
MAX_GENERATION: Final = 2**15 - 1  # the column is a PostgreSQL smallint
MAX_ROW_BYTES: Final = 1 << 20  # some 300 compartments of 60 purposes; real rows stay under a few kilobytes

HEAD: Final = struct.Struct(f">{ID_BYTES}sQH{COMMITMENT_BYTES}sB")
WRAP: Final = struct.Struct(f">BH{WRAP_BYTES}s")


class Wrap(NamedTuple):
    """A data key sealed for one purpose in one epoch."""

    purpose: int
    epoch: int
    blob: bytes


class Wrapped(NamedTuple):
    """A compartment as stored. `purposes` is the set it was collected for, and stays when a wrap is taken away."""

    compartment_id: bytes
    purposes: int
    generation: int
    commitment: bytes
    wraps: tuple[Wrap, ...]

    @property
    def held(self) -> int:
        """Mask of the purposes that still have a wrap; `rights` is no bit."""
        mask = 0
        for wrapped in self.wraps:
            if wrapped.purpose != RIGHTS:
                mask |= 1 << wrapped.purpose
        return mask

    @property
    def whole(self) -> bool:
        """True while no wrap was taken away: only then may the compartment take new values."""
        return self.held == self.purposes


class Compartment:
    """An opened compartment: the cipher of its fields, and what they are bound to. Cannot be pickled or copied."""

    __slots__ = (
        "aead",
        "commitment",
        "compartment_id",
        "event_place",
        "field_place",
        "generation",
        "purposes",
        "subject",
    )

    def __init__(self, subject: UUID, wrapped: "Wrapped | Kept", field_key: bytes) -> None:
        """Made by `Opener` and `open_each` alone."""
        self.subject = subject
        self.compartment_id, self.purposes, self.generation, self.commitment = wrapped[:4]
        self.aead = Aead(field_key)
        self.field_place = self.event_place = b""  # what `sealing` binds values to, once it made it

    def __repr__(self) -> str:
        return f"Compartment(purposes={self.purposes:#x}, generation={self.generation})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an opened compartment does not leave its process; send the wrapped one")


_as_wrap: Final = partial(tuple.__new__, Wrap)  # `Wrap._make` without a Python call for each wrap

# --- the row --------------------------------------------------------------------------------------------------------


def parse_wraps(row: bytes) -> tuple[Wrapped, ...]:
    """The compartments of a row. Raises `Unreadable` unless `pack_wraps` could have made exactly these bytes."""
    end = len(row)
    if not 0 < end <= MAX_ROW_BYTES or row[0] != FORMAT:
        raise Unreadable
    found: list[Wrapped] = []
    offset = 1
    while offset < end:
        body = offset + HEAD.size
        if body > end:
            raise Unreadable
        compartment_id, purposes, generation, commitment, count = HEAD.unpack_from(row, offset)
        offset = body + count * WRAP.size
        if offset > end:
            raise Unreadable
        wraps = tuple(map(_as_wrap, WRAP.iter_unpack(row[body:offset])))
        found.append(Wrapped(compartment_id, purposes, generation, commitment, wraps))
    _check(found)
    return tuple(found)


def pack_wraps(compartments: Iterable[Wrapped]) -> bytes:
    """The row of these compartments, in their order. Raises `Unreadable` for what `parse_wraps` would not take."""
    kept = list(compartments)
    _check(kept)
    if any(not _sized(one) for one in kept):
        raise Unreadable  # `struct` would pad or cut them without a word
    parts = [bytes((FORMAT,))]
    for one in kept:
        parts.append(HEAD.pack(*one[:4], len(one.wraps)))
        parts.extend(WRAP.pack(*wrapped) for wrapped in one.wraps)
    return b"".join(parts)


def _sized(one: Wrapped) -> bool:
    return (
        len(one.compartment_id) == ID_BYTES
        and len(one.commitment) == COMMITMENT_BYTES
        and all(len(wrapped.blob) == WRAP_BYTES for wrapped in one.wraps)
    )


def _check(compartments: Sequence[Wrapped]) -> None:
    """One form for one meaning: ids and places once; wraps ascend by purpose, are of the set, and end with `rights`."""
    count = len(compartments)
    if count > 1 and len({one.compartment_id for one in compartments}) != count:
        raise Unreadable
    if (
        count > 1 and len({one[1:3] for one in compartments}) != count
    ):  # (purposes, generation) is the key of its values
        raise Unreadable
    for one in compartments:
        purposes = next(zip(*one.wraps, strict=True), ())
        if one.generation > MAX_GENERATION or not one_form(one.purposes, purposes):
            raise Unreadable


@lru_cache(maxsize=4096)  # sets of purposes come from the policies: a few dozen serve everyone
def one_form(mask: int, purposes: tuple[int, ...]) -> bool:
    """Do wraps for these purposes stand in a compartment of these purposes as `pack_wraps` writes them?"""
    if mask >> RIGHTS or not purposes or purposes[-1] != RIGHTS:
        return False
    ascending = all(low < high for low, high in pairwise(purposes))
    return ascending and all(mask >> purpose & 1 for purpose in purposes[:-1])


def without(compartments: Iterable[Wrapped], mask: int) -> tuple[tuple[Wrapped, ...], tuple[tuple[bytes, int], ...]]:
    """What is left when the wraps of the purposes in `mask` go, and (compartment id, purpose) of each wrap that went.

    A compartment that loses its last purpose goes whole, its `rights` wrap too. One that was made without purposes stays.
    """
    left: list[Wrapped] = []
    removed: list[tuple[bytes, int]] = []
    for one in compartments:
        if not one.held & mask:
            left.append(one)
            continue
        stays = tuple(w for w in one.wraps if w.purpose == RIGHTS or not mask >> w.purpose & 1)
        if stays[0].purpose == RIGHTS:
            stays = ()
        else:
            left.append(one._replace(wraps=stays))
        kept = {w.purpose for w in stays}
        removed.extend((one.compartment_id, w.purpose) for w in one.wraps if w.purpose not in kept)
    return tuple(left), tuple(removed)


def newest_wraps(row: bytes, other: bytes) -> bytes:
    """`row` with those wraps of `other` that are of a later epoch: of the same compartment, subject and purpose.

    Which wraps there are stays as it is. Raises `Unreadable` for rows that cannot be parsed.
    """
    later = {
        (one.compartment_id, one.commitment, wrapped.purpose): wrapped
        for one in parse_wraps(other)
        for wrapped in one.wraps
    }
    made = []
    for one in parse_wraps(row):
        wraps = (
            max(wrapped, later.get((one.compartment_id, one.commitment, wrapped.purpose), wrapped), key=_epoch)
            for wrapped in one.wraps
        )
        made.append(one._replace(wraps=tuple(wraps)))
    return pack_wraps(made)


def _epoch(wrapped: Wrap) -> int:
    return wrapped.epoch


# --- opening --------------------------------------------------------------------------------------------------------


class Opener:
    """Opens and makes compartments of one subject within one journey; derives a purpose's wrapping key once."""

    __slots__ = ("_bytes", "_ciphers", "_keyring", "_subject")

    def __init__(self, keyring: Keyring, subject: UUID) -> None:
        """Nothing is fetched or derived until a compartment asks for it."""
        self._keyring = keyring
        self._subject = subject
        self._bytes = subject.bytes
        self._ciphers: dict[tuple[int, int], WrappingKey] = {}

    def create(self, purposes: int, generation: int) -> tuple[Wrapped, Compartment]:
        """A new compartment, wrapped for each of its purposes and for `rights`. No purposes: for `rights` alone.

        Raises `Unavailable` if the key of one of its purposes is not held here.
        """
        if purposes < 0 or purposes >> RIGHTS or not 0 <= generation <= MAX_GENERATION:
            raise ValueError("not a set of purposes, or not a generation")
        data_key = random_bytes(DATA_KEY_BYTES)
        compartment_id = random_bytes(ID_BYTES)
        place = place_of(compartment_id, self._bytes, purposes, generation)
        field_key, commitment = keys_of(data_key, place)
        wraps = []
        for purpose in (*bits(purposes), RIGHTS):
            epoch, epoch_key = self._keyring.epoch(purpose)
            cipher = self._ciphers.get((purpose, epoch)) or self._derive(epoch_key, purpose, epoch)
            wraps.append(Wrap(purpose, epoch, wrap(cipher, data_key, place, commitment, purpose, epoch)))
        wrapped = Wrapped(compartment_id, purposes, generation, commitment, tuple(wraps))
        return wrapped, Compartment(self._subject, wrapped, field_key)

    def open(self, wrapped: Wrapped, purpose: int) -> Compartment:
        """The compartment, opened for `purpose` (which may be RIGHTS).

        Raises `Unreadable` if it has no such wrap or the wrap is not of this place; `Unavailable` if the key of the
        purpose is not held here. No other key is ever tried (threats A14).
        """
        for one in wrapped.wraps:
            if one.purpose == purpose:
                return self._unwrap(wrapped, *one)
        raise Unreadable

    def way_into(self, wrapped: Wrapped) -> int | None:
        """The first purpose, or RIGHTS, whose wrap this process can open; None if it can open none."""
        return next((one.purpose for one in wrapped.wraps if self._keyring.holds(one.purpose, one.epoch)), None)

    def open_any(self, wrapped: Wrapped) -> Compartment:
        """The compartment, opened by `way_into`. Raises `Unreadable` if there is none."""
        purpose = self.way_into(wrapped)
        if purpose is None:
            raise Unreadable
        return self.open(wrapped, purpose)

    def _unwrap(self, wrapped: Wrapped, purpose: int, epoch: int, blob: bytes) -> Compartment:
        cipher = self._ciphers.get((purpose, epoch))
        if cipher is None:
            cipher = self._derive(self._keyring.epoch_key(purpose, epoch), purpose, epoch)
        compartment_id, purposes, generation, commitment = wrapped[:4]
        place = place_of(compartment_id, self._bytes, purposes, generation)
        return Compartment(self._subject, wrapped, unwrap(cipher, blob, place, commitment, purpose, epoch))

    def _derive(self, epoch_key: bytes, purpose: int, epoch: int) -> WrappingKey:
        cipher = wrapping_key(epoch_key, self._bytes, purpose, epoch)
        self._ciphers[purpose, epoch] = cipher
        return cipher

    def __repr__(self) -> str:
        return "Opener(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("derived keys do not leave their process")


def create(keyring: Keyring, subject: UUID, purposes: int, generation: int) -> tuple[Wrapped, Compartment]:
    """`Opener.create`, for one compartment."""
    return Opener(keyring, subject).create(purposes, generation)


def open_compartment(keyring: Keyring, subject: UUID, wrapped: Wrapped, purpose: int) -> Compartment:
    """`Opener.open`, for one compartment."""
    return Opener(keyring, subject).open(wrapped, purpose)


def purposes_with_wraps(compartments: Iterable[Wrapped]) -> int:
    """Mask of the purposes that still open something of the subject."""
    mask = 0
    for one in compartments:
        mask |= one.held
    return mask


def holdings_of(compartments: Iterable[Wrapped]) -> list[tuple[bytes, int, int, int]]:
    """What the state row vouches for: (compartment id, purposes, generation, purposes held) of each compartment."""
    return [(one.compartment_id, one.purposes, one.generation, one.held) for one in compartments]


def newest(compartments: Iterable[Wrapped], purposes: int) -> Wrapped | None:
    """The compartment of exactly this set that takes new values: the highest generation, if no wrap was taken away."""
    last = max((one for one in compartments if one.purposes == purposes), key=lambda one: one.generation, default=None)
    return last if last is not None and last.whole else None


def next_generation(compartments: Iterable[Wrapped], marked: Iterable[int], purposes: int) -> int:
    """The generation of a new compartment of this set: above every one that has wraps or is `marked` in the state."""
    known = [one.generation for one in compartments if one.purposes == purposes]
    return max([*known, *marked], default=0) + 1
