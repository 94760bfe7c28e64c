"""The journal as everybody sees it, wherever it lies: append with one flush for many waiters, read, verify, keep the audit head.

Two real things stand behind it: a file (`file`) and a second PostgreSQL (`postgres`), with the same frames. Promises: when
`append` returns, the entries are durable, in order, behind whatever other processes wrote; what cannot be written is
`Unavailable` in bounded time, and then nothing is committed either. An entry whose outcome nobody learned, so that it may
be there, or be there twice, is harmless: replay only lowers. It knows narrowings as bytes, and no person.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, NoReturn

from vault.errors import ConfigError, Unavailable, Unreadable
from vault.journal import frames
from vault.journal import head as heads
from vault.journal.frames import Head
from vault.journal.head import AuditHead
from vault.journal.narrowing import Begun, Narrowing, decode, encode
from vault.measures import JOURNAL_FAILURES, JOURNAL_FLUSH
from vault.storage.aside import Whereabouts

REMEMBERED: Final = 30.0  # seconds that health tells of a write that was not taken
MAX_GROUP: Final = 1000  # entries behind one flush: caps how long the first of them waits
POLICIES: Final = "policies"  # what is kept under this name: files of every version applied, by digest
POLICY_SUFFIX: Final = ".json"
MAX_POLICY_BYTES: Final = 1 << 26
CODE: Final = "journal_unavailable"
MOVED: Final = (
    "the journal was moved from here: set `journal` to where it lies now; a move that was stopped goes on when `journal move`"
    " is given again"
)


class Place(NamedTuple):
    """A frame by number and hash, and the hash of the journal's first: which journal it is. Number 0: before the first."""

    number: int
    hash: bytes
    first: bytes


NOWHERE: Final = Place(0, b"", b"")


class Entry(NamedTuple):
    """A narrowing and its number in the journal, from 1."""

    number: int
    narrowing: Narrowing


_Waiting = tuple[list[bytes], "asyncio.Future[int]"]


