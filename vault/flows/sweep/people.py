"""Reads a range of people, whole, as they stood at one moment. Believes and opens nothing."""

from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.clock import Micros
from vault.keys.compartments import Wrapped
from vault.storage.session import Raw

FIRST: Final = UUID(int=0)
RANGE: Final = 100  # people in memory at once, without their events

_RANGE: Final = """
SELECT s.subject_id, s.root, s.version, s.state, k.version, k.wraps, c.rows, i.rows, l.rows, a.rows,
    (SELECT count(*) FROM event e WHERE e.subject_id = s.subject_id),
    (SELECT count(*) FROM subject m WHERE m.root = s.subject_id AND m.subject_id <> s.subject_id),
    EXISTS (SELECT FROM subject r WHERE r.subject_id = s.root AND r.root = s.root),
    EXISTS (SELECT FROM change n WHERE n.subject_id = s.subject_id),
    (SELECT count(DISTINCT e.event_key) FROM event e WHERE e.subject_id = s.subject_id AND e.received_at > $3
        AND NOT EXISTS (SELECT FROM dedup d WHERE d.event_key = e.event_key))
FROM (SELECT subject_id, root, version, state FROM subject WHERE subject_id > $1 ORDER BY subject_id LIMIT $2) s
LEFT JOIN keys.subject_key k USING (subject_id)
LEFT JOIN LATERAL (
    SELECT array_agg((purposes, generation, compartment_id, version, fields)) AS rows
    FROM compartment WHERE subject_id = s.subject_id
) c ON true
LEFT JOIN LATERAL (
    SELECT array_agg((kind, tag, (SELECT y.subject_id FROM identity y WHERE y.tag = n.tag))) AS rows
    FROM identifier n WHERE subject_id = s.subject_id
) i ON true
LEFT JOIN LATERAL (
    SELECT array_agg(entry ORDER BY sequence) AS rows FROM ledger WHERE subject_id = s.subject_id
) l ON true
LEFT JOIN LATERAL (
    SELECT array_agg((o.salt, coalesce(
        (SELECT t.leaf FROM audit t WHERE t.entry_id = o.entry_id),
        (SELECT w.leaf FROM audit_in w WHERE w.entry_id = o.entry_id)))) AS rows
    FROM audit_salt o WHERE subject_id = s.subject_id
) a ON true
ORDER BY s.subject_id
"""
_WAITING: Final = "SELECT DISTINCT subject_id FROM change_in WHERE subject_id = ANY ($1::uuid[])"
_EVENTS: Final = """
SELECT event_key, purposes, generation, kind, ct FROM event
WHERE subject_id = $1 AND (event_key, purposes) > ($2, $3) ORDER BY event_key, purposes LIMIT $4
"""


class Person(NamedTuple):
    """The rows of one subject."""

    subject: UUID
    root: UUID
    version: int
    state: bytes
    keys_version: int | None
    wraps: bytes | None
    compartments: list[tuple[int, int, bytes, int, bytes]]  # purposes, generation, id, version, fields
    identifiers: list[tuple[int, bytes, UUID | None]]  # kind, tag, whom it finds
    ledger: list[bytes]
    salts: list[tuple[bytes, bytes | None]]  # salt, leaf
    events: int
    members: int
    rooted: bool  # its root is there, and is one
    marked: bool  # destinations hear of it
    undeduplicated: int  # messages

    def __repr__(self) -> str:
        return f"Person({self.subject})"


async def read_range(driver: Raw, after: UUID, limit: int, since: Micros) -> list[Person]:
    """At most `limit` people with ids above `after`, in order. `since`: from when on the traces of messages are kept."""
    found = [_person(row) for row in await driver.fetch(_RANGE, after, limit, since)]
    unmarked = [one.subject for one in found if not one.marked]
    if not unmarked:
        return found
    waiting = {UUID(bytes=row[0].bytes) for row in await driver.fetch(_WAITING, unmarked)}
    return [one._replace(marked=True) if one.subject in waiting else one for one in found]


def _person(row: Any) -> Person:
    subject, root, version, state, keys_version, wraps, compartments, identifiers, ledger, salts, *counts = row
    return Person(
        UUID(bytes=subject.bytes),
        UUID(bytes=root.bytes),
        version,
        state,
        keys_version,
        wraps,
        [tuple(one) for one in compartments or ()],
        [(one[0], one[1], None if one[2] is None else UUID(bytes=one[2].bytes)) for one in identifiers or ()],
        ledger or [],
        [(one[0], one[1]) for one in salts or ()],
        *counts,
    )


class StoredPart(NamedTuple):
    """One part of an event, sealed."""

    event_key: bytes
    purposes: int
    generation: int
    kind: int
    sealed: bytes


async def read_parts(driver: Raw, subject: UUID, after: tuple[bytes, int], limit: int) -> list[StoredPart]:
    """The next parts of a subject's events, by message and purposes."""
    return [StoredPart(*row) for row in await driver.fetch(_EVENTS, subject, *after, limit)]


Place = tuple[int, int]  # purposes, generation


def by_place(wrapped: tuple[Wrapped, ...]) -> dict[Place, Wrapped]:
    """Compartments by what the rows of values and events name them."""
    return {(one.purposes, one.generation): one for one in wrapped}
