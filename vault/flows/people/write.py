"""The one statement that writes people: ingest, choices and merges all commit through it.

It is the only SQL that spans rooms. It first locks the state rows that the decision rested on, in order, and compares
their versions; a group of people of which any row has moved on writes nothing and is returned, to be decided again
(design section 13). A race for a new identifier or a message id breaks a unique key and takes the whole statement back:
`Raced` is raised, and the caller reads anew in a new statement.

Values arrive here sealed. No text of this module is ever built from data.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
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

    @classmethod
    def none(cls) -> "Rows":
        """No rows at all."""
        return cls([], [], [], [], [], [], [], [], [], [], [], [], [])

    def take(self, others: "Rows", group: int) -> None:
        """Add the rows of one subject under the group that it ended in."""
        tables: Iterable[tuple[list[Any], list[Any]]] = zip(self, others, strict=True)
        for mine, theirs in tables:
            mine.extend((group, *row[1:]) for row in theirs)


NO_GROUP = -1  # rows that belong to nobody, such as the dedup row of a message that named no known person

_STATEMENT = """
WITH want AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS w(subject_id, grp, version)
), held AS MATERIALIZED (
    SELECT subject_id, version FROM subject WHERE subject_id = ANY($1::uuid[]) ORDER BY subject_id FOR NO KEY UPDATE
), lost AS MATERIALIZED (
    SELECT w.grp FROM want w LEFT JOIN held h USING (subject_id) WHERE h.version IS DISTINCT FROM w.version
    UNION SELECT n.grp FROM unnest($79::int[], $80::bytea[]) AS n(grp, tag) JOIN tombstone USING (tag)
), updated AS (
    UPDATE subject s SET root = u.root, version = u.version, state = u.state
    FROM unnest($4::uuid[], $5::int[], $6::uuid[], $7::bigint[], $8::bytea[]) AS u(subject_id, grp, root, version, state)
    WHERE s.subject_id = u.subject_id AND u.grp <> ALL (ARRAY(SELECT grp FROM lost))
), created AS (
    INSERT INTO subject (subject_id, root, version, state)
    SELECT subject_id, root, version, state
    FROM unnest($9::uuid[], $10::int[], $11::uuid[], $12::bigint[], $13::bytea[]) AS n(subject_id, grp, root, version, state)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), k AS (
    INSERT INTO keys.subject_key (subject_id, version, wraps)
    SELECT subject_id, version, wraps
    FROM unnest($14::int[], $15::uuid[], $16::int[], $17::bytea[]) AS n(grp, subject_id, version, wraps)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
    ON CONFLICT (subject_id) DO UPDATE SET version = EXCLUDED.version, wraps = EXCLUDED.wraps
), c AS (
    INSERT INTO compartment (subject_id, purposes, generation, compartment_id, version, fields)
    SELECT subject_id, purposes, generation, compartment_id, version, fields
    FROM unnest($18::int[], $19::uuid[], $20::bigint[], $21::smallint[], $22::bytea[], $23::int[], $24::bytea[])
        AS n(grp, subject_id, purposes, generation, compartment_id, version, fields)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
    ON CONFLICT (subject_id, purposes, generation) DO UPDATE SET version = EXCLUDED.version, fields = EXCLUDED.fields
), gone AS (
    DELETE FROM compartment c
    USING unnest($25::int[], $26::uuid[], $27::bigint[], $28::smallint[]) AS n(grp, subject_id, purposes, generation)
    WHERE c.subject_id = n.subject_id AND c.purposes = n.purposes AND c.generation = n.generation
      AND n.grp <> ALL (ARRAY(SELECT grp FROM lost))
), e AS (
    INSERT INTO event (subject_id, event_key, purposes, generation, at, received_at, kind, ct)
    SELECT subject_id, event_key, purposes, generation, at, received_at, kind, ct
    FROM unnest($29::int[], $30::uuid[], $31::bytea[], $32::bigint[], $33::smallint[], $34::bigint[], $35::bigint[],
                $36::int[], $37::bytea[]) AS n(grp, subject_id, event_key, purposes, generation, at, received_at, kind, ct)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), l AS (
    INSERT INTO ledger (subject_id, sequence, entry, evidence)
    SELECT subject_id, sequence, entry, evidence
    FROM unnest($38::int[], $39::uuid[], $40::int[], $41::bytea[], $42::bytea[]) AS n(grp, subject_id, sequence, entry, evidence)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), i AS (
    INSERT INTO identity (tag, subject_id)
    SELECT tag, subject_id FROM unnest($43::int[], $44::bytea[], $45::uuid[]) AS n(grp, tag, subject_id)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), f AS (
    INSERT INTO identifier (subject_id, tag, kind, source_id, first_at, confirmed)
    SELECT subject_id, tag, kind, source_id, first_at, confirmed
    FROM unnest($46::int[], $47::uuid[], $48::bytea[], $49::smallint[], $50::int[], $51::bigint[], $52::bool[])
        AS n(grp, subject_id, tag, kind, source_id, first_at, confirmed)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), j AS (
    INSERT INTO link (subject_id, root, event_key, source_id, rule, kind, confirmed, at)
    SELECT subject_id, root, event_key, source_id, rule, kind, confirmed, at
    FROM unnest($53::int[], $54::uuid[], $55::uuid[], $56::bytea[], $57::int[], $58::smallint[], $59::smallint[],
                $60::bool[], $61::bigint[]) AS n(grp, subject_id, root, event_key, source_id, rule, kind, confirmed, at)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
    ON CONFLICT DO NOTHING
), d AS (
    INSERT INTO dedup (event_key, digest, day)
    SELECT event_key, digest, day FROM unnest($62::int[], $63::bytea[], $64::bytea[], $65::int[]) AS n(grp, event_key, digest, day)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), m AS (
    INSERT INTO change_in (subject_id)
    SELECT subject_id FROM unnest($66::int[], $67::uuid[]) AS n(grp, subject_id)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), t AS (
    INSERT INTO due (at, subject_id, what)
    SELECT at, subject_id, what FROM unnest($68::int[], $69::bigint[], $70::uuid[], $71::smallint[]) AS n(grp, at, subject_id, what)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
    ON CONFLICT DO NOTHING
), a AS (
    INSERT INTO audit_in (entry_id, leaf)
    SELECT entry_id, leaf FROM unnest($72::int[], $73::uuid[], $74::bytea[]) AS n(grp, entry_id, leaf)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
), s AS (
    INSERT INTO audit_salt (subject_id, entry_id, salt)
    SELECT subject_id, entry_id, salt
    FROM unnest($75::int[], $76::uuid[], $77::uuid[], $78::bytea[]) AS n(grp, subject_id, entry_id, salt)
    WHERE grp <> ALL (ARRAY(SELECT grp FROM lost))
)
SELECT grp FROM lost
"""


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows turned into `width` columns, as `unnest` takes them."""
    if not rows:
        return [[] for _ in range(width)]
    return [list(column) for column in zip(*rows, strict=True)]


