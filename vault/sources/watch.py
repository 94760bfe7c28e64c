"""The tables between a process that takes messages and a command that looks on: who watches, and what it is to be told.

Promises: while nobody watches, the taking side reads one tiny table at most once a second and writes nothing; nothing
outlives a watcher by more than `KEPT`; any number of processes may write and look on, through any pooler (no LISTEN, no
session locks). Must not know: messages, persons.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

from vault.clock import SECOND, Micros
from vault.sources.watched import Body, pack, unpack
from vault.storage.session import Connection, raw

LIFE: Final = Micros(15 * SECOND)  # how long the taking side goes on for a watcher that was killed
LOOK: Final = Micros(1 * SECOND)  # how often the taking side looks who watches
KEPT: Final = Micros(120 * SECOND)  # a body that nobody fetched by then is not looked for any more
# Bodies may become visible out of the order of their times: commits overtake each other, and hosts' clocks differ a little.
OVERLAP: Final = Micros(5 * SECOND)
PAGE: Final = 500  # bodies a read

_RENEW: Final = """
INSERT INTO watch (source_id, watcher, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (source_id, watcher) DO UPDATE SET expires_at = excluded.expires_at
"""
_END: Final = "DELETE FROM watch WHERE source_id = $1 AND watcher = $2"
_SOURCES: Final = "SELECT DISTINCT source_id FROM watch WHERE expires_at > $1"
_TELL: Final = "INSERT INTO watched (source_id, at, body_id, lines) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
_NEWEST: Final = "SELECT at, body_id FROM watched WHERE source_id = $1 AND at >= $2"
_READ: Final = """
SELECT at, body_id, lines FROM watched WHERE source_id = $1 AND at >= $2 AND body_id <> ALL ($3::uuid[])
ORDER BY at, body_id LIMIT $4
"""
_SWEEP: Final = """
WITH over AS (DELETE FROM watch WHERE expires_at <= $1 RETURNING 1),
old AS (DELETE FROM watched WHERE at < $2 RETURNING 1)
SELECT (SELECT count(*) FROM over) + (SELECT count(*) FROM old)
"""


class Told(NamedTuple):
    """What one body became, and when."""

    at: Micros
    body_id: UUID
    body: Body


# --- the side that looks on -----------------------------------------------------------------------------------------


async def renew(connection: Connection, source_id: int, watcher: UUID, now: Micros) -> None:
    """Say that this watcher looks on, for `LIFE` more."""
    await (await raw(connection)).execute(_RENEW, source_id, watcher, now + LIFE)


async def end(connection: Connection, source_id: int, watcher: UUID) -> None:
    """Say that it does not any more."""
    await (await raw(connection)).execute(_END, source_id, watcher)


async def standing(connection: Connection, source_id: int) -> dict[UUID, Micros]:
    """The bodies that are there already, for other watchers: id to time."""
    rows = await (await raw(connection)).fetch(_NEWEST, source_id, 0)
    return {UUID(bytes=row["body_id"].bytes): Micros(row["at"]) for row in rows}


async def read(connection: Connection, source_id: int, seen: Mapping[UUID, Micros]) -> list[Told]:
    """What came since, oldest first. `seen` is all that this watcher was given and has not forgotten (`forget`)."""
    since = max(seen.values(), default=OVERLAP) - OVERLAP
    rows = await (await raw(connection)).fetch(_READ, source_id, since, list(seen), PAGE)
    return [Told(Micros(row["at"]), UUID(bytes=row["body_id"].bytes), unpack(row["lines"])) for row in rows]


def forget(seen: Mapping[UUID, Micros]) -> dict[UUID, Micros]:
    """`seen` without what no read can answer again."""
    since = max(seen.values(), default=Micros(0)) - OVERLAP
    return {body_id: at for body_id, at in seen.items() if at >= since}


# --- the side that takes messages -----------------------------------------------------------------------------------


async def sources(connection: Connection, now: Micros) -> frozenset[int]:
    """The sources that somebody watches now."""
    rows = await (await raw(connection)).fetch(_SOURCES, now)
    return frozenset(row["source_id"] for row in rows)


async def tell(connection: Connection, source_id: int, body_id: UUID, now: Micros, body: Body) -> None:
    """Lay down what a body became, for whoever watches."""
    await (await raw(connection)).execute(_TELL, source_id, now, body_id, pack(body))


async def sweep(connection: Connection, now: Micros) -> int:
    """Remove what nobody looks at any more; answers how many rows."""
    return int(await (await raw(connection)).fetchval(_SWEEP, now, now - KEPT))
