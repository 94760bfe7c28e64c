"""The one statement that writes people: ingest, choices and merges all commit through it.

It is the only SQL that spans rooms. It first locks the state rows that the decision rested on, in order, and compares
their versions; a group of people of which any row has moved on, or of which a message or an identifier is known already,
writes nothing and is returned, to be decided again (design section 13). A race for a new identifier or a message id that
nobody could see yet breaks a unique key and takes the whole statement back: `Raced` is raised, and the caller reads anew
in a new statement.

Values arrive here sealed. The text is put together from the constants below, by which tables have rows: never from data.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from vault.storage.session import Raw


class Raced(Exception):
    """Somebody else wrote one of these identifiers or messages first. Nothing was written; read again."""


class Expected(NamedTuple):
    """A state row that the decision rested on."""

    subject_id: UUID
    group: int
    version: int


class SubjectRow(NamedTuple):
    """A state row to write. `fresh` inserts."""

    subject_id: UUID
    group: int
    root: UUID
    version: int
    state: bytes
    fresh: bool


class Rows(NamedTuple):
    """Rows of one table as tuples in the order of its columns below, each led by its group."""

    keys: list[tuple[int, UUID, int, bytes]]
    seen_keys: list[tuple[int, UUID, bytes]]  # SHA-256 of a row of wraps that is replaced: it must still be that one
    compartments: list[tuple[int, UUID, int, int, bytes, int, bytes]]
    destroyed: list[tuple[int, UUID, int, int]]
    events: list[tuple[int, UUID, bytes, int, int, int, int, int, bytes]]
    ledger: list[tuple[int, UUID, int, bytes, bytes | None]]
    identity: list[tuple[int, bytes, UUID]]
    identifiers: list[tuple[int, UUID, bytes, int, int, int, bool]]
    links: list[tuple[int, UUID, UUID, bytes, int, int, int, bool, int]]
    dedup: list[tuple[int, bytes, bytes, int]]
    changes: list[tuple[int, UUID]]
    due: list[tuple[int, int, UUID, int]]
    audit: list[tuple[int, UUID, bytes, UUID | None, bytes]]
    no_grave: list[tuple[int, bytes]]  # tombstone tags that must still not exist
    accounts: list[tuple[int, UUID, bytes, bytes, int, int]]

    @classmethod
    def none(cls) -> "Rows":
        """No rows at all."""
        return cls([], [], [], [], [], [], [], [], [], [], [], [], [], [], [])

    def take(self, others: "Rows", group: int) -> None:
        """Add the rows of one subject under the group that it ended in."""
        tables: Iterable[tuple[list[Any], list[Any]]] = zip(self, others, strict=True)
        for mine, theirs in tables:
            if theirs:
                mine.extend([(group, *row[1:]) for row in theirs])


NO_GROUP: Final = -1  # rows that belong to nobody, such as the dedup row of a message that named no known person

# --- the statement ----------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One table of the statement: its columns as `unnest` gives them, the group first, and what is done with them."""

    columns: tuple[tuple[str, str], ...]  # (name, type)
    lost: str = ""  # a select of the groups that lose by these rows
    act: str = ""  # an insert, update or delete; a WHERE that leaves the losers out follows
    after: str = ""  # what follows that WHERE


_WANT: Final = _Part(
    (("subject_id", "uuid"), ("grp", "int"), ("version", "bigint")),
    # Missing rows are looked for only when the count says that one is.
    lost="""SELECT grp FROM held WHERE version <> expected
    UNION ALL SELECT w.grp FROM {rows} AS w({names})
    WHERE (SELECT count(*) FROM held) < {count} AND NOT EXISTS (SELECT FROM held h WHERE h.subject_id = w.subject_id)""",
)
_UPDATED: Final = _Part(
    (("subject_id", "uuid"), ("grp", "int"), ("root", "uuid"), ("version", "bigint"), ("state", "bytea")),
    act="UPDATE subject s SET root = n.root, version = n.version, state = n.state FROM {rows} AS n({names}) "
    "WHERE s.subject_id = n.subject_id AND",
)
_CREATED: Final = _Part(
    _UPDATED.columns,
    act="INSERT INTO subject (subject_id, root, version, state) SELECT subject_id, root, version, state "
    "FROM {rows} AS n({names}) WHERE",
)


def _insert(table: str, *columns: tuple[str, str], lost: str = "", after: str = "") -> _Part:
    names = ", ".join(name for name, _ in columns)
    act = f"INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS n({{names}}) WHERE"  # noqa: S608 (constants)
    return _Part((("grp", "int"), *columns), lost, act, after)


