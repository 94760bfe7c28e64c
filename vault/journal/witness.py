"""What the state audit saw last, kept beside the journal: every subject, and the version of its state row.

  bytes   magic 8 'PVSEEN01' | records, ascending by subject | count u64 | MAC 32
  record  subject 16 | version u64 | flags u8 (1: kept for law, ends without an entry of the journal)

Versions only rise, so a person who was put back whole, from whatever copy, has a lower one than was seen. Promises: read and
written record by record, whatever the size; a round that was broken off goes on where the unfinished file ends; the finished
one replaces the other whole. Whoever accepts the loss of a database makes it forget (`forget`), or everybody is accused.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from uuid import UUID

from vault import durable
from vault.crypto.mac import MAC_BYTES, mac, verify_mac
from vault.errors import Unreadable

FILE: Final = "states.seen"
UNFINISHED: Final = "states.seen.next"
MAGIC: Final = b"PVSEEN01"
LABEL: Final = "seen/1"
KEPT: Final = 1
_HEAD: Final = len(MAGIC)
_RECORD: Final = struct.Struct(">16sQB")
_COUNT: Final = struct.Struct(">Q")
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
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        _verify(file, key)
        yield from _records(file, os.fstat(file.fileno()).st_size - _COUNT.size - MAC_BYTES)


def _verify(file: BinaryIO, key: bytes) -> None:
    """Leaves the file at its first record. Raises `Unreadable`."""
    end = os.fstat(file.fileno()).st_size - MAC_BYTES
    records = end - _COUNT.size - _HEAD
    if records < 0 or records % _RECORD.size:
        raise Unreadable
    total, left = hashlib.sha256(), end
    head = file.read(_HEAD)
    total.update(head)
    left -= len(head)
    tail = b""
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise Unreadable
        total.update(chunk)
        left -= len(chunk)
        tail = (tail + chunk)[-_COUNT.size :]
    verify_mac(file.read(), key, LABEL, total.digest())
    if head != MAGIC or _COUNT.unpack(tail)[0] * _RECORD.size != records:
        raise Unreadable
    file.seek(_HEAD)


def _records(file: BinaryIO, end: int) -> Iterator[Seen]:
    left = end - _HEAD
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if len(chunk) % _RECORD.size or not chunk:
            raise Unreadable
        left -= len(chunk)
        for subject, version, flags in _RECORD.iter_unpack(chunk):
            yield Seen(UUID(bytes=subject), version, bool(flags & KEPT))


class Round:
    """The file of a round in work. One writer at a time: whoever holds the lease."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """Goes on with the unfinished file, if there is one."""
        self._folder = folder
        self._key = key
        self.last: UUID | None = None  # the last subject that was seen
        self._count = 0
        self._take_up()

    def __repr__(self) -> str:
        return f"Round({self._count})"

    @property
    def _path(self) -> Path:
        return self._folder / UNFINISHED

    def _take_up(self) -> None:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            head = file.read(_HEAD)
            whole, _ = divmod(os.fstat(file.fileno()).st_size - _HEAD, _RECORD.size)
            if head == MAGIC and whole > 0:
                file.seek(_HEAD + (whole - 1) * _RECORD.size)
                self.last = UUID(bytes=file.read(16))
                self._count = whole
                return
        self.begin()

    def begin(self) -> None:
        """Begin anew, from the first subject on."""
        self.last, self._count = None, 0
        durable.write(self._path, MAGIC)

    def add(self, seen: list[Seen]) -> None:
        """The next subjects, ascending. A crash loses some of them at most: they are looked at again."""
        with self._path.open("r+b") as file:
            file.seek(_HEAD + self._count * _RECORD.size)
            file.truncate()
            file.writelines(_RECORD.pack(one.subject.bytes, one.version, KEPT * one.kept) for one in seen)
        self._count += len(seen)
        if seen:
            self.last = seen[-1].subject

    def finish(self) -> int:
        """Put it in place of the one before; answers how many it has."""
        total = hashlib.sha256()
        with self._path.open("r+b") as file:
            end = _HEAD + self._count * _RECORD.size
            left = end
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise Unreadable
                total.update(chunk)
                left -= len(chunk)
            count = _COUNT.pack(self._count)
            total.update(count)
            file.seek(end)
            file.truncate()
            file.write(count + mac(self._key, LABEL, total.digest()))
            file.flush()
            os.fsync(file.fileno())
        self._path.replace(self._folder / FILE)
        durable.sync_folder(self._folder)
        return self._count


def forget(folder: Path) -> None:
    """What was seen counts no more: a database whose loss was accepted is seen anew."""
    for name in (FILE, UNFINISHED):
        (folder / name).unlink(missing_ok=True)
