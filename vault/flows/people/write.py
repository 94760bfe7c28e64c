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
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import asyncpg

from vault.audit.entry import Entry
from vault.audit.store import waiting_code
from vault.storage.session import Raw


class Raced(Exception):
    """Somebody else wrote one of these identifiers or messages first. Nothing was written; read again."""


NO_GROUP: Final = -1  # of rows that belong to nobody, such as the dedup row of a message that named no known person


class Owner(Protocol):
    """Whose row it is: a subject, and the group of people with whom it is written or not at all."""

    @property
    def group(self) -> int:
        """Asked for when the row is written: until then groups may be joined."""
        ...

    @property
    def hex(self) -> str:
        """The subject id, as it is sent."""
        ...


class Fixed(NamedTuple):
    """An owner who is no draft."""

    group: int
    hex: str = ""


NOBODY: Final = Fixed(NO_GROUP)


def audit_row(owner: Owner, entry: Entry, key: bytes) -> tuple[Owner, UUID, bytes, bytes]:
    """An entry as a row; `key` is `journal`."""
    leaf = entry.leaf()
    return owner, entry.entry_id, leaf, waiting_code(key, entry.entry_id, leaf)


class Rows(NamedTuple):
    """Rows of a statement by table, as tuples in the order of the columns below; their owner in place of group and subject."""

    want: list[tuple[Owner, int]]  # state rows that the decision rested on, by version
    updated: list[tuple[Owner, UUID, int, bytes]]  # root, version, state
    created: list[tuple[Owner, UUID, int, bytes]]
    keys: list[tuple[Owner, int, bytes]]
    seen_keys: list[tuple[Owner, bytes]]  # SHA-256 of a row of wraps that is replaced: it must still be that one
    filled: list[tuple[Owner, int, int, bytes, int, bytes]]
    refilled: list[tuple[Owner, int, int, int, bytes]]
    destroyed: list[tuple[Owner, int, int]]
    events: list[tuple[Owner, bytes, int, int, int, int, int, bytes]]
    ledger: list[tuple[Owner, int, bytes, bytes | None]]
    identity: list[tuple[Owner, bytes, bytes]]  # its tag, and the code of `flows.tags.Pointers`
    identifiers: list[tuple[Owner, bytes, int, int, int, bool]]
    unfound: list[tuple[Owner, bytes]]  # tags that find the subject no more
    unnamed: list[tuple[Owner, bytes]]  # the same, of the subject's own list
    links: list[tuple[Owner, UUID, bytes, int, int, int, bool, int]]
    dedup: list[tuple[Owner, bytes, bytes, int]]
    changes: list[tuple[Owner, UUID]]  # the root that changed
    due: list[tuple[Owner, int, int]]
    audit: list[tuple[Owner, UUID, bytes, bytes]]  # its code until the log has it
    salts: list[tuple[Owner, UUID, bytes]]
    no_grave: list[tuple[Owner, bytes]]  # tombstone tags that must still not exist
    accounts: list[tuple[Owner, bytes, bytes, int, int]]
    turn: list[tuple[Owner, int]]  # `Keyring.turn` when keys were chosen for new wraps and tags

    @classmethod
    def none(cls) -> "Rows":
        """No rows at all."""
        return cls(*[[] for _ in cls._fields])

    def clear(self) -> None:
        """Forget them: they are written."""
        tables: Iterable[list[Any]] = self
        for rows in tables:
            rows.clear()


_CAST: Final = {"key": "bytea"}  # a column of keys: short bytes, sent as the text of an array

# --- the statement ----------------------------------------------------------------------------------------------------


_GROUP: Final = (("grp", "int"),)
_OWNER: Final = (*_GROUP, ("subject_id", "uuid"))


class _Part(NamedTuple):
    """One table of the statement: its columns as `unnest` gives them, the owner's first, and what is done with them."""

    columns: tuple[tuple[str, str], ...]  # (name, type)
    lost: str = ""  # a select of the groups that lose by these rows
    act: str = ""  # an insert, update or delete; a WHERE that leaves the losers out follows
    after: str = ""  # what follows that WHERE
    owner: tuple[tuple[str, str], ...] = _OWNER  # what is asked of the owner
    head: str = ""  # what is looked at first, once


