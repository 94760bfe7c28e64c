"""The state row: choices as masks, the link, counts, and the version and digest of every compartment, under one MAC.

Promises: bytes that were edited, made for another subject or cut open no state (threats A20); a row of values that was put
back, moved or taken away does not match its mark (A5, A7, A8). Readers take versions and masks from here and nowhere else.
Not covered: all rows of a subject put back together; that is the sweep's work (`audit verify --state`).

Bytes: docs/formats/state.md. Times are microseconds since 1970 UTC; masks hold a bit per purpose number 0 to 62.
"""

import hashlib
import struct
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from vault.clock import Micros
from vault.crypto.mac import MAC_BYTES, Code
from vault.errors import Unreadable

FORMAT: Final = 1
LABEL: Final = "state/1"
DIGEST_BYTES: Final = 16  # second preimages are what matters, and the MAC covers the digest
HEAD_BYTES: Final = 32
NO_HEAD: Final = bytes(HEAD_BYTES)  # of a ledger without entries
NO_HOLDINGS: Final = bytes(16)  # of a subject without a row of wraps
PURPOSES: Final = 63  # numbers 0 to 62; the highest bit of a mask is never set

_HEAD: Final = struct.Struct(">BHQQQQQB16s16sII32sI16sQBH")  # form | key version | version | granted | refused |
# blocked | objected | flags | root | claimed | members | ledger count | ledger head | keys version | holdings | event count |
# number of expiries | number of marks
_EXPIRY: Final = struct.Struct(">BQ")  # purpose | at
_MARK: Final = struct.Struct(f">QHI{DIGEST_BYTES}s")  # purposes | generation | version | digest
_HEAD_BYTES, _EXPIRY_BYTES, _MARK_BYTES = _HEAD.size, _EXPIRY.size, _MARK.size
_RESTRICTED, _FENCED, _MINOR, _IDENTIFIED, _CLAIMED = 1, 2, 4, 8, 16
_FLAGS: Final = 31
_NOBODY: Final = bytes(16)
_DIGEST_SIZE: Final = frozenset({DIGEST_BYTES})
_HOLDING: Final = struct.Struct(">16sQHQ")  # compartment id | purposes | generation | held
Holding = tuple[bytes, int, int, int]
_KEY_VERSION: Final = struct.Struct(">BH")


class Mark(NamedTuple):
    """The newest bytes of one compartment: what `compartment` must hold for (purposes, generation)."""

    purposes: int
    generation: int
    version: int
    digest: bytes

    def check(self, version: int, fields: bytes) -> None:
        """Raises `Unreadable` unless these are the newest bytes of the compartment."""
        if self.version != version or self.digest != digest(fields):
            raise Unreadable


_as_mark: Final = partial(tuple.__new__, Mark)


class State(msgspec.Struct, frozen=True):
    """What is known of one subject. Made by `fresh` or `Reader`, changed by `msgspec.structs.replace`."""

    subject: UUID
    root: UUID  # of the profile; the subject itself when it is one
    version: int = 0  # of the subject row: 0 before it is first written
    granted: int = 0
    refused: int = 0
    blocked: int = 0  # refused by somebody who merely named this profile; within the grace
    objected: int = 0
    expiries: tuple[tuple[int, Micros], ...] = ()  # (purpose, end) of granted choices that end, ascending by purpose
    restricted: bool = False
    fenced: bool = False  # an erasure has begun: closed to every reader and writer
    minor: bool = False
    identified: bool = False
    claimed: UUID | None = None  # the root that a client source said this one belongs to
    members: int = 0  # links under this root
    ledger_count: int = 0
    ledger_head: bytes = NO_HEAD
    keys_version: int = 0  # of keys.subject_key
    holdings: bytes = NO_HOLDINGS  # which wraps that row has: `holdings`
    event_count: int = 0
    compartments: tuple[Mark, ...] = ()  # ascending by (purposes, generation)

    @property
    def earliest(self) -> Micros | None:
        """The first end of a granted choice, if any ends."""
        return min((at for _, at in self.expiries), default=None)

    @property
    def is_root(self) -> bool:
        """True if the profile is found by this subject."""
        return self.root == self.subject

    def mark_of(self, purposes: int, generation: int) -> Mark | None:
        """The mark of one compartment, if it has values."""
        for mark in self.compartments:
            if mark.generation == generation and mark.purposes == purposes:
                return mark
        return None

    def check_row(self, purposes: int, generation: int, version: int, fields: bytes) -> None:
        """Raises `Unreadable` unless these are the newest bytes of that compartment."""
        mark = self.mark_of(purposes, generation)
        if mark is None:
            raise Unreadable
        mark.check(version, fields)

    def marked(self, changed: "tuple[Mark, ...]", gone: "frozenset[tuple[int, int]]" = frozenset()) -> tuple[Mark, ...]:
        """The marks once the compartments in `changed` are written and those in `gone` (purposes, generation) erased."""
        marks = {(m.purposes, m.generation): m for m in (*self.compartments, *changed)}
        return tuple(marks[at] for at in sorted(marks) if at not in gone)


