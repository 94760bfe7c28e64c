"""The journal on disk: append with one flush for many waiters, read, verify; and the audit head beside it.

Promises: when `append` returns, the entries are on disk, in order, behind whatever other processes wrote; after a flush
that failed nothing is ever appended again by this process (what the disk then holds is unknown). Processes take turns
by a lock on the file and read what came since. It knows narrowings as bytes and must not know a database.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from vault import durable
from vault.errors import Unavailable, Unreadable
from vault.journal import frames
from vault.journal.frames import Head
from vault.journal.head import FILE as HEAD_FILE
from vault.journal.head import AuditHead, read_head, write_head
from vault.journal.narrowing import Begun, Narrowing, decode, encode
from vault.measures import JOURNAL_FAILURES, JOURNAL_FLUSH

FILE: Final = "narrowings.journal"
POLICIES: Final = "policies"  # a folder: files of every version applied, by digest
MAX_POLICY_BYTES: Final = 1 << 26
REMEMBERED: Final = 30.0  # seconds that health tells of a write that the disk did not take
MAX_GROUP: Final = 1000  # entries behind one flush: caps how long the first of them waits


class Entry(NamedTuple):
    """A narrowing and its number in the journal, from 1."""

    number: int
    narrowing: Narrowing


class Place(NamedTuple):
    """A frame by number and hash, and the hash of the journal's first: which journal it is. Number 0: before the first."""

    number: int
    hash: bytes
    first: bytes


NOWHERE: Final = Place(0, b"", b"")

_Waiting = tuple[list[bytes], "asyncio.Future[int]"]


