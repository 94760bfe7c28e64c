"""The tables of sources and of what was dropped. A write key is kept as its SHA-256 only, and found by that hash.

Promises: a key is told once, to whoever adds the source; nothing here can print it again. A write key has 256 random
bits, so a plain hash cannot be searched backwards, and an index lookup by hash leaks nothing useful by its time.
Must not know: messages, persons.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.crypto.rowcode import SOURCE, row_code, vouched
from vault.errors import Conflict, Forged, NotFound
from vault.ids import random_token
from vault.naming import check_name
from vault.sources.dropped import Drop, DropCount
from vault.storage.parties import dropped, source
from vault.storage.session import Connection, raw

KEY_PREFIX: Final = "pvw_"  # lets secret scanners and people see what was leaked
MAX_NAMES_A_DAY: Final = 1000  # a source that makes up names must not fill the disk; a real tracking plan has tens
MORE_NAMES: Final = "(more names)"

# One statement: names already counted today go on; new ones past the cap are counted together.
_COUNT: Final = text("""
INSERT INTO dropped (source_id, day, type, name, reason, count)
SELECT :source_id, :day, fitted.type, fitted.name, fitted.reason, sum(fitted.count)
FROM (
  SELECT said.type, said.reason, said.count,
    CASE WHEN held.total < :cap OR EXISTS (
      SELECT 1 FROM dropped d WHERE d.source_id = :source_id AND d.day = :day
        AND d.type = said.type AND d.name = said.name AND d.reason = said.reason
    ) THEN said.name ELSE :more END AS name
  FROM unnest(CAST(:types AS text[]), CAST(:names AS text[]), CAST(:reasons AS text[]), CAST(:counts AS bigint[]))
    AS said(type, name, reason, count),
    (SELECT count(*) AS total FROM dropped d WHERE d.source_id = :source_id AND d.day = :day) AS held
) AS fitted
GROUP BY fitted.type, fitted.name, fitted.reason
ORDER BY fitted.type, fitted.name, fitted.reason
ON CONFLICT (source_id, day, type, name, reason) DO UPDATE SET count = dropped.count + excluded.count
""").bindparams(cap=MAX_NAMES_A_DAY, more=MORE_NAMES)


class Source(msgspec.Struct, frozen=True):
    """An app that writes. `server` tells its class: a server source may say more than a client source (design section 6)."""

    source_id: int
    name: str
    server: bool


class SourceRow(msgspec.Struct, frozen=True):
    """A source as operators see it in a list. Times are microseconds since 1970 UTC."""

    source: Source
    created_at: Micros
    disabled_at: Micros | None


def key_hash(write_key: str) -> bytes:
    """SHA-256 of a write key: the only form in which it is stored."""
    return hashlib.sha256(write_key.encode("utf-8", "surrogatepass")).digest()


async def add(connection: AsyncConnection, name: str, *, server: bool, now: Micros, key: bytes) -> tuple[Source, str]:
    """Make a source and its write key, which is in the answer and nowhere else. `key` here and below: the one named `rows`.

    Raises:
        Invalid: the name is not fit. Conflict: the name is taken.
    """
    check_name(name)
    write_key = KEY_PREFIX + random_token()
    if await find(connection, name) is not None:
        raise Conflict("A source of that name exists; choose another, or look at `profile-vault sources list`.")
    statement = (
        insert(source)
        .values(name=name, server=server, key_hash=key_hash(write_key), created_at=now)
        .returning(source.c.source_id)
    )
    # two operators at once: the unique name decides, and the session makes a Conflict of it
    source_id = int((await connection.execute(statement)).scalar_one())
    await _vouch(connection, [source_id], key)
    return Source(source_id, name, server), write_key


_ROW: Final = "SELECT source_id, name, server, key_hash, created_at, disabled_at, code FROM source"
_BY_KEY: Final = _ROW + " WHERE key_hash = $1"
_SOME: Final = _ROW + " WHERE source_id = ANY ($1::int[]) FOR UPDATE"
_ALL: Final = "SELECT source_id FROM source"
_CODE: Final = "UPDATE source SET code = $2 WHERE source_id = $1"


async def by_write_key(connection: Connection, write_key: str, key: bytes) -> Source | None:
    """The enabled source of this write key, or None for a key that is unknown or whose source is disabled.

    Asked with every call. Raises `Forged` for a row that nobody with the key wrote.
    """
    driver = await raw(connection)
    row = await driver.fetchrow(_BY_KEY, key_hash(write_key))
    if row is None:
        return None
    if not vouched(row[6], key, SOURCE, *row[:6]):
        raise Forged("source", row[3])
    return None if row[5] is not None else Source(row[0], row[1], row[2])


async def find(connection: AsyncConnection, name: str) -> Source | None:
    """The source of this name, disabled or not."""
    row = (await connection.execute(select(source).where(source.c.name == name))).one_or_none()
    return None if row is None else _source(row)


async def get(connection: AsyncConnection, name: str, key: bytes) -> Source:
    """The enabled source of this name. Raises NotFound, with the names of commands that help, and `Forged`."""
    row = (await connection.execute(select(source).where(source.c.name == name))).one_or_none()
    if row is not None and not vouched(row.code, key, SOURCE, *row[:6]):
        raise Forged("source", row.key_hash)
    if row is None or row.disabled_at is not None:
        raise NotFound("No such source; `profile-vault sources list` names them, `sources add` makes one.")
    return _source(row)


async def adopt(connection: Connection, key: bytes) -> int:
    """Vouches for every row as it stands: once, for a database from before there were codes. Counts them."""
    driver = await raw(connection)
    return await _vouch(driver, [row[0] for row in await driver.fetch(_ALL)], key)


async def _vouch(connection: Connection, sources: list[int], key: bytes) -> int:
    driver = await raw(connection)
    for row in await driver.fetch(_SOME, sources):
        await driver.execute(_CODE, row[0], row_code(key, SOURCE, *row[:6]))
    return len(sources)


async def everyone(connection: AsyncConnection) -> list[SourceRow]:
    """All sources by name, disabled ones too."""
    rows = (await connection.execute(select(source).order_by(source.c.name))).all()
    return [SourceRow(_source(row), Micros(row.created_at), _time(row.disabled_at)) for row in rows]


async def disable(connection: AsyncConnection, name: str, *, now: Micros, key: bytes) -> None:
    """Refuse this source's write key from the commit on. Raises NotFound; disabling twice changes nothing."""
    found = await find(connection, name)
    if found is None:
        raise NotFound("No such source; `profile-vault sources list` names them.")
    statement = update(source).where(source.c.source_id == found.source_id, source.c.disabled_at.is_(None))
    await connection.execute(statement.values(disabled_at=now))
    await _vouch(connection, [found.source_id], key)


