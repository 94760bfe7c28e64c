"""Reads whole profiles as they stood at one moment: state rows, wrapped keys, compartments, tags. Opens nothing.

One statement reads a profile, so that all its rows are of one snapshot; the state row's MAC is checked before anything
else of the subject is believed (promise 3). Raises `Unreadable` for a person whose rows do not agree.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from vault.consent.ledger import Choice, read_chain
from vault.errors import Forged, Unreadable
from vault.flows.tags import Pointers
from vault.keys.compartments import Wrapped, holdings_of, parse_wraps
from vault.state.record import State, holdings, unpack
from vault.storage.session import Raw


class StoredCompartment(NamedTuple):
    """A row of `compartment`, still sealed and not yet compared with its mark in the state."""

    purposes: int
    generation: int
    compartment_id: bytes
    version: int
    blob: bytes


class Stored(NamedTuple):
    """All that is stored of one subject, but its events and ledger."""

    state: State
    keys_row: bytes | None  # the row of wraps as stored; None while an erasure runs
    wrapped: tuple[Wrapped, ...]
    compartments: tuple[StoredCompartment, ...]
    tags: tuple[tuple[int, bytes], ...]  # (identifier kind, tag)


_PROFILES = """
SELECT s.subject_id, s.root, s.version, s.state, k.version, k.wraps, c.rows, i.rows
FROM subject s
LEFT JOIN keys.subject_key k USING (subject_id)
LEFT JOIN LATERAL (
    SELECT array_agg((purposes, generation, compartment_id, version, fields)) AS rows
    FROM compartment WHERE subject_id = s.subject_id
) c ON true
LEFT JOIN LATERAL (SELECT array_agg((kind, tag)) AS rows FROM identifier WHERE subject_id = s.subject_id) i ON true
WHERE s.root = ANY (ARRAY(SELECT DISTINCT root FROM subject WHERE subject_id = ANY ($1::uuid[])))
"""


async def ledgers(connection: Raw, stored: Mapping[UUID, Stored]) -> dict[UUID, tuple[Choice, ...]]:
    """The ledger of each of these subjects, in order. Raises `Unreadable` for one that is not the one its state vouches for."""
    entries: dict[UUID, list[bytes]] = {subject: [] for subject in stored}
    rows = await connection.fetch(
        "SELECT subject_id, entry FROM ledger WHERE subject_id = ANY ($1::uuid[]) ORDER BY subject_id, sequence",
        list(stored),
    )
    for row in rows:
        entries[UUID(bytes=row[0].bytes)].append(row[1])
    return {
        subject: read_chain(found, stored[subject].state.ledger_count, stored[subject].state.ledger_head)
        for subject, found in entries.items()
    }


async def moved_on(connection: Raw, stored: Mapping[UUID, Stored]) -> bool:
    """True if one of these is not as it was read any more: what does not agree with it is then newer, and no forgery."""
    rows = await connection.fetch(
        "SELECT subject_id, version FROM subject WHERE subject_id = ANY ($1::uuid[])", list(stored)
    )
    versions = {UUID(bytes=row[0].bytes): row[1] for row in rows}
    return any(versions.get(subject) != one.state.version for subject, one in stored.items())


async def owner(connection: Raw, tag: bytes, pointers: Pointers) -> UUID | None:
    """The subject that a tag finds; None for an unknown one. Raises `Forged` for a row that nobody with the key wrote."""
    row = await connection.fetchrow("SELECT subject_id, code FROM identity WHERE tag = $1", tag)
    if row is None:
        return None
    if not pointers.hold(tag, row[0].bytes, row[1]):
        raise Forged("identity", tag)
    return UUID(bytes=row[0].bytes)


async def profiles(connection: Raw, subjects: Iterable[UUID], state_key: bytes) -> tuple[dict[UUID, Stored], set[UUID]]:
    """Every member of every profile that one of `subjects` belongs to, and the subjects that cannot be believed.

    A subject that cannot be believed makes its whole profile so; nothing of it is in the first answer.
    """
    wanted = list(set(subjects))
    if not wanted:
        return {}, set()
    return believed(await connection.fetch(_PROFILES, wanted), state_key)


def believed(rows: Iterable[Any], state_key: bytes) -> tuple[dict[UUID, Stored], set[UUID]]:
    """As `profiles`, of rows that begin with its columns."""
    found: dict[UUID, Stored] = {}
    broken: set[UUID] = set()
    roots: dict[UUID, UUID] = {}
    for row in rows:
        subject = UUID(bytes=row[0].bytes)
        roots[subject] = UUID(bytes=row[1].bytes)
        try:
            found[subject] = _believed(subject, row, state_key)
        except Unreadable:
            broken.add(subject)
    _complete(found, broken, roots)
    return found, broken


def _believed(subject: UUID, row: Any, state_key: bytes) -> Stored:
    state = unpack(subject, row[3], state_key)
    if state.fenced and row[4] is None:  # an erasure is under way: its keys are gone, its rows are going
        return Stored(state, None, (), (), ())
    if row[4] is None or row[5] is None:
        raise Unreadable
    wrapped = parse_wraps(row[5])
    agrees = (
        state.version == row[2]
        and state.root.bytes == row[1].bytes
        and state.keys_version == row[4]
        and state.holdings == holdings(holdings_of(wrapped))
    )
    if not agrees:
        raise Unreadable
    compartments = tuple(StoredCompartment._make(one) for one in row[6] or ())
    if {(one.purposes, one.generation) for one in compartments} != {
        (mark.purposes, mark.generation) for mark in state.compartments
    }:
        raise Unreadable
    return Stored(state, row[5], wrapped, compartments, tuple((one[0], one[1]) for one in row[7] or ()))


def _complete(found: dict[UUID, Stored], broken: set[UUID], roots: dict[UUID, UUID]) -> None:
    """Take out every profile of which a member is broken, or whose root counts other members than were found."""
    members: dict[UUID, list[UUID]] = {}
    for subject, root in roots.items():
        members.setdefault(root, []).append(subject)
    for root, everyone in members.items():
        stored = found.get(root)
        if stored is None or stored.state.members != len(everyone) - 1 or not broken.isdisjoint(everyone):
            broken.update(everyone)
            for subject in everyone:
                found.pop(subject, None)