async def write(connection: Raw, expected: Sequence[Expected], subjects: Sequence[SubjectRow], rows: Rows) -> set[int]:
    """Write all groups whose state rows are still as expected; return the groups that lost and must be decided again.

    Durable when it returns: one autocommitted statement. Raises `Raced` when a unique key was taken meanwhile.
    """
    old = sorted(row for row in subjects if not row.fresh)
    new = sorted(row for row in subjects if row.fresh)
    wanted = _columns(sorted(expected), 3)
    updates = _columns([row[:5] for row in old], 5)
    inserts = _columns([row[:5] for row in new], 5)
    salts = [(group, subject, entry, salt) for group, entry, _, subject, salt in rows.audit if subject is not None]
    try:
        lost = await connection.fetch(
            _STATEMENT,
            *wanted,
            *updates,
            *inserts,
            *_columns(rows.keys, 4),
            *_columns(rows.compartments, 7),
            *_columns(rows.destroyed, 4),
            *_columns(rows.events, 9),
            *_columns(rows.ledger, 5),
            *_columns(rows.identity, 3),
            *_columns(rows.identifiers, 7),
            *_columns(rows.links, 9),
            *_columns(rows.dedup, 4),
            *_columns(rows.changes, 2),
            *_columns(rows.due, 4),
            *_columns([row[:3] for row in rows.audit], 3),
            *_columns(salts, 4),
            *_columns(rows.no_grave, 2),
        )
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
        raise Raced from None
    return {row[0] for row in lost}
