"""The journal in a second PostgreSQL, for vaults on several hosts: the frames of the file, a row each.

The row `head` says where the chain ends; who appends changes it and adds the frames in one statement, so that its lock is
the turn. What a process read before it compares: a row that is missing, edited, swapped or shorter than it was is
`Unreadable`, and then nothing is appended. Rows are vouched for by the codes in the frames, whose key that database does not
hold. A commit whose answer was lost may have happened: its entries are then there though their act was refused, which is
harmless (they only lower). It knows no table of the vault's own database. Schema: docs/formats/journal.md.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

from vault.errors import ConfigError, Unavailable, Unreadable
from vault.journal import frames
from vault.journal.file import FILE
from vault.journal.frames import Head
from vault.journal.head import FILE as HEAD_FILE
from vault.journal.journal import CODE, MAX_POLICY_BYTES, MOVED, POLICIES, POLICY_SUFFIX, Journal, name_of
from vault.storage.aside import PATIENCE, Aside, Whereabouts, whereabouts
from vault.storage.session import Raw

NAME: Final = "journal's database"
BATCH: Final = 5000  # frames a fetch: some megabytes
READING: Final = 120.0  # seconds for the whole chain; at a start, and in `verify`
PROBING: Final = 1.5  # seconds: whoever asks for health must have an answer soon
FORM: Final = 1

# One statement a table: the driver prepares them one by one.
_MAKE: Final = (
    "SELECT pg_advisory_xact_lock(5418273320915)",  # any number of our own; two first starts take turns
    "CREATE SCHEMA IF NOT EXISTS journal",
    "CREATE TABLE IF NOT EXISTS journal.frame (number bigint PRIMARY KEY CHECK (number > 0), bytes bytea NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS journal.head (one boolean PRIMARY KEY CHECK (one), form smallint NOT NULL,
     number bigint NOT NULL, hash bytea NOT NULL, length bigint NOT NULL, moved boolean NOT NULL)
    """,
    "CREATE TABLE IF NOT EXISTS journal.kept (name text PRIMARY KEY, bytes bytea NOT NULL)",
)
_FIRST: Final = "INSERT INTO journal.head VALUES (true, $1, 0, $2, $3, false) ON CONFLICT DO NOTHING"
_THERE: Final = """
SELECT count(*) FROM pg_class WHERE relpersistence = 'p'
 AND oid IN (to_regclass('journal.frame'), to_regclass('journal.head'), to_regclass('journal.kept'))
"""
_HEAD: Final = "SELECT form, number, hash, length, moved FROM journal.head"
_LOCK: Final = "SELECT form, number, hash, length, moved FROM journal.head FOR UPDATE"
# The common way: nobody else appended since. The lock on the row is the turn; who waited for it sees what has changed.
_APPEND: Final = """
WITH turn AS (
  UPDATE journal.head SET number = $4, hash = $5, length = $6
  WHERE form = 1 AND number = $1 AND hash = $2 AND length = $3 AND moved = $9
    AND coalesce((SELECT max(number) FROM journal.frame), 0) = $1
  RETURNING one
)
INSERT INTO journal.frame SELECT f.number, f.bytes FROM unnest($7::bigint[], $8::bytea[]) AS f(number, bytes), turn
"""
_FRAMES: Final = "SELECT number, bytes FROM journal.frame WHERE number >= $1 ORDER BY number LIMIT $2"
_MOVED: Final = "UPDATE journal.head SET moved = $1"
_KEPT: Final = "SELECT bytes FROM journal.kept WHERE name = $1"
_NAMES: Final = "SELECT name FROM journal.kept WHERE starts_with(name, $1) ORDER BY name"
_KEEP: Final = """
INSERT INTO journal.kept VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes
"""
_PLACE: Final = "INSERT INTO journal.kept VALUES ($1, '') ON CONFLICT DO NOTHING"  # so that there is a row to lock


