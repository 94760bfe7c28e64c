"""The database, read by its own catalogue: a table that is new tomorrow is looked at tomorrow, without a line here.

`by_index` looks where an index leads straight to an id or a tag: cheap whatever the size, and complete for all that is
keyed by a person. `whole` reads every row of every table, in pieces, so that no statement holds an old snapshot for long;
a row that somebody writes meanwhile may be passed by. Dead rows and the write-ahead log cannot be read by SQL: see
docs/how-to/prove-an-erasure.md. What this process may not read is said, never passed over.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from vault.flows.residue.needles import Needles, Pattern
from vault.flows.residue.verdict import OTHERS, SAMPLED, STATISTICS, Found, judge
from vault.storage.session import Database, Raw

PIECE: Final = 8192  # blocks a statement: 64 MB
NOT_READABLE: Final = "this process may not read it"

# Every column of every table of ours, with what leads to it. `owned`: the row says whose it is.
_COLUMNS: Final = """
SELECT n.nspname || '.' || c.relname AS place, a.attname AS name, format('%I.%I', n.nspname, c.relname) AS relation,
    quote_ident(a.attname) AS quoted, t.typname AS type, t.typcategory IN ('N', 'B', 'D') AS number,
    has_table_privilege(c.oid, 'SELECT') AS open,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid) AS leads,
    a.attname <> 'subject_id' AND EXISTS (SELECT FROM pg_attribute s
        WHERE s.attrelid = c.oid AND s.attname = 'subject_id' AND NOT s.attisdropped) AS owned,
    pg_relation_size(c.oid) / current_setting('block_size')::bigint AS blocks
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, a.attnum
"""
_SAMPLES: Final = """
SELECT concat_ws(E'\\n', most_common_vals::text, histogram_bounds::text, most_common_elems::text) FROM pg_stats
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
_STATEMENTS: Final = "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
# The driver sends arrays of any length; a plan that knows them looks each row up in a hash of them.
_PLANNED: Final = "SET LOCAL plan_cache_mode = force_custom_plan"


class Column(NamedTuple):
    """One column, named as it must be quoted."""

    place: str
    name: str
    relation: str
    quoted: str
    type: str
    number: bool
    open: bool
    leads: bool
    owned: bool
    blocks: int

    @property
    def store(self) -> str:
        """How a report names it."""
        return f"{self.place}.{self.name}"


class Looked(NamedTuple):
    """What was found in the database, how much was looked at, and what was not."""

    found: list[Found]
    at: dict[str, int]
    not_at: list[tuple[str, str]]


async def by_index(driver: Raw, needles: Needles, *, waiting: bool) -> Looked:
    """Where an index leads. Runs in the caller's transaction, and costs the same for any number of people and events."""
    columns = await _columns(driver)
    readable = [one for one in columns if one.open and one.leads and one.type in {"uuid", "bytea"}]
    bare = Needles(
        source=needles.source, subjects=needles.subjects, tags=needles.tags, compartments=needles.compartments
    )
    found = await _exact(driver, readable, bare, waiting=waiting)
    found += await _not_bare(driver, columns, needles)
    at = {"tables": len({one.place for one in readable}), "columns": len(readable)}
    return Looked(found, at, _closed(columns))


async def whole(database: Database, needles: Needles, *, waiting: bool) -> Looked:
    """Every row of every table, the planner's samples, and the statements that are running."""
    pattern = Pattern(needles)
    async with _planned(database) as driver:
        columns = await _columns(driver)
        readable = [one for one in columns if one.open]
        exact = [one for one in readable if one.type in {"uuid", "bytea"}]
        found = await _exact(driver, exact, needles, waiting=waiting)
        found += await _not_bare(driver, columns, needles)
    size = 0
    for relation in dict.fromkeys(one.relation for one in readable):
        of_table = [one for one in readable if one.relation == relation]
        hit, read = await _stream(database, of_table[0], pattern)
        size += read
        if hit:
            async with _planned(database) as driver:
                found += await _within(driver, of_table, needles, pattern, waiting=waiting)
    found += await _beside(database, pattern)
    at = {"tables": len({one.place for one in readable}), "columns": len(readable), "bytes": size}
    return Looked(found, at, _closed(columns))


async def _columns(driver: Raw) -> list[Column]:
    return [Column(*row) for row in await driver.fetch(_COLUMNS)]


def _closed(columns: Sequence[Column]) -> list[tuple[str, str]]:
    return [(place, NOT_READABLE) for place in dict.fromkeys(one.place for one in columns if not one.open)]


@asynccontextmanager
async def _planned(database: Database) -> AsyncIterator[Raw]:
    async with database.snapshot() as driver:
        await driver.execute(_PLANNED)
        yield driver


# --- columns that hold an id or a tag as a whole ----------------------------------------------------------------------