_PARTS: Final[dict[str, _Part]] = {
    "want": _WANT,
    "updated": _UPDATED,
    "created": _CREATED,
    "keys": _insert(
        "keys.subject_key",
        ("subject_id", "uuid"),
        ("version", "int"),
        ("wraps", "bytea"),
        after="ON CONFLICT (subject_id) DO UPDATE SET version = EXCLUDED.version, wraps = EXCLUDED.wraps",
    ),
    "seen_keys": _Part(
        (("grp", "int"), ("subject_id", "uuid"), ("digest", "bytea")),
        lost="SELECT n.grp FROM {rows} AS n({names}) JOIN keys.subject_key k USING (subject_id) "
        "WHERE sha256(k.wraps) <> n.digest",
    ),
    "filled": _insert(
        "compartment",
        ("subject_id", "uuid"),
        ("purposes", "bigint"),
        ("generation", "smallint"),
        ("compartment_id", "bytea"),
        ("version", "int"),
        ("fields", "bytea"),
    ),
    "refilled": _Part(
        (
            ("grp", "int"),
            ("subject_id", "uuid"),
            ("purposes", "bigint"),
            ("generation", "smallint"),
            ("version", "int"),
            ("fields", "bytea"),
        ),
        act="UPDATE compartment c SET version = n.version, fields = n.fields FROM {rows} AS n({names}) "
        "WHERE c.subject_id = n.subject_id AND c.purposes = n.purposes AND c.generation = n.generation AND",
    ),
    "destroyed": _Part(
        (("grp", "int"), ("subject_id", "uuid"), ("purposes", "bigint"), ("generation", "smallint")),
        act="DELETE FROM compartment c USING {rows} AS n({names}) "
        "WHERE c.subject_id = n.subject_id AND c.purposes = n.purposes AND c.generation = n.generation AND",
    ),
    "events": _insert(
        "event",
        ("subject_id", "uuid"),
        ("event_key", "bytea"),
        ("purposes", "bigint"),
        ("generation", "smallint"),
        ("at", "bigint"),
        ("received_at", "bigint"),
        ("kind", "int"),
        ("ct", "bytea"),
    ),
    "ledger": _insert("ledger", ("subject_id", "uuid"), ("sequence", "int"), ("entry", "bytea"), ("evidence", "bytea")),
    "identity": _insert(
        "identity",
        ("tag", "bytea"),
        ("subject_id", "uuid"),
        lost="SELECT n.grp FROM {rows} AS n({names}) JOIN identity USING (tag)",
    ),
    "identifiers": _insert(
        "identifier",
        ("subject_id", "uuid"),
        ("tag", "bytea"),
        ("kind", "smallint"),
        ("source_id", "int"),
        ("first_at", "bigint"),
        ("confirmed", "bool"),
    ),
    "links": _insert(
        "link",
        ("subject_id", "uuid"),
        ("root", "uuid"),
        ("event_key", "bytea"),
        ("source_id", "int"),
        ("rule", "smallint"),
        ("kind", "smallint"),
        ("confirmed", "bool"),
        ("at", "bigint"),
        after="ON CONFLICT DO NOTHING",
    ),
    "accounts": _insert(
        "membership",
        ("subject_id", "uuid"),
        ("tag", "bytea"),
        ("event_key", "bytea"),
        ("source_id", "int"),
        ("at", "bigint"),
        after="ON CONFLICT DO NOTHING",
    ),
    "dedup": _insert(
        "dedup",
        ("event_key", "bytea"),
        ("digest", "bytea"),
        ("day", "int"),
        lost="SELECT n.grp FROM {rows} AS n({names}) JOIN dedup USING (event_key)",
    ),
    "changes": _insert("change_in", ("subject_id", "uuid")),
    "due": _insert(
        "due", ("at", "bigint"), ("subject_id", "uuid"), ("what", "smallint"), after="ON CONFLICT DO NOTHING"
    ),
    "audit": _insert("audit_in", ("entry_id", "uuid"), ("leaf", "bytea")),
    "salts": _insert("audit_salt", ("subject_id", "uuid"), ("entry_id", "uuid"), ("salt", "bytea")),
    "no_grave": _Part(
        (("grp", "int"), ("tag", "bytea")), lost="SELECT n.grp FROM {rows} AS n({names}) JOIN tombstone USING (tag)"
    ),
}