class PostgresJournal(Journal):
    """The journal of one database. Needs no rights but on the schema `journal`; releases need only to read it."""

    def __init__(
        self,
        url: str,
        key: bytes,
        *,
        begin: bool = True,
        shut: bool = False,
        apart_from: Whereabouts | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """`begin`: make what is missing; only right for a database of people that nobody used yet.

        `shut`: open one that was shut, too, to move it. `apart_from`: the database of people. `patience`: seconds that a
        write may take, the way there included. Raises `ConfigError` for a server that is not fit, or the same database;
        `Unavailable` if it does not answer, or there is no journal and none may begin.
        """
        super().__init__(key)
        self._aside = Aside(url, name=NAME, code=CODE, patience=patience)
        try:
            self._place = self._aside.run(whereabouts)
            self._find(apart_from, begin=begin, shut=shut)
        except BaseException:
            self._aside.close()
            raise

    def _find(self, apart_from: Whereabouts | None, *, begin: bool, shut: bool) -> None:
        if self._place == apart_from:
            raise ConfigError(
                "`journal` names the database of the vault itself: what is put back with it remembers nothing; name a database"
                " on another server"
            )
        if not self._aside.run(_there):
            if not begin:
                raise Unavailable("the journal is missing; restore it, or let an officer accept its loss")
            self._aside.run(_begin)
        if self.moved and not shut:
            raise Unavailable(MOVED, code=CODE)

    def probe(self) -> None:
        """One row, within a moment."""
        try:
            self._aside.run(_head, PROBING)
        except Unavailable:
            self._not_taken()
            raise

    @property
    def place(self) -> object:
        """Cluster and database."""
        return self._place

    def within(self, database: Whereabouts) -> bool:
        """Whether it is that database."""
        return self._place == database

    def beside(self, database: Whereabouts) -> bool:
        """Whether both are on one server."""
        return self._place.cluster == database.cluster

    def close(self) -> None:
        """Closes the connection."""
        self._aside.close()

    # --- append -----------------------------------------------------------------------------------------------------

    def _write(self, payloads: list[bytes]) -> int:
        started = time.perf_counter()

        async def job(connection: Raw) -> int:
            return await self._append(connection, payloads)

        try:
            last = self._aside.run(job)
        except Unavailable:
            self._not_taken()
            raise
        if payloads:
            self._taken(started)
        return last

    async def _append(self, connection: Raw, payloads: list[bytes]) -> int:
        if payloads and await self._put(connection, payloads):
            return self._head.number
        await self._catch_up(connection)  # most of it without the lock
        async with connection.transaction():
            end = _checked(await connection.fetchrow(_LOCK), moving=self._moving)
            await self._catch_up(connection)
            if self._head != end:
                raise Unreadable("the journal does not end where its head says")
            if payloads and not await self._put(connection, payloads):
                raise Unreadable("the journal does not end where its head says")
        return self._head.number

    async def _put(self, connection: Raw, payloads: list[bytes]) -> bool:
        """Appends behind what this process knows; False if that is not the end. Raises ValueError for an entry too large."""
        before = head = self._head
        numbers, rows = [], []
        for payload in payloads:
            whole, head = frames.frame(head, payload, self._key)
            numbers.append(head.number)
            rows.append(whole)
        done = await connection.execute(_APPEND, *before, *head, numbers, rows, self._moving)
        if done != f"INSERT 0 {len(rows)}":
            return False
        self._head = head
        return True

    async def _catch_up(self, connection: Raw) -> None:
        """Reads what others appended since, behind the last frame that this process knows, which must still be there."""
        if self._head.number:
            known = await connection.fetch(_FRAMES, self._head.number, 1)
            if not known or hashlib.sha256(known[0]["bytes"]).digest() != self._head.hash:
                raise Unreadable("the journal is shorter than it was, or another one")
        while rows := await connection.fetch(_FRAMES, self._head.number + 1, BATCH):
            for _, head in _chain(rows, self._head, self._key):
                self._head = head

    # --- read -------------------------------------------------------------------------------------------------------

    def _frames(self) -> Iterator[tuple[bytes, Head]]:
        """All rows of one moment, and the head that they must come to. Nothing is answered before the chain was checked."""
        known = self._head  # before the snapshot is taken: this process may append behind it
        end, rows = self._aside.once(_snapshot, READING)
        found = _chain(rows, frames.START, self._key)
        if (found[-1][1] if found else frames.START) != end:
            raise Unreadable("the journal does not end where its head says")
        if known.number and (end.number < known.number or found[known.number - 1][1] != known):
            raise Unreadable("the journal is shorter than it was, or another one")
        if end.number > self._head.number:
            self._head = end  # so that the first act need not read it all again
        return iter(found)

    # --- beside it --------------------------------------------------------------------------------------------------

    def kept(self, name: str, limit: int) -> bytes | None:
        """The bytes of the row of that name."""

        async def job(connection: Raw) -> bytes | None:
            return _bytes(await connection.fetchval(_KEPT, name), limit)

        return self._aside.run(job)

    def keep(self, name: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        """Under the lock of its row, so that processes take turns."""

        async def job(connection: Raw) -> None:
            async with connection.transaction():
                await connection.execute(_PLACE, name)
                data = change(_bytes(await connection.fetchval(_KEPT + " FOR UPDATE", name), limit))
                if data is not None:
                    await connection.execute(_KEEP, name, data)

        self._aside.run(job)

    def policies(self) -> list[bytes]:
        """By the names of their rows."""

        async def job(connection: Raw) -> list[bytes]:
            rows = await connection.fetch(_NAMES, f"{POLICIES}/")
            return [bytes.fromhex(row["name"][len(POLICIES) + 1 : -len(POLICY_SUFFIX)]) for row in rows]

        return self._aside.run(job)

    def copied(self) -> dict[str, bytes]:
        """As the folder would hold it."""
        _, rows = self._aside.once(_snapshot, READING)
        found = {FILE: frames.MAGIC + b"".join(row["bytes"] for row in rows)}
        for name in (HEAD_FILE, *map(name_of, self.policies())):
            data = self.kept(name, MAX_POLICY_BYTES)
            if data is not None:
                found[name] = data
        return found

    # --- moving -----------------------------------------------------------------------------------------------------

    @property
    def moved(self) -> bool:
        """What the head's row says."""
        return bool(self._aside.run(_head)["moved"])

    def shut(self) -> None:
        """By a mark on the head, behind whoever holds it."""
        self._mark(shut=True)

    def reopen(self) -> None:
        """By taking the mark away."""
        self._mark(shut=False)

    def _mark(self, *, shut: bool) -> None:
        async def job(connection: Raw) -> None:
            await connection.execute(_MOVED, shut)

        self._aside.run(job)


async def _there(connection: Raw) -> bool:
    """Whether all three tables are, as ones that survive a crash of the server."""
    return int(await connection.fetchval(_THERE)) == 3


async def _begin(connection: Raw) -> None:
    async with connection.transaction():
        for statement in _MAKE:
            await connection.execute(statement)
        await connection.execute(_FIRST, FORM, frames.START.hash, frames.START.length)


async def _head(connection: Raw) -> Any:
    row = await connection.fetchrow(_HEAD)
    if row is None:
        raise Unreadable("the journal has no head")
    return row


async def _snapshot(connection: Raw) -> tuple[Head, list[Any]]:
    rows: list[Any] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await _head(connection)
        while more := await connection.fetch(_FRAMES, len(rows) + 1, BATCH):
            rows += more
    return _head_of(row), rows


def _checked(row: Any, *, moving: bool) -> Head:
    """Where the chain ends. Raises `Unavailable` for a journal that lies elsewhere now."""
    if row is None:
        raise Unreadable("the journal has no head")
    if row["moved"] and not moving:
        raise Unavailable(MOVED, code=CODE)
    return _head_of(row)


def _head_of(row: Any) -> Head:
    if row["form"] != FORM:
        raise Unreadable("the journal has the form of another release")
    return Head(row["number"], bytes(row["hash"]), row["length"])


def _chain(rows: list[Any], head: Head, key: bytes) -> list[tuple[bytes, Head]]:
    """The payloads of these rows, which must be the frames that follow `head`, one each. Raises `Unreadable`."""
    found = list(frames.read(b"".join(row["bytes"] for row in rows), head, key))
    ends = [end.length for _, end in found]
    lengths = [after - before for before, after in pairwise([head.length, *ends])]
    if [(end.number, length) for (_, end), length in zip(found, lengths, strict=True)] != [
        (row["number"], len(row["bytes"])) for row in rows
    ]:
        raise Unreadable("the journal has lost a row, or one was changed")
    return found


def _bytes(stored: bytes | None, limit: int) -> bytes | None:
    if not stored:
        return None
    if len(stored) > limit:
        raise Unreadable
    return bytes(stored)