async def _exact(driver: Raw, columns: Sequence[Column], needles: Needles, *, waiting: bool) -> list[Found]:
    """One statement over all of them: how many rows are the person's, and how many another's with the same identifier."""
    if not columns:
        return []
    query = "\nUNION ALL ".join(_counting(number, one) for number, one in enumerate(columns))
    ids = [*needles.compartments, *needles.event_keys]
    found = []
    for number, theirs, others in await driver.fetch(query, list(needles.subjects), list(needles.tags), ids):
        if theirs:
            found.append(judge(columns[number].store, theirs, waiting=waiting))
        if others:
            found.append(Found(columns[number].store, others, OTHERS))
    return found


def _counting(number: int, one: Column) -> str:
    """Names come from the server's catalogue, quoted by it."""
    hit = "{0} = ANY ($1::uuid[])" if one.type == "uuid" else "({0} = ANY ($2::bytea[]) OR {0} = ANY ($3::bytea[]))"
    hit = hit.format(one.quoted)
    another = f"{one.quoted} = ANY ($2::bytea[]) AND NOT subject_id = ANY ($1::uuid[])" if _tagged(one) else "false"
    return (
        f"SELECT {number}, count(*) FILTER (WHERE NOT ({another})), count(*) FILTER (WHERE {another})"  # noqa: S608
        f" FROM {one.relation} WHERE {hit}"
    )


def _tagged(one: Column) -> bool:
    return one.owned and one.type == "bytea"


async def _not_bare(driver: Raw, columns: Sequence[Column], needles: Needles) -> list[Found]:
    """What recipients hold must not stand there any more, though the bare row may."""
    if not any(one.store == "public.disclosure_state.fields" and one.open for one in columns):
        return []
    query = """
    SELECT count(*) FROM disclosure_state
    WHERE subject_id = ANY ($1::uuid[]) AND (fields <> ''::bytea OR gone <> ''::bytea)
    """
    rows = await driver.fetchval(query, list(needles.subjects))
    return [Found("public.disclosure_state.fields", rows)] if rows else []


# --- everything else ---------------------------------------------------------------------------------------------------


async def _stream(database: Database, table: Column, pattern: Pattern) -> tuple[bool, int]:
    """Reads a table as the server sends it, in pieces. Is any of the needles in it, in any form? And how much it was."""
    hit, size, tail = False, 0, b""

    async def take(data: bytes) -> None:
        nonlocal hit, size, tail
        size += len(data)
        blob = tail + data
        hit = hit or pattern.found(blob)
        tail = blob[-pattern.longest :]

    for start in range(0, table.blocks + 1, PIECE):
        # the last piece is open, since the table may have grown
        end = f" AND ctid < '({start + PIECE},0)'" if start + PIECE <= table.blocks else ""
        query = f"SELECT * FROM {table.relation} WHERE ctid >= '({start},0)'{end}"  # noqa: S608 - names from the catalogue
        async with database.hot() as driver:
            await driver.copy_from_query(query, output=take, format="binary")
    return hit, size


async def _within(
    driver: Raw, columns: Sequence[Column], needles: Needles, pattern: Pattern, *, waiting: bool
) -> list[Found]:
    """In which columns of a table that has a hit it is, beside those that `_exact` counted."""
    found = []
    tags, ids = list(needles.tags), [*needles.compartments, *needles.event_keys]
    for one in columns:
        if one.number or one.type == "uuid":
            continue
        content = one.quoted if one.type == "bytea" else f"convert_to({one.quoted}::text, 'UTF8')"
        known = f" AND NOT ({one.quoted} = ANY ($2::bytea[]) OR {one.quoted} = ANY ($3::bytea[]))"
        known = known if one.type == "bytea" else " AND ($2::bytea[], $3::bytea[]) IS NOT NULL"
        query = f"""
        SELECT count(*) FROM {one.relation}
        WHERE EXISTS (SELECT FROM unnest($1::bytea[]) AS p(needle) WHERE position(needle IN {content}) > 0){known}
        """  # noqa: S608 - names from the catalogue
        rows = await driver.fetchval(query, pattern.every, tags, ids)
        if rows:
            found.append(judge(one.store, rows, waiting=waiting))
    return found


async def _beside(database: Database, pattern: Pattern) -> list[Found]:
    """What the server keeps beside tables: samples of columns for its planner, and the statements that it runs."""
    async with database.hot() as driver:
        samples: list[Any] = await driver.fetch(_SAMPLES)
        statements: list[Any] = await driver.fetch(_STATEMENTS)
    sampled = sum(pattern.found(row[0].encode()) for row in samples)
    running = sum(pattern.found((row[0] or "").encode()) for row in statements)
    found = [Found(STATISTICS, sampled, SAMPLED)] if sampled else []
    return found + ([Found("running statements", running)] if running else [])