class Journal(ABC):
    """One per process; safe beside others on the same place. `append` alone is for the loop, all else blocks."""

    def __init__(self, key: bytes) -> None:
        """`key` is that of its codes."""
        self._key = key
        self._head = frames.START
        self._failed = False
        self._moving = False  # whether what is written goes into a journal that is shut
        self._refused_at: float | None = None
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None

    @property
    def fault(self) -> str | None:
        """The code of what kept a narrowing from being written lately; None when nothing did.

        It is forgotten after a while, so that who turned away because of it comes back and tries.
        """
        lately = self._refused_at is not None and time.monotonic() - self._refused_at < REMEMBERED
        return CODE if self._failed or lately else None

    def probe(self) -> None:  # noqa: B027 (a disk is asked by writing)
        """Asks, quickly, whether it could be written now. Raises `Unavailable`."""

    def within(self, database: Whereabouts) -> bool:  # noqa: ARG002 (of the other kind)
        """Whether it lies in that very database."""
        return False

    def beside(self, database: Whereabouts) -> bool:  # noqa: ARG002 (of the other kind)
        """Whether whoever puts back the server of that database puts back the journal with it. A folder cannot know."""
        return False

    def close(self) -> None:  # noqa: B027 (a folder holds nothing open)
        """Lets go of what it holds open. A journal that was closed is not used again."""

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
        except (Unavailable, Unreadable, ConfigError, ValueError) as error:
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

    @abstractmethod
    def _write(self, payloads: list[bytes]) -> int:
        """Runs in a thread, one at a time within this process. Other processes are kept out by whoever implements it."""

    def _taken(self, started: float) -> None:
        self._refused_at = None
        JOURNAL_FLUSH.observe(time.perf_counter() - started)

    def _not_taken(self) -> None:
        self._refused_at = time.monotonic()
        JOURNAL_FAILURES.inc()

    # --- read -------------------------------------------------------------------------------------------------------

    def read(self, after: int = 0) -> Iterator[Entry]:
        """The entries numbered above `after`, in order. Raises `Unreadable` where the chain breaks."""
        for payload, end in self._frames():
            if end.number > after:
                yield Entry(end.number, decode(payload))

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
                " is none, move it away and run: profile-vault audit accept-loss --journal",
                code="journal_behind",
            )
        return found, Place(end.number, end.hash, first)

    def verify(self) -> Head:
        """Reads the whole chain and every entry; answers where it ends. Raises `Unreadable` where it breaks."""
        end = frames.START
        for payload, end in self._frames():  # noqa: B007 (the last of them is the answer)
            decode(payload)
        return end

    @property
    def key(self) -> bytes:
        """The key of its codes, which vouches for what waits for the audit log, too."""
        return self._key

    @property
    def head(self) -> Head:
        """Where the chain ended when this process last wrote; `verify` reads anew."""
        return self._head

    @abstractmethod
    def _frames(self) -> Iterator[tuple[bytes, Head]]:
        """Every payload with the head behind it, of one moment. Raises `Unavailable`, `Unreadable`."""

    # --- small things beside the chain: whole, or as they were --------------------------------------------------------

    @abstractmethod
    def kept(self, name: str, limit: int) -> bytes | None:
        """What was last kept under this name, or None. Raises `Unreadable` if it is over `limit` bytes."""

    @abstractmethod
    def keep(self, name: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        """Puts what `change` makes of what is kept under this name in its place, durably; nothing if it answers None."""

    def write_head(self, size: int, root: bytes, *, accept_loss: bool = False) -> None:
        """Keeps the head of the audit log here, durably. Raises `Conflict` if it goes back or names another root."""
        new = AuditHead(size, root)

        def change(known: bytes | None) -> bytes | None:
            return heads.followed_by(known, new, self._key, accept_loss=accept_loss)

        self.keep(heads.FILE, heads.BYTES, change)

    def read_head(self) -> AuditHead | None:
        """The head last kept, or None. Raises `Unreadable`."""
        data = self.kept(heads.FILE, heads.BYTES)
        return None if data is None else heads.opened(data, self._key)

    @abstractmethod
    def copied(self) -> dict[str, bytes]:
        """The files of the journal by name, as they lie in a folder, whole frames only: for a backup."""

    @abstractmethod
    def policies(self) -> list[bytes]:
        """The digests of the policy versions whose files are kept."""

    def keep_policy(self, digest: bytes, files: bytes) -> None:
        """Keeps the files of a policy version here, durably, so that a restored database can be given them again."""
        self.keep(name_of(digest), MAX_POLICY_BYTES, lambda _: files)

    def policy(self, digest: bytes) -> bytes | None:
        """The files of the version with that digest, as they were kept; the caller compares them. None if there are none."""
        return self.kept(name_of(digest), MAX_POLICY_BYTES)

    # --- moving -----------------------------------------------------------------------------------------------------

    def payloads(self) -> tuple[list[bytes], Head]:
        """All entries as their bytes, verified, and where the chain ends. Their frames follow from them and the key."""
        found, end = [], frames.START
        for payload, end in self._frames():  # noqa: B007 (the last of them is the answer)
            decode(payload)
            found.append(payload)
        return found, end

    def ends(self) -> list[Head]:
        """Where the chain ended behind each entry."""
        return [end for _, end in self._frames()]

    def append_shut(self, payloads: list[bytes]) -> int:
        """As `append_now`, of entries as they lie in another journal of this key, into one that is shut."""
        self._moving = True
        try:
            return self._write(payloads)
        finally:
            self._moving = False

    @property
    @abstractmethod
    def place(self) -> object:
        """Where it lies, whatever its name there."""

    @property
    @abstractmethod
    def moved(self) -> bool:
        """Whether it was shut, because it lies elsewhere now (`vault.journal.moving`)."""

    @abstractmethod
    def shut(self) -> None:
        """Ends all appending here, by any process, before the next entry. Twice is harmless. Raises `Unavailable`."""

    @abstractmethod
    def reopen(self) -> None:
        """Takes `shut` back. Only right where nothing was appended elsewhere since."""

    def __repr__(self) -> str:
        return f"Journal(at {self._head.number})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a journal does not leave its process; open its place there")


def name_of(digest: bytes) -> str:
    """Under which name the files of a policy version are kept."""
    return f"{POLICIES}/{digest.hex()}{POLICY_SUFFIX}"