def fresh(subject: UUID) -> State:
    """A subject of whom nothing is known yet: its own root, version 0, no choice, no compartment."""
    return State(subject=subject, root=subject)


def digest(fields: bytes) -> bytes:
    """The front of SHA-256 over a compartment's bytes as stored."""
    return hashlib.sha256(fields).digest()[:DIGEST_BYTES]


def holdings(compartments: Iterable[Holding]) -> bytes:
    """16 bytes over which wraps a subject's row of wraps has: a row put back from before a withdrawal shows (threats A20).

    Each item is (compartment id, purposes, generation, mask of purposes held). Epochs are not in it, so that a rotation of
    wrapping keys changes no state row.
    """
    parts = [_HOLDING.pack(*one) for one in sorted(compartments)]
    return hashlib.sha256(b"".join(parts)).digest()[:DIGEST_BYTES] if parts else NO_HOLDINGS


def holdings_of(parts: Iterable[bytes]) -> bytes:
    """As `holdings`, of parts that are bytes already: compartment id 16, purposes 8, generation 2, held 8."""
    ordered = sorted(parts)
    return hashlib.sha256(b"".join(ordered)).digest()[:DIGEST_BYTES] if ordered else NO_HOLDINGS


class Writer:
    """Makes state rows under one key, which is made ready once: for a batch of people."""

    __slots__ = ("_code", "_key_version")

    def __init__(self, key: bytes, key_version: int = 1) -> None:
        """The MAC key, and its version."""
        self._code = Code(key, LABEL)
        self._key_version = key_version

    def pack(self, state: State) -> bytes:
        """The bytes of a state. Raises ValueError for a state that cannot be meant."""
        # By place, as `_parsed` makes it: one call instead of twenty looks.
        (
            subject, root, version, granted, refused, blocked, objected, expiries, restricted, fenced, minor, identified,
            claimed, members, ledger_count, ledger_head, keys_version, held, event_count, marks,
        ) = astuple(state)  # fmt: skip
        if not (
            _masks_sound(granted, refused, blocked, objected)
            and _rising(granted, expiries, marks)
            # `struct` would pad or cut them without a word
            and len(ledger_head) == HEAD_BYTES
            and len(held) == DIGEST_BYTES
            and {len(mark[3]) for mark in marks} <= _DIGEST_SIZE
        ):
            raise ValueError("not a state")
        flags = restricted * _RESTRICTED | fenced * _FENCED | minor * _MINOR | identified * _IDENTIFIED
        claims = _NOBODY
        if claimed is not None:
            flags, claims = flags | _CLAIMED, claimed.bytes
            if claims == _NOBODY:
                raise ValueError("not a state")
        name = subject.bytes
        try:
            head = _HEAD.pack(
                FORMAT, self._key_version, version, granted, refused, blocked, objected, flags,
                name if root is subject else root.bytes, claims, members, ledger_count, ledger_head, keys_version, held,
                event_count, len(expiries), len(marks),
            )  # fmt: skip
            body = b"".join([head, *[_EXPIRY.pack(*end) for end in expiries], *[_MARK.pack(*mark) for mark in marks]])
        except struct.error:
            raise ValueError("a number of the state is out of range") from None
        return body + self._code.make(name, body)


