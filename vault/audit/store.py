"""Rows of the audit log. `append` puts an entry into the transaction that it belongs to; the log takes it up once committed.

Numbers are given after commit (see `vault.audit.log`): the order of commits decides, and no gap stays behind a rollback.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from vault.audit.entry import SALT_BYTES, Entry, parse, salted
from vault.crypto.mac import mac, same_code
from vault.ids import random_bytes
from vault.merkle import Node, Place
from vault.storage.session import Connection, Raw, raw

APPEND: Final = "INSERT INTO audit_in (entry_id, leaf, code) VALUES ($1, $2, $3)"
_SALTS: Final = """
INSERT INTO audit_salt (subject_id, entry_id, salt) SELECT subject_id, $1, salt
FROM unnest($2::uuid[], $3::bytea[]) AS n(subject_id, salt) ORDER BY subject_id
"""
_ONE: Final = "SELECT number, entry_id, leaf FROM audit WHERE entry_id = $1"
_RANGE: Final = "SELECT number, entry_id, leaf FROM audit WHERE number >= $1 ORDER BY number LIMIT $2"
_WAITING: Final = "SELECT entry_id, leaf, code FROM audit_in ORDER BY entry_id LIMIT $1"
_SAID: Final = """
SELECT leaf FROM audit WHERE entry_id = $1 UNION ALL SELECT leaf FROM audit_in WHERE entry_id = $1 LIMIT 1
"""
_NODES: Final = """
SELECT level, position, hash FROM audit_node
JOIN unnest($1::smallint[], $2::bigint[]) AS n(level, position) USING (level, position)
"""
_LATEST: Final = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
_CHECKPOINTS: Final = "SELECT size, note FROM checkpoint ORDER BY size"
_LOG: Final = "SELECT value FROM instance WHERE name = 'log'"
_KNOWN: Final = """
SELECT a.number, a.entry_id, a.leaf, s.salt FROM audit_salt s JOIN audit a USING (entry_id)
WHERE s.subject_id = ANY($1::uuid[]) ORDER BY a.number
"""
# Everything of one step of the log, or nothing: whoever lost the lease, or saw another size, writes no row.
_EXTEND: Final = """
WITH held AS MATERIALIZED (
    SELECT FROM lease WHERE name = $1 AND fencing = $2 AND position = $3 FOR UPDATE
), gone AS (
    DELETE FROM audit_in WHERE entry_id = ANY($4::uuid[]) AND EXISTS (SELECT FROM held)
), leaves AS (
    INSERT INTO audit (number, entry_id, leaf)
    SELECT $3 + n.place - 1, n.entry_id, n.leaf
    FROM unnest($4::uuid[], $5::bytea[]) WITH ORDINALITY AS n(entry_id, leaf, place) WHERE EXISTS (SELECT FROM held)
), nodes AS (
    INSERT INTO audit_node (level, position, hash)
    SELECT n.level, n.position, n.hash FROM unnest($6::smallint[], $7::bigint[], $8::bytea[]) AS n(level, position, hash)
    WHERE EXISTS (SELECT FROM held)
), signed AS (
    INSERT INTO checkpoint (size, at, note) SELECT $9, $10, $11 WHERE EXISTS (SELECT FROM held)
), moved AS (
    UPDATE lease SET position = $9, expires_at = greatest(expires_at, $12)
    WHERE name = $1 AND fencing = $2 AND position = $3
)
SELECT count(*) FROM held
"""


class Row(NamedTuple):
    """A leaf in its place."""

    number: int
    entry_id: UUID
    leaf: bytes


class Extension(NamedTuple):
    """One step of the log, ready to be written."""

    size: int  # leaves before it
    entries: Sequence[tuple[UUID, bytes]]
    nodes: Sequence[Node]
    at: int
    note: str


async def append(
    connection: Connection, entry: Entry, key: bytes, subject: UUID | None = None, salt: bytes | None = None
) -> Entry:
    """Adds an entry to the transaction of `connection`; answers it as it is written.

    With `subject` the entry names that person by a salted digest, and the salt (a new one, unless given) is kept with them.
    """
    driver = await raw(connection)
    if subject is not None:
        salt = random_bytes(SALT_BYTES) if salt is None else salt
        entry = msgspec.structs.replace(entry, subject=salted(salt, subject.bytes))
        await keep_salts(driver, entry.entry_id, [(subject, salt)])
    leaf = entry.leaf()
    await driver.execute(APPEND, entry.entry_id, leaf, waiting_code(key, entry.entry_id, leaf))
    return entry


def waiting_code(key: bytes, entry_id: UUID, leaf: bytes) -> bytes:
    """Vouches for an entry until the log has taken it up; `key` is `journal`, which every process has."""
    return mac(key, "audit-in/1", entry_id.bytes, leaf)


async def keep_salts(connection: Connection, entry_id: UUID, salts: Sequence[tuple[UUID, bytes]]) -> None:
    """Keeps the (subject, salt) pairs of an entry with the subjects, so that their erasure takes them along."""
    driver = await raw(connection)
    await driver.execute(_SALTS, entry_id, [subject for subject, _ in salts], [salt for _, salt in salts])


async def find(connection: Connection, entry_id: UUID) -> Row | None:
    """The leaf of an entry, once the log took it up."""
    driver = await raw(connection)
    row = await driver.fetchrow(_ONE, entry_id)
    return None if row is None else Row(*row)


async def said(connection: Connection, entry_id: UUID) -> Entry | None:
    """An entry, taken up or still waiting. Raises `Unreadable` for bytes that are none."""
    driver = await raw(connection)
    leaf = await driver.fetchval(_SAID, entry_id)
    return None if leaf is None else parse(leaf)


async def leaves(connection: Connection, start: int, limit: int) -> list[Row]:
    """Leaves from number `start` on."""
    driver = await raw(connection)
    return [Row(*row) for row in await driver.fetch(_RANGE, start, limit)]


async def about(connection: Connection, subjects: Sequence[UUID]) -> list[tuple[Row, bytes]]:
    """Every leaf that names one of these people, with its salt: for the access answer."""
    driver = await raw(connection)
    return [(Row(*row[:3]), row[3]) for row in await driver.fetch(_KNOWN, list(subjects))]


async def waiting(driver: Raw, limit: int, key: bytes) -> tuple[list[tuple[UUID, bytes]], list[tuple[UUID, bytes]]]:
    """Committed entries that the log did not take up yet; and, apart, those that no process of this vault wrote."""
    good: list[tuple[UUID, bytes]] = []
    forged: list[tuple[UUID, bytes]] = []
    for entry_id, leaf, code in await driver.fetch(_WAITING, limit):
        vouched = code is not None and same_code(code, waiting_code(key, entry_id, leaf))
        (good if vouched else forged).append((entry_id, leaf))
    return good, forged


async def anything_waits(driver: Raw) -> bool:
    """True if some entry waits, whoever wrote it."""
    return bool(await driver.fetchval("SELECT EXISTS (SELECT FROM audit_in)"))


async def drop_forged(driver: Raw, entries: Sequence[UUID]) -> None:
    """Takes entries away that nobody vouches for: the caller says in the log that they were there."""
    await driver.execute("DELETE FROM audit_in WHERE entry_id = ANY($1::uuid[])", list(entries))


async def vouch_waiting(connection: Connection, key: bytes) -> None:
    """Vouches for what waits as it stands: once, for a database from before there were codes."""
    driver = await raw(connection)
    for entry_id, leaf in await driver.fetch("SELECT entry_id, leaf FROM audit_in FOR UPDATE"):
        code = waiting_code(key, entry_id, leaf)
        await driver.execute("UPDATE audit_in SET code = $2 WHERE entry_id = $1", entry_id, code)


async def nodes(connection: Connection, places: Sequence[Place]) -> dict[Place, bytes]:
    """The stored hashes of these complete subtrees; one that is missing is not in the answer."""
    driver = await raw(connection)
    rows = await driver.fetch(_NODES, [place[0] for place in places], [place[1] for place in places])
    return {(row[0], row[1]): row[2] for row in rows}


async def latest_checkpoint(connection: Connection) -> tuple[int, str] | None:
    """(size, note) of the newest checkpoint."""
    driver = await raw(connection)
    row = await driver.fetchrow(_LATEST)
    return None if row is None else (row[0], row[1])


async def checkpoints(connection: Connection) -> list[tuple[int, str]]:
    """(size, note) of every checkpoint, by size."""
    driver = await raw(connection)
    return [(row[0], row[1]) for row in await driver.fetch(_CHECKPOINTS)]


async def log_id(connection: Connection) -> str:
    """The random name of this database's log; it stays for as long as the log."""
    driver = await raw(connection)
    return str(await driver.fetchval(_LOG))


async def extend(driver: Raw, name: str, fencing: int, step: Extension, until: int) -> bool:
    """Writes one step of the log under its lease, and keeps the lease `until` then. False: the lease or the size is lost."""
    held = await driver.fetchval(
        _EXTEND,
        name,
        fencing,
        step.size,
        [entry_id for entry_id, _ in step.entries],
        [leaf for _, leaf in step.entries],
        [node.level for node in step.nodes],
        [node.position for node in step.nodes],
        [node.hash for node in step.nodes],
        step.size + len(step.entries),
        step.at,
        step.note,
        until,
    )
    return bool(held)
