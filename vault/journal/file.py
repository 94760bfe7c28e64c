"""The journal on disk: a file of frames in a folder of its own, with the audit head beside it.

Promises: after a flush that failed nothing is ever appended again by this process (what the disk then holds is unknown).
Processes take turns by a lock on the file and read what came since.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from vault import durable
from vault.errors import Unavailable, Unreadable
from vault.journal import frames
from vault.journal.frames import Head
from vault.journal.head import FILE as HEAD_FILE
from vault.journal.journal import CODE, MAX_POLICY_BYTES, MOVED, POLICIES, POLICY_SUFFIX, Journal, name_of

FILE: Final = "narrowings.journal"
MOVED_FILE: Final = "narrowings.journal.moved"  # the file, once the journal lies elsewhere


class FileJournal(Journal):
    """The journal of one folder."""

    def __init__(self, folder: Path, key: bytes, *, begin: bool = True, shut: bool = False) -> None:
        """`begin`: make folder and file if they are missing; only right for a database that nobody used yet.

        `shut`: open one that was shut, too, to move it. Raises `ConfigError` if the folder is open to others,
        `Unavailable` if there is no journal and none may begin.
        """
        super().__init__(key)
        durable.private_folder(folder)
        self._folder = folder
        self._path = folder / FILE
        if self._path.exists() or (shut and self.moved):
            return
        if self.moved:
            raise Unavailable(MOVED, code=CODE)
        if not begin:
            raise Unavailable("the journal is missing; restore it, or let an officer accept its loss")
        self._begin()

    # --- append -----------------------------------------------------------------------------------------------------

    def _write(self, payloads: list[bytes]) -> int:
        if self._failed:
            raise Unavailable("the journal could not be flushed to disk; check the disk, then start again", code=CODE)
        with self._locked() as descriptor:
            head = self._catch_up(descriptor)
            blob = bytearray()
            for payload in payloads:
                whole, head = frames.frame(head, payload, self._key)
                blob += whole
            if blob:
                self._put(descriptor, bytes(blob), self._head.length)
            self._head = head
            return head.number

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, while no other process reads or writes it. Raises `Unavailable` for one that is not there any more."""
        missing = Unavailable("the journal is missing or cannot be written", code=CODE)
        path = self._folder / MOVED_FILE if self._moving else self._path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            raise missing from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _names(path, descriptor):
                raise missing  # it was moved away while this process waited for the lock
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> Head:
        """Reads what others appended since; cuts off an unfinished frame, which nobody was told about."""
        size = os.fstat(descriptor).st_size
        if size < self._head.length:
            raise Unreadable("the journal is shorter than it was")
        if size > self._head.length:
            data = os.pread(descriptor, size - self._head.length, self._head.length)
            for _, head in frames.read(data, self._head, self._key):
                self._head = head
            if size > self._head.length:
                os.ftruncate(descriptor, self._head.length)
        return self._head

    def _put(self, descriptor: int, blob: bytes, at: int) -> None:
        started = time.perf_counter()
        try:
            self._fill(descriptor, blob, at)
        except OSError:  # a full disk, most often: nothing was flushed, so the next group may try again
            self._not_taken()
            raise Unavailable("the journal could not be written; its disk may be full", code=CODE) from None
        try:
            os.fsync(descriptor)
        except OSError:
            self._failed = True
            self._not_taken()
            raise Unavailable("the journal could not be flushed to disk", code=CODE) from None
        self._taken(started)

    @staticmethod
    def _fill(descriptor: int, blob: bytes, at: int) -> None:
        """Writes all of it, or takes back what it wrote. What even that cannot take back, `_catch_up` cuts off or reads."""
        done = 0
        try:
            while done < len(blob):
                done += os.pwrite(descriptor, blob[done:], at + done)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, at)
            raise

    # --- read -------------------------------------------------------------------------------------------------------

    def _frames(self) -> Iterator[tuple[bytes, Head]]:
        """Reads a snapshot under a shared lock: no frame of a writer at work is taken for an unfinished one."""
        try:
            with (self._folder / MOVED_FILE if self.moved else self._path).open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH)
                data = file.read()
        except OSError:
            raise Unavailable("the journal is missing or cannot be read") from None
        if data[: len(frames.MAGIC)] != frames.MAGIC:
            raise Unreadable
        return frames.read(data[len(frames.MAGIC) :], frames.START, self._key)

    def _begin(self) -> None:
        try:
            durable.create(self._path, frames.MAGIC)
        except FileExistsError:
            return  # another process was faster

    # --- beside it --------------------------------------------------------------------------------------------------

    def kept(self, name: str, limit: int) -> bytes | None:
        """The bytes of the file of that name, beside the journal."""
        try:
            return durable.read_private(self._folder / name, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def keep(self, name: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        """By rename. Processes do not take turns: the lease of the audit log keeps its head to one of them."""
        data = change(self.kept(name, limit))
        if data is not None:
            path = self._folder / name
            durable.private_folder(path.parent)
            durable.write(path, data)

    def policies(self) -> list[bytes]:
        """By the names of their files."""
        found = sorted((self._folder / POLICIES).glob(f"*{POLICY_SUFFIX}"))
        return [bytes.fromhex(path.stem) for path in found]

    def copied(self) -> dict[str, bytes]:
        """Read under the lock of a reader."""
        with self._path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)
            found = {FILE: file.read()}
        for name in (HEAD_FILE, *map(name_of, self.policies())):
            data = self.kept(name, MAX_POLICY_BYTES)
            if data is not None:
                found[name] = data
        return found

    # --- moving -----------------------------------------------------------------------------------------------------

    @property
    def place(self) -> object:
        """Device and number of the folder."""
        status = self._folder.stat()
        return status.st_dev, status.st_ino

    @property
    def moved(self) -> bool:
        """Whether the file bears the name of one that was moved."""
        return not self._path.exists() and (self._folder / MOVED_FILE).exists()

    def shut(self) -> None:
        """By renaming the file under its lock: who waits for the lock finds that the name leads elsewhere."""
        if self.moved:
            return
        with self._locked():
            self._path.rename(self._folder / MOVED_FILE)
            durable.sync_folder(self._folder)

    def reopen(self) -> None:
        """By renaming it back."""
        if self.moved:
            (self._folder / MOVED_FILE).rename(self._path)
            durable.sync_folder(self._folder)


def _names(path: Path, descriptor: int) -> bool:
    """Whether the name still leads to this file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