async def count_dropped(connection: AsyncConnection, source_id: int, day: int, counts: Mapping[Drop, int]) -> None:
    """Add to the counters of one day (days since 1970-01-01 UTC). Nothing to count costs nothing.

    The rows are written in the order of their key, so that two batches never wait for each other in a circle.
    """
    if not counts:
        return
    ordered = sorted(counts.items())
    values = {
        "source_id": source_id,
        "day": day,
        "types": [drop.type for drop, _ in ordered],
        "names": [drop.name for drop, _ in ordered],
        "reasons": [drop.reason for drop, _ in ordered],
        "counts": [count for _, count in ordered],
    }
    await connection.execute(_COUNT, values)


async def read_dropped(connection: AsyncConnection, source_id: int, *, since_day: int = 0) -> list[DropCount]:
    """What was dropped from that day on, the most frequent first."""
    total = func.sum(dropped.c.count).label("total")
    key = (dropped.c.type, dropped.c.name, dropped.c.reason)
    statement = (
        select(*key, total, func.min(dropped.c.day).label("first_day"), func.max(dropped.c.day).label("last_day"))
        .where(dropped.c.source_id == source_id, dropped.c.day >= since_day)
        .group_by(*key)
        .order_by(total.desc(), *key)
    )
    rows = (await connection.execute(statement)).all()
    return [DropCount(row.type, row.name, row.reason, int(row.total), row.first_day, row.last_day) for row in rows]


def _source(row: Row[Any]) -> Source:
    return Source(int(row.source_id), str(row.name), bool(row.server))


def _time(value: object) -> Micros | None:
    return Micros(value) if isinstance(value, int) else None
