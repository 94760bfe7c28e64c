"""Rows of wraps moved to newer epochs, byte formats unchanged; and counted by what they are wrapped under. Pure.

Promises: a wrap moves only if it opens and its data key is the one that the compartment is committed to; one that does not
open stays as it is and is counted, never dropped; which wraps there are does not change, so the state row stays true (ADR
0041). A wrapping key is derived once for all compartments of a person. Must not know a database, nor what a field is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from vault.crypto.wrap import Deriver, WrappingKey, place_of, rewrap, unwrap, wrap_for, wrapping_key
from vault.errors import Unavailable, Unreadable
from vault.keys.compartments import FORMAT, HEAD, MAX_ROW_BYTES, WRAP
from vault.keys.keyring import Keyring

_HEAD_BYTES: Final = HEAD.size
_WRAP_BYTES: Final = WRAP.size
_BLOB_AT: Final = 3  # within a wrap: purpose 1 and epoch 2, its front, come first
_read_head: Final = HEAD.unpack_from


class Moved(NamedTuple):
    """What became of a row."""

    row: bytes | None  # None: nothing of it moved
    moved: int  # wraps
    shut: int  # wraps that are older and do not open, or 1 for a row that is none


_UNTOUCHED: Final = Moved(None, 0, 0)
_BROKEN: Final = Moved(None, 0, 1)


class Mover:
    """Moves wraps of some purposes to one epoch each. Holds keys: lives for one pass and shows nothing."""

    __slots__ = ("_derivers", "_keyring", "_targets")

    def __init__(self, keyring: Keyring, targets: Mapping[int, int]) -> None:
        """`targets`: purpose (or RIGHTS) to the epoch that older wraps move to. Raises `Unavailable` if one is not held."""
        self._keyring = keyring
        self._targets = dict(targets)
        # By the front of a wrap, as it stands in a row; None for an epoch that is named and not there.
        self._derivers: dict[bytes, Deriver | None] = {
            wrap_for(purpose, epoch): Deriver(keyring.epoch_key(purpose, epoch), purpose, epoch)
            for purpose, epoch in targets.items()
        }

    def __repr__(self) -> str:
        return "Mover(...)"

    def move(self, rows: Iterable[tuple[UUID, bytes]]) -> list[Moved]:
        """Each row with every older wrap of these purposes under the newer epoch."""
        return [self._move(subject.bytes, row) for subject, row in rows]

    def _move(self, subject: bytes, row: bytes) -> Moved:
        made: bytearray | None = None
        moved = shut = 0
        ciphers: dict[bytes, WrappingKey] = {}
        try:
            for head, body, after in _compartments(row):
                older, unknown = self._older(row, body, after)
                shut += unknown
                if not older:
                    continue
                place = place_of(head[0], subject, head[1], head[2])
                blobs = [row[at + _BLOB_AT : at + _WRAP_BYTES] for at, _ in older]
                contexts = [context for _, context in older]
                keys = [(self._cipher(ciphers, subject, a), self._cipher(ciphers, subject, b)) for a, b in contexts]
                for (at, (_, front)), blob in zip(older, rewrap(keys, contexts, blobs, place, head[3]), strict=True):
                    if blob is None:
                        shut += 1
                        continue
                    if made is None:
                        made = bytearray(row)
                    made[at : at + _WRAP_BYTES] = front + blob
                    moved += 1
        except Unreadable:
            return _BROKEN
        if made is None:
            return Moved(None, 0, shut) if shut else _UNTOUCHED
        return Moved(bytes(made), moved, shut)

    def _older(self, row: bytes, body: int, after: int) -> tuple[list[tuple[int, tuple[bytes, bytes]]], int]:
        """Where the wraps of a compartment stand that are to move, with their fronts before and after; how many cannot."""
        found: list[tuple[int, tuple[bytes, bytes]]] = []
        targets, unknown = self._targets, 0
        at = body
        for purpose in row[body:after:_WRAP_BYTES]:
            target = targets.get(purpose)
            if target is not None and row[at + 1] << 8 | row[at + 2] < target:
                front = row[at : at + _BLOB_AT]
                if self._known(front):
                    found.append((at, (front, wrap_for(purpose, target))))
                else:
                    unknown += 1
            at += _WRAP_BYTES
        return found, unknown

    def _known(self, front: bytes) -> bool:
        """False for an epoch that never was, or is gone: what names it opens nowhere. The store is asked once."""
        if front not in self._derivers:
            purpose, epoch = front[0], int.from_bytes(front[1:], "big")
            try:
                self._derivers[front] = Deriver(self._keyring.epoch_key(purpose, epoch), purpose, epoch)
            except Unavailable:
                self._derivers[front] = None
        return self._derivers[front] is not None

    def _cipher(self, ciphers: dict[bytes, WrappingKey], subject: bytes, front: bytes) -> WrappingKey:
        found = ciphers.get(front)
        if found is None:
            deriver = self._derivers[front]
            assert deriver is not None  # noqa: S101 - `_older` names those only that are known
            found = ciphers[front] = deriver.cipher(subject)
        return found


def _compartments(row: bytes) -> Iterable[tuple[tuple[bytes, int, int, bytes], int, int]]:
    """Of each compartment of a row: what stands before its wraps, and where these begin and end. Raises `Unreadable`."""
    end = len(row)
    if not 0 < end <= MAX_ROW_BYTES or row[0] != FORMAT:
        raise Unreadable
    after = 1
    while after < end:
        body = after + _HEAD_BYTES
        if body > end:
            raise Unreadable
        compartment_id, purposes, generation, commitment, count = _read_head(row, after)
        after = body + count * _WRAP_BYTES
        if after > end:
            raise Unreadable
        yield (compartment_id, purposes, generation, commitment), body, after


def count_wraps(rows: Iterable[bytes]) -> Counter[tuple[int, int]]:
    """How many wraps there are under each (purpose, epoch), in rows as stored. A row that is none counts as (-1, 0)."""
    found: Counter[tuple[int, int]] = Counter()
    for row in rows:
        try:
            found.update((purpose, epoch) for _, purpose, epoch, _ in _walk(row))
        except Unreadable:
            found[-1, 0] += 1
    return found


class Named(NamedTuple):
    """Wraps under one epoch: how many open, and how many only say that they are of it."""

    opening: int
    shut: int


def depending(keyring: Keyring, rows: Sequence[tuple[UUID, bytes]], purpose: int, epoch: int) -> Named:
    """How many wraps of these rows need this epoch of this purpose."""
    opening = shut = 0
    key = keyring.epoch_key(purpose, epoch)
    for subject, row in rows:
        cipher = None
        try:
            for place, of, in_epoch, (commitment, blob) in _walk(row):
                if (of, in_epoch) != (purpose, epoch):
                    continue
                cipher = cipher or wrapping_key(key, subject.bytes, purpose, epoch)
                where = place_of(place[0], subject.bytes, place[1], place[2])
                try:
                    unwrap(cipher, blob, where, commitment, purpose, epoch)
                    opening += 1
                except Unreadable:
                    shut += 1
        except Unreadable:
            shut += 1
    return Named(opening, shut)


def _walk(row: bytes) -> Iterable[tuple[tuple[bytes, int, int], int, int, tuple[bytes, bytes]]]:
    """((compartment id, purposes, generation), purpose, epoch, (commitment, sealed data key)) of each wrap of a row."""
    for head, body, after in _compartments(row):
        for purpose, epoch, blob in WRAP.iter_unpack(row[body:after]):
            yield head[:3], purpose, epoch, (head[3], blob)