_WANT: Final = _Part(
    (("version", "bigint"),),
    # Missing rows are looked for only when the count says that one is.
    lost="""SELECT grp FROM held WHERE version <> expected
    UNION ALL SELECT w.grp FROM {rows} AS w({names})
    WHERE (SELECT count(*) FROM held) < {count} AND NOT EXISTS (SELECT FROM held h WHERE h.subject_id = w.subject_id)""",
)
_UPDATED: Final = _Part(
    (("root", "uuid"), ("version", "bigint"), ("state", "bytea")),
    act="UPDATE subject s SET root = n.root, version = n.version, state = n.state FROM {rows} AS n({names}) "
    "WHERE s.subject_id = n.subject_id AND",
)
_CREATED: Final = _Part(
    _UPDATED.columns,
    act="INSERT INTO subject (subject_id, root, version, state) SELECT subject_id, root, version, state "
    "FROM {rows} AS n({names}) WHERE",
)


def _insert(
    table: str,
    *columns: tuple[str, str],
    lost: str = "",
    after: str = "",
    owner: tuple[tuple[str, str], ...] = _OWNER,
) -> _Part:
    names = ", ".join(name for name, _ in (*owner[1:], *columns))
    act = f"INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS n({{names}}) WHERE"  # noqa: S608 (constants)
    return _Part(columns, lost, act, after, owner)