_HELD: Final = """held AS MATERIALIZED (
    SELECT w.grp, w.subject_id, w.version AS expected, s.version FROM {rows} AS w({names})
    JOIN subject s ON s.subject_id = w.subject_id ORDER BY s.subject_id FOR NO KEY UPDATE OF s
)"""
_WON: Final = "grp <> ALL (ARRAY(SELECT grp FROM lost))"
_NONE: Final = "SELECT NULL::int AS grp WHERE false"


@lru_cache(maxsize=512)  # by which tables have rows: some dozens of sets come up
def _statement(tables: tuple[str, ...]) -> str:
    """The statement that writes these tables. Its parameters are their columns, in order; of `want` also the count."""
    heads: list[str] = []
    losses: list[str] = []
    acts: list[str] = []
    number = 1
    for table in tables:
        part = _PARTS[table]
        arrays = []
        for _, type_ in part.columns:
            # Bytes travel as they are; the rest as the text of an array, which is cheaper to send than its elements.
            arrays.append(f"${number}::bytea[]" if type_ == "bytea" else f"${number}::text::{type_}[]")
            number += 1
        names = ", ".join(name for name, _ in part.columns)
        filled = {"rows": f"unnest({', '.join(arrays)})", "names": names, "count": f"${number}::int"}
        if table == "want":
            heads.append(_HELD.format(**filled))
            number += 1
        if part.lost:
            losses.append(part.lost.format(**filled))
        if part.act:
            acts.append(f"w_{table} AS ({part.act.format(**filled)} {_WON} {part.after})")
    lost = f"lost AS MATERIALIZED ({' UNION '.join(losses) or _NONE})"
    return f"WITH {', '.join([*heads, lost, *acts])} SELECT grp FROM lost"  # noqa: S608 (constants of this module)


# --- its arguments ----------------------------------------------------------------------------------------------------


def _numbers(column: Sequence[int]) -> str:
    return "{" + ",".join(map(str, column)) + "}"


def _uuids(column: Sequence[UUID]) -> str:
    return "{" + ",".join([one.hex for one in column]) + "}"


def _flags(column: Sequence[bool]) -> str:
    return "{" + ",".join(["t" if one else "f" for one in column]) + "}"


_SENT: Final[dict[str, Callable[[Any], Any]]] = {"uuid": _uuids, "bool": _flags, "bytea": list}


def _subject(row: Sequence[Any]) -> int:
    """Rows are locked and written in the order in which PostgreSQL has UUIDs, too."""
    return int(row[0].int)


def _arguments(table: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    columns = zip(*rows, strict=True)
    return [_SENT.get(type_, _numbers)(next(columns)) for _, type_ in _PARTS[table].columns]


async def write(connection: Raw, expected: Sequence[Expected], subjects: Sequence[SubjectRow], rows: Rows) -> set[int]:
    """Write all groups whose state rows are still as expected; return the groups that lost and must be decided again.

    Durable when it returns: one autocommitted statement. Raises `Raced` when a unique key was taken meanwhile.
    """
    tables: list[tuple[str, Sequence[Sequence[Any]]]] = [
        ("want", sorted(expected, key=_subject)),
        ("updated", sorted([row[:5] for row in subjects if not row[5]], key=_subject)),
        ("created", sorted([row[:5] for row in subjects if row[5]], key=_subject)),
        ("keys", rows.keys),
        ("seen_keys", rows.seen_keys),
        ("filled", [row for row in rows.compartments if row[5] == 1]),
        ("refilled", [(*row[:4], *row[5:]) for row in rows.compartments if row[5] != 1]),
        ("destroyed", rows.destroyed),
        ("events", rows.events),
        ("ledger", rows.ledger),
        ("identity", rows.identity),
        ("identifiers", rows.identifiers),
        ("links", rows.links),
        ("dedup", rows.dedup),
        ("changes", rows.changes),
        ("due", rows.due),
        ("audit", [row[:3] for row in rows.audit]),
        ("salts", [(row[0], row[3], row[1], row[4]) for row in rows.audit if row[3] is not None]),
        ("no_grave", rows.no_grave),
        ("accounts", rows.accounts),
    ]
    used = [(table, some) for table, some in tables if some]
    arguments: list[Any] = []
    for table, some in used:
        arguments += _arguments(table, some)
        if table == "want":
            arguments.append(len(some))
    try:
        lost = await connection.fetch(_statement(tuple(table for table, _ in used)), *arguments)
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
        raise Raced from None
    return {row[0] for row in lost}
