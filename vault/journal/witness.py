"""What the state audit saw last, kept beside the journal: every subject, and the version of its state row.

  bytes   magic 8 'PVSEEN02' | records, ascending by subject | finished at u64 | count u64 | MAC 32
  record  subject 16 | version u64 | flags u8 (1: kept for law, ends without an entry of the journal)
  in work magic 8 | finished at u64, of the file that it follows | records | MAC 32

Versions only rise, so a person who was put back whole, from whatever copy, has a lower one than was seen. Promises: read and
written record by record, whatever the size; a round that was broken off goes on where the unfinished file ends, if nobody
else wrote it; the finished one replaces the other whole, and knows of nobody less than that did, unless the journal says why.
Whoever accepts the loss of a database makes it forget (`forget`), or everybody is accused.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

from vault import durable
from vault.clock import Micros
from vault.crypto.mac import MAC_BYTES, mac, verify_mac
from vault.errors import Unreadable

FILE: Final = "states.seen"
UNFINISHED: Final = "states.seen.next"
MERGED: Final = "states.seen.merged"  # the finished file, before it is in its place
MAGIC: Final = b"PVSEEN02"
OLDER: Final = b"PVSEEN01"  # says not when it was finished: counts as none
LABEL: Final = "seen/2"
LABEL_NEXT: Final = "seen-next/1"
KEPT: Final = 1
NEVER: Final = Micros(0)
_HEAD: Final = len(MAGIC)
_RECORD: Final = struct.Struct(">16sQB")
_SINCE: Final = struct.Struct(">Q")
_BEGUN: Final = _HEAD + _SINCE.size
_TAIL: Final = struct.Struct(">QQ")  # finished at, count
_CHUNK: Final = _RECORD.size * 4096


class Seen(NamedTuple):
    """A subject as it was seen."""

    subject: UUID
    version: int
    kept: bool


def read(folder: Path, key: bytes) -> Iterator[Seen]:
    """The records of the last finished round, ascending; none before the first.

    Raises `Unreadable`, before the first record, for a file that was edited or cut.
    """
    file = _open(folder)
    if file is not None:
        with file:
            _, count = _verify(file, key)
            yield from _records(file, _HEAD, count)


def finished_at(folder: Path, key: bytes) -> Micros:
    """When the last round was finished that this folder knows of; `NEVER` if it knows of none. Raises `Unreadable`."""
    file = _open(folder)
    if file is None:
        return NEVER
    with file:
        return _verify(file, key)[0]


def forget(folder: Path) -> None:
    """What was seen counts no more: a database whose loss was accepted is seen anew."""
    for name in (FILE, UNFINISHED, MERGED):
        (folder / name).unlink(missing_ok=True)


def _open(folder: Path) -> BinaryIO | None:
    try:
        file = os.fdopen(os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
    except FileNotFoundError:
        return None
    if file.read(_HEAD) == OLDER:
        file.close()
        return None
    file.seek(0)
    return file


def _verify(file: BinaryIO, key: bytes) -> tuple[Micros, int]:
    """When it was finished, and how many records it has. Raises `Unreadable`."""
    end = os.fstat(file.fileno()).st_size - MAC_BYTES
    records = end - _TAIL.size - _HEAD
    if records < 0 or records % _RECORD.size:
        raise Unreadable
    total = _hashed(file, end)
    verify_mac(file.read(), key, LABEL, total.digest())
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(end - _TAIL.size)
    finished, count = _TAIL.unpack(file.read(_TAIL.size))
    if head != MAGIC or count * _RECORD.size != records:
        raise Unreadable
    return Micros(finished), count


def _hashed(file: BinaryIO, end: int) -> "hashlib._Hash":
    """Of the bytes before `end`."""
    total, left = hashlib.sha256(), end
    file.seek(0)
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise Unreadable
        total.update(chunk)
        left -= len(chunk)
    return total


def _records(file: BinaryIO, start: int, count: int) -> Iterator[Seen]:
    file.seek(start)
    left = count * _RECORD.size
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if len(chunk) % _RECORD.size or not chunk:
            raise Unreadable
        left -= len(chunk)
        for subject, version, flags in _RECORD.iter_unpack(chunk):
            yield Seen(UUID(bytes=subject), version, bool(flags & KEPT))


def _packed(seen: Seen) -> bytes:
    return _RECORD.pack(seen.subject.bytes, seen.version, KEPT * seen.kept)


def merged(before: Iterator[Seen], now: Iterator[Seen], erased: Callable[[], set[bytes]]) -> Iterator[Seen]:
    """Both, ascending, of each subject the higher version. Who is not there now goes only if erased, or once kept by law."""
    old = next(before, None)
    for new in now:
        while old is not None and old.subject < new.subject:
            if not old.kept and old.subject.bytes not in erased():
                yield old
            old = next(before, None)
        if old is not None and old.subject == new.subject:
            yield old if old.version > new.version else new
            old = next(before, None)
        else:
            yield new
    while old is not None:
        if not old.kept and old.subject.bytes not in erased():
            yield old
        old = next(before, None)


class Round:
    """The file of a round in work. One writer at a time: whoever holds the lease."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """Goes on with the unfinished file, if it is whole, ours, and follows the finished one. Raises `Unreadable`."""
        self._folder = folder
        self._key = key
        self._since = finished_at(folder, key)
        self.last: UUID | None = None  # the last subject that was seen
        self._count = 0
        self._total = hashlib.sha256()
        try:
            self._take_up()
        except (FileNotFoundError, Unreadable):
            self.begin()

    def __repr__(self) -> str:
        return f"Round({self._count})"

    @property
    def _path(self) -> Path:
        return self._folder / UNFINISHED

    def _take_up(self) -> None:
        with self._path.open("rb") as file:
            self._count, self._total = self._checked(file)
            if self._count:
                file.seek(_BEGUN + (self._count - 1) * _RECORD.size)
                self.last = UUID(bytes=file.read(16))

    def _checked(self, file: BinaryIO) -> "tuple[int, hashlib._Hash]":
        """How many records it has, and the hash of all before its code. Raises `Unreadable`."""
        end = os.fstat(file.fileno()).st_size - MAC_BYTES
        count, rest = divmod(end - _BEGUN, _RECORD.size)
        if count < 0 or rest or file.read(_BEGUN) != MAGIC + _SINCE.pack(self._since):
            raise Unreadable
        total = _hashed(file, end)
        verify_mac(file.read(), self._key, LABEL_NEXT, total.digest())
        return count, total

    def begin(self) -> None:
        """Begin anew, from the first subject on."""
        self.last, self._count = None, 0
        head = MAGIC + _SINCE.pack(self._since)
        self._total = hashlib.sha256(head)
        durable.write(self._path, head + mac(self._key, LABEL_NEXT, self._total.digest()))

    def add(self, seen: list[Seen]) -> None:
        """The next subjects, ascending. Of what a crash cuts the code does not agree: the round begins anew."""
        data, total = b"".join(map(_packed, seen)), self._total.copy()
        total.update(data)
        with self._path.open("r+b") as file:
            file.seek(_BEGUN + self._count * _RECORD.size)
            file.write(data + mac(self._key, LABEL_NEXT, total.digest()))
            file.truncate()
        self._total = total
        self._count += len(seen)
        if seen:
            self.last = seen[-1].subject

    def finish(self, now: Micros, erased: Callable[[], set[bytes]]) -> int:
        """Put it in place of the one before, merged with it; answers how many it has. Raises `Unreadable`.

        `erased`: the ids of all who were ever erased; asked for only when somebody is missing.
        """
        target, count, total = self._folder / MERGED, 0, hashlib.sha256(MAGIC)
        target.unlink(missing_ok=True)
        with self._path.open("rb") as file, target.open("xb") as out:
            out.write(MAGIC)
            seen = _records(file, _BEGUN, self._checked(file)[0])
            for one in merged(read(self._folder, self._key), seen, erased):
                record = _packed(one)
                out.write(record)
                total.update(record)
                count += 1
            tail = _TAIL.pack(now, count)
            total.update(tail)
            out.write(tail + mac(self._key, LABEL, total.digest()))
            out.flush()
            os.fsync(out.fileno())
        target.chmod(durable.FILE_MODE)
        target.replace(self._folder / FILE)
        durable.sync_folder(self._folder)
        self._path.unlink()  # one that stayed follows no longer
        return count