_PARTS: Final[dict[str, _Part]] = {
    "want": _WANT,
    "updated": _UPDATED,
    "created": _CREATED,
    "keys": _insert(
        "keys.subject_key",
        ("version", "int"),
        ("wraps", "bytea"),
        after="ON CONFLICT (subject_id) DO UPDATE SET version = EXCLUDED.version, wraps = EXCLUDED.wraps",
    ),
    "seen_keys": _Part(
        (("digest", "bytea"),),
        # Locked, so that it is the latest row that is compared and nobody changes it any more: a rotation that came
        # between would be undone, and the epoch that it left destroyed (threats D9).
        head="""seen AS MATERIALIZED (
    SELECT n.grp, sha256(k.wraps) <> n.digest AS moved FROM {rows} AS n({names})
    JOIN keys.subject_key k ON k.subject_id = n.subject_id ORDER BY k.subject_id FOR NO KEY UPDATE OF k
)""",
        lost="SELECT grp FROM seen WHERE moved",
    ),
    "filled": _insert(
        "compartment",
        ("purposes", "bigint"),
        ("generation", "smallint"),
        ("compartment_id", "key"),
        ("version", "int"),
        ("fields", "bytea"),
    ),
    "refilled": _Part(
        (
            ("purposes", "bigint"),
            ("generation", "smallint"),
            ("version", "int"),
            ("fields", "bytea"),
        ),
        act="UPDATE compartment c SET version = n.version, fields = n.fields FROM {rows} AS n({names}) "
        "WHERE c.subject_id = n.subject_id AND c.purposes = n.purposes AND c.generation = n.generation AND",
    ),
    "destroyed": _Part(
        (("purposes", "bigint"), ("generation", "smallint")),
        act="DELETE FROM compartment c USING {rows} AS n({names}) "
        "WHERE c.subject_id = n.subject_id AND c.purposes = n.purposes AND c.generation = n.generation AND",
    ),
    "events": _insert(
        "event",
        ("event_key", "key"),
        ("purposes", "bigint"),
        ("generation", "smallint"),
        ("at", "bigint"),
        ("received_at", "bigint"),
        ("kind", "int"),
        ("ct", "bytea"),
    ),
    "ledger": _insert("ledger", ("sequence", "int"), ("entry", "bytea"), ("evidence", "bytea")),
    "identity": _insert(
        "identity",
        ("tag", "key"),
        ("code", "key"),
        lost="SELECT n.grp FROM {rows} AS n({names}) JOIN identity USING (tag)",
    ),
    "identifiers": _insert(
        "identifier",
        ("tag", "key"),
        ("kind", "smallint"),
        ("source_id", "int"),
        ("first_at", "bigint"),
        ("confirmed", "bool"),
    ),
    "unfound": _Part(
        (("tag", "key"),),
        act="DELETE FROM identity i USING {rows} AS n({names}) WHERE i.tag = n.tag AND i.subject_id = n.subject_id AND",
    ),
    "unnamed": _Part(
        (("tag", "key"),),
        act="DELETE FROM identifier i USING {rows} AS n({names}) WHERE i.subject_id = n.subject_id AND i.tag = n.tag AND",
    ),
    "links": _insert(
        "link",
        ("root", "uuid"),
        ("event_key", "key"),
        ("source_id", "int"),
        ("rule", "smallint"),
        ("kind", "smallint"),
        ("confirmed", "bool"),
        ("at", "bigint"),
        after="ON CONFLICT DO NOTHING",
    ),
    "accounts": _insert(
        "membership",
        ("tag", "key"),
        ("event_key", "key"),
        ("source_id", "int"),
        ("at", "bigint"),
        after="ON CONFLICT DO NOTHING",
    ),
    "dedup": _insert(
        "dedup",
        ("event_key", "key"),
        ("digest", "key"),
        ("day", "int"),
        lost="SELECT n.grp FROM {rows} AS n({names}) JOIN dedup USING (event_key)",
        owner=_GROUP,
    ),
    "changes": _insert("change_in", ("subject_id", "uuid"), owner=_GROUP),
    "due": _insert("due", ("at", "bigint"), ("what", "smallint"), after="ON CONFLICT DO NOTHING"),
    "audit": _insert("audit_in", ("entry_id", "uuid"), ("leaf", "bytea"), ("code", "bytea"), owner=_GROUP),
    "salts": _insert("audit_salt", ("entry_id", "uuid"), ("salt", "bytea")),
    "no_grave": _Part(
        (("tag", "key"),), lost="SELECT n.grp FROM {rows} AS n({names}) JOIN tombstone USING (tag)", owner=_GROUP
    ),
    "turn": _Part(
        (("turn", "bigint"),),
        lost="SELECT n.grp FROM {rows} AS n({names}) WHERE n.turn < (SELECT max(turn) FROM keys.epoch)",
        owner=_GROUP,
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
        for _, type_ in (*part.owner, *part.columns):
            # Long bytes travel as they are; the rest as the text of an array, which is cheaper to send than its elements.
            arrays.append(
                f"${number}::bytea[]" if type_ == "bytea" else f"${number}::text::{_CAST.get(type_, type_)}[]"
            )
            number += 1
        names = ", ".join(name for name, _ in (*part.owner, *part.columns))
        filled = {"rows": f"unnest({', '.join(arrays)})", "names": names, "count": f"${number}::int"}
        if table == "want":
            heads.append(_HELD.format(**filled))
            number += 1
        if part.head:
            heads.append(part.head.format(**filled))
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


def _keys(column: Sequence[bytes]) -> str:
    return '{"\\\\x' + '","\\\\x'.join([one.hex() for one in column]) + '"}'


_SENT: Final[dict[str, Callable[[Any], Any]]] = {"uuid": _uuids, "bool": _flags, "key": _keys, "bytea": list}


_hex: Final = attrgetter("hex")


def _subject(row: Sequence[Any]) -> str:
    """Rows are locked and written in the order in which PostgreSQL has UUIDs, too."""
    return str(row[0].hex)


def _arguments(part: _Part, rows: Sequence[Sequence[Any]]) -> list[Any]:
    owners, *columns = zip(*rows, strict=True)
    sent: list[Any] = [_numbers([one.group for one in owners])]
    if part.owner is _OWNER:
        sent.append("{" + ",".join(map(_hex, owners)) + "}")
    sent += [_SENT.get(type_, _numbers)(column) for column, (_, type_) in zip(columns, part.columns, strict=True)]
    return sent


async def write(connection: Raw, rows: Rows) -> set[int]:
    """Write all groups whose state rows are still as expected; return the groups that lost and must be decided again.

    Durable when it returns: one autocommitted statement. Raises `Raced` when a unique key was taken meanwhile.
    """
    for states in (rows.want, rows.updated, rows.created, rows.seen_keys, rows.keys):
        states.sort(key=_subject)
    tables: Iterable[tuple[str, Sequence[Sequence[Any]]]] = zip(Rows._fields, rows, strict=True)
    used = [(table, some) for table, some in tables if some]
    arguments: list[Any] = []
    for table, some in used:
        arguments += _arguments(_PARTS[table], some)
        if table == "want":
            arguments.append(len(some))
    try:
        lost = await connection.fetch(_statement(tuple(table for table, _ in used)), *arguments)
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
        raise Raced from None
    return {row[0] for row in lost}