class Journal:
    """The journal of one folder. One per process; safe beside others on the same folder."""

    def __init__(self, folder: Path, key: bytes, *, begin: bool = True) -> None:
        """`begin`: make folder and file if they are missing; only right for a database that nobody used yet.

        Raises `ConfigError` if the folder is open to others, `Unavailable` if there is no journal and none may begin.
        """
        durable.private_folder(folder)
        self._folder = folder
        self._path = folder / FILE
        self._key = key
        self._head = frames.START
        self._failed = False
        self._refused_at: float | None = None
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None
        if not self._path.exists():
            if not begin:
                raise Unavailable("the journal is missing; restore it, or let an officer accept its loss")
            self._begin()

    @property
    def fault(self) -> str | None:
        """The code of what kept a narrowing from being written lately; None when nothing did.

        It is forgotten after a while, so that who turned away because of it comes back and tries.
        """
        lately = self._refused_at is not None and time.monotonic() - self._refused_at < REMEMBERED
        return "journal_unavailable" if self._failed or lately else None

    # --- append -----------------------------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Narrowing]) -> int:
        """Writes the entries, durably; answers the number of the last (of the present head, if there are none).

        Waits together with whoever else appends. Cancelling the waiter does not take the entries back: they are
        harmless, replay only lowers. Raises `Unavailable` if the journal cannot be written: then commit nothing.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(([encode(entry) for entry in entries], done))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return await done

    def append_now(self, entries: Sequence[Narrowing]) -> int:
        """As `append`, for a caller without an event loop."""
        return self._write([encode(entry) for entry in entries])

    async def _flush(self) -> None:
        """Takes all that wait, a group at a time, until nobody waits."""
        try:
            while self._waiting:
                group: list[_Waiting] = []
                size = 0
                while self._waiting and (not group or size + len(self._waiting[0][0]) <= MAX_GROUP):
                    group.append(self._waiting.pop(0))
                    size += len(group[-1][0])
                await self._settle(group)
        finally:
            self._flusher = None
            self._refuse([done for _, done in self._waiting])
            self._waiting.clear()

    async def _settle(self, group: list[_Waiting]) -> None:
        payloads = [payload for some, _ in group for payload in some]
        try:
            last = await asyncio.to_thread(self._write, payloads)
        except (Unavailable, Unreadable, ValueError) as error:
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            return
        except BaseException:
            self._refuse([done for _, done in group])
            raise
        number = last - len(payloads)
        for some, done in group:
            number += len(some)
            if not done.done():
                done.set_result(number)

    @staticmethod
    def _refuse(waiters: "list[asyncio.Future[int]]") -> None:
        for done in waiters:
            if not done.done():
                done.set_exception(Unavailable("the journal was closed"))

    def _write(self, payloads: list[bytes]) -> int:
        """Runs in a thread, one at a time within this process; other processes are kept out by the lock."""
        if self._failed:
            raise Unavailable(
                "the journal could not be flushed to disk; check the disk, then start again", code="journal_unavailable"
            )
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            raise Unavailable("the journal is missing or cannot be written", code="journal_unavailable") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            head = self._catch_up(descriptor)
            blob = bytearray()
            for payload in payloads:
                whole, head = frames.frame(head, payload, self._key)
                blob += whole
            if blob:
                self._put(descriptor, bytes(blob), self._head.length)
            self._head = head
            return head.number
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
            JOURNAL_FAILURES.inc()
            self._refused_at = time.monotonic()
            raise Unavailable(
                "the journal could not be written; its disk may be full", code="journal_unavailable"
            ) from None
        try:
            os.fsync(descriptor)
        except OSError:
            self._failed = True
            JOURNAL_FAILURES.inc()
            raise Unavailable("the journal could not be flushed to disk", code="journal_unavailable") from None
        self._refused_at = None
        JOURNAL_FLUSH.observe(time.perf_counter() - started)

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

    def read(self, after: int = 0) -> Iterator[Entry]:
        """The entries numbered above `after`, in order. Raises `Unreadable` where the chain breaks."""
        for payload, head in self._frames():
            if head.number > after:
                yield Entry(head.number, decode(payload))

    def since(self, place: Place) -> tuple[list[Narrowing], Place]:
        """The entries behind `place`, and the place where the chain ends. All of them, behind a place in a lost journal.

        Raises `Unavailable` (code `journal_behind`) for a journal that should hold that place and does not: it is older than
        who asks, or another one. Raises `Unreadable` where the chain breaks.
        """
        found: list[Narrowing] = []
        first, end = b"", frames.START
        anew, known = False, not place.number
        for payload, head in self._frames():
            if head.number == 1:
                first, anew = head.hash, isinstance(decode(payload), Begun)
                known = known or (anew and first != place.first)
            if known:
                found.append(decode(payload))
            elif head.number == place.number:
                known = head.hash == place.hash and first == place.first
            end = head
        if not known:
            raise Unavailable(
                "the journal is older than the database, or another one: put the newest copy of it in place; only if there"
                " is none, move its file away and run: profile-vault audit accept-loss --journal",
                code="journal_behind",
            )
        return found, Place(end.number, end.hash, first)

    def verify(self) -> Head:
        """Reads the whole chain and every entry; answers where it ends. Raises `Unreadable` where it breaks."""
        end = frames.START
        for payload, head in self._frames():
            decode(payload)
            end = head
        return end

    @property
    def key(self) -> bytes:
        """The key of its codes, which vouches for what waits for the audit log, too."""
        return self._key

    @property
    def head(self) -> Head:
        """Where the chain ended when this process last wrote; `verify` reads anew."""
        return self._head

    def _frames(self) -> Iterator[tuple[bytes, Head]]:
        """Reads a snapshot under a shared lock: no frame of a writer at work is taken for an unfinished one."""
        try:
            with self._path.open("rb") as file:
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

    def copied(self) -> dict[str, bytes]:
        """The files of the journal by name, whole frames only: for a backup."""
        with self._path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)
            found = {FILE: file.read()}
        for path in (self._folder / HEAD_FILE, *sorted((self._folder / POLICIES).glob("*.json"))):
            if path.exists():
                found[str(path.relative_to(self._folder))] = durable.read_private(path, MAX_POLICY_BYTES)
        return found

    # --- policy versions --------------------------------------------------------------------------------------------

    def keep_policy(self, digest: bytes, files: bytes) -> None:
        """Keeps the files of a policy version here, durably, so that a restored database can be given them again."""
        folder = self._folder / POLICIES
        durable.private_folder(folder)
        durable.write(folder / f"{digest.hex()}.json", files)

    def policy(self, digest: bytes) -> bytes | None:
        """The files of the version with that digest, as they were kept; the caller compares them. None if there are none."""
        try:
            return durable.read_private(self._folder / POLICIES / f"{digest.hex()}.json", MAX_POLICY_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None

    # --- the head of the audit log ----------------------------------------------------------------------------------

    def write_head(self, size: int, root: bytes, *, accept_loss: bool = False) -> None:
        """Keeps the head of the audit log here, durably. Raises `Conflict` if it goes back or names another root."""
        write_head(self._folder, self._key, AuditHead(size, root), accept_loss=accept_loss)

    def read_head(self) -> AuditHead | None:
        """The head last kept, or None. Raises `Unreadable`."""
        return read_head(self._folder, self._key)

    def __repr__(self) -> str:
        return f"Journal(at {self._head.number})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a journal does not leave its process; open its folder there")