def pack(state: State, key: bytes, key_version: int = 1) -> bytes:
    """`Writer.pack`, for one row."""
    return Writer(key, key_version).pack(state)


class Reader:
    """Reads state rows under one key, which is made ready once: for a page of people."""

    __slots__ = ("_code", "_key_version")

    def __init__(self, key: bytes, key_version: int = 1) -> None:
        """The MAC key, and its version: a row that asks for another is refused."""
        self._code = Code(key, LABEL)
        self._key_version = key_version

    def read(self, subject: UUID, row: bytes) -> State:
        """The state of `subject`. Raises `Unreadable` unless `pack` made these bytes for it with this key."""
        end = len(row) - MAC_BYTES
        if end < _HEAD.size:
            raise Unreadable
        body = row[:end]
        name = subject.bytes
        self._code.verify(row[end:], name, body)
        return _parsed(subject, name, body, end, self._key_version)


def unpack(subject: UUID, row: bytes, key: bytes, key_version: int = 1) -> State:
    """`Reader.read`, for one row."""
    return Reader(key, key_version).read(subject, row)


def _parsed(subject: UUID, name: bytes, body: bytes, end: int, key_version: int) -> State:
    (
        form, made_under, version, granted, refused, blocked, objected, flags, root, claimed,
        members, ledger_count, ledger_head, keys_version, held, event_count, ends, count,
    ) = _HEAD.unpack_from(body)  # fmt: skip
    marks_from = _HEAD_BYTES + ends * _EXPIRY_BYTES
    if form != FORMAT or made_under != key_version or end != marks_from + count * _MARK_BYTES:
        raise Unreadable
    if flags & ~_FLAGS or (flags & _CLAIMED == 0) != (claimed == _NOBODY):
        raise Unreadable
    expiries = tuple(_EXPIRY.iter_unpack(body[_HEAD_BYTES:marks_from]))
    marks = tuple(map(_as_mark, _MARK.iter_unpack(body[marks_from:])))
    if not _masks_sound(granted, refused, blocked, objected) or not _rising(granted, expiries, marks):
        raise Unreadable
    # By place, not by name: a twelfth of the time, and every page reads a thousand. A test holds the order.
    return State(
        subject,
        subject if root == name else UUID(bytes=root),
        version,
        granted,
        refused,
        blocked,
        objected,
        expiries,
        flags & _RESTRICTED != 0,
        flags & _FENCED != 0,
        flags & _MINOR != 0,
        flags & _IDENTIFIED != 0,
        UUID(bytes=claimed) if flags & _CLAIMED else None,
        members,
        ledger_count,
        ledger_head,
        keys_version,
        held,
        event_count,
        marks,
    )


def key_version_of(row: bytes) -> int:
    """Which version of the MAC key a row asks for: chosen before it can be checked, so use it to pick a key only."""
    if len(row) < _KEY_VERSION.size or row[0] != FORMAT:
        raise Unreadable
    return int(_KEY_VERSION.unpack_from(row)[1])


def _masks_sound(granted: int, refused: int, blocked: int, objected: int) -> bool:
    return not (granted | refused | blocked | objected) >> PURPOSES and not granted & refused


def _rising(granted: int, expiries: Iterable[tuple[int, int]], marks: Iterable[tuple[Any, ...]]) -> bool:
    """Ends rise by purpose and are of granted ones; marks, whose first two parts are their place, rise by it."""
    previous = -1
    for purpose, _ in expiries:
        if purpose <= previous or not granted >> purpose & 1:
            return False
        previous = purpose
    purposes, generation = -1, -1
    for mark in marks:
        if mark[0] < purposes or mark[0] >> PURPOSES or (mark[0] == purposes and mark[1] <= generation):
            return False
        purposes, generation = mark[0], mark[1]
    return True
