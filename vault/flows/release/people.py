"""What a release reads of people, in one snapshot: state rows of whole profiles, and only the compartments it may need.

The state row is checked before anything else of a subject is believed, and the ledger must be the one that it vouches for:
a withdrawal that somebody deleted closes the person (threat A20). A profile whose rows do not agree is `None`: it is
withheld, and the caller records it (promise 3).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from vault.consent.ledger import NO_HEAD, chain
from vault.errors import Unreadable
from vault.keys.compartments import Wrapped, holdings_of, parse_wraps
from vault.profile.values import FieldHead, parse_fields
from vault.state.record import State, holdings, unpack
from vault.storage.session import Raw


class Shelf(NamedTuple):
    """A compartment that still has a wrap of the purpose: where it stands, and its sealed fields."""

    wrapped: Wrapped
    fields: tuple[tuple[FieldHead, bytes], ...]


class Member(NamedTuple):
    """One subject of a profile."""

    state: State
    shelves: tuple[Shelf, ...]
    ledger: tuple[bytes, ...] = ()  # the entries that the state vouches for


class Known(NamedTuple):
    """A profile as read: the root first."""

    root: UUID
    members: tuple[Member, ...]


class Moved(NamedTuple):
    """A subject that is now a member of another profile."""

    root: UUID


_PEOPLE = """
SELECT s.subject_id, s.root, s.version, s.state, k.version, k.wraps, c.rows,
    ARRAY(SELECT entry FROM ledger WHERE subject_id = s.subject_id ORDER BY sequence)
FROM subject s
LEFT JOIN keys.subject_key k USING (subject_id)
LEFT JOIN LATERAL (
    SELECT array_agg((purposes, generation, compartment_id, version, fields)) AS rows
    FROM compartment WHERE subject_id = s.subject_id AND purposes & $2 <> 0
) c ON true
WHERE s.root = ANY ($1::uuid[]) OR s.subject_id = ANY ($1::uuid[])
"""


async def read(
    connection: Raw, subjects: Iterable[UUID], purposes: int, state_key: bytes
) -> dict[UUID, Known | Moved | None]:
    """For each of `subjects` its profile, where it moved, or None if its rows do not agree. Erased ones are left out.

    `purposes` is the mask of the purposes that the reader serves; no other compartment is fetched.
    """
    members: dict[UUID, list[Member | None]] = {}
    answers: dict[UUID, Known | Moved | None] = {}
    wanted = set(subjects)
    for row in await connection.fetch(_PEOPLE, list(wanted), purposes):
        subject, root = UUID(bytes=row[0].bytes), UUID(bytes=row[1].bytes)
        try:
            member = _member(subject, row, purposes, state_key)
        except Unreadable:
            member = None
        if root != subject and subject in wanted:
            answers[subject] = Moved(root) if member is not None else None
        if root in wanted:
            members.setdefault(root, []).append(member)
    for root, everyone in members.items():
        answers[root] = _profile(root, everyone)
    return answers


def _profile(root: UUID, everyone: list[Member | None]) -> Known | None:
    believed = [member for member in everyone if member is not None]
    if len(believed) != len(everyone):
        return None
    believed.sort(key=lambda member: (not member.state.is_root, member.state.subject))
    first = believed[0].state
    if not first.is_root or first.members != len(believed) - 1:
        return None
    return Known(root, tuple(believed))


def _member(subject: UUID, row: Any, purposes: int, state_key: bytes) -> Member:
    state = unpack(subject, row[3], state_key)
    if state.version != row[2] or state.root.bytes != row[1].bytes:
        raise Unreadable
    if state.fenced:
        return Member(state, ())
    _check_ledger(state, row[7])
    if row[5] is None or state.keys_version != row[4]:
        raise Unreadable
    wrapped = parse_wraps(row[5])
    if state.holdings != holdings(holdings_of(wrapped)):
        raise Unreadable
    rows = {(one[0], one[1]): one for one in row[6] or ()}
    shelves = []
    for mark in state.compartments:
        if not mark.purposes & purposes:
            continue
        stored = rows.pop((mark.purposes, mark.generation), None)
        if stored is None:
            raise Unreadable
        state.check_row(mark.purposes, mark.generation, stored[3], stored[4])
        place = next((w for w in wrapped if w.compartment_id == stored[2]), None)
        if place is None or (place.purposes, place.generation) != (mark.purposes, mark.generation):
            raise Unreadable
        if place.held & purposes:
            shelves.append(Shelf(place, tuple(zip(*parse_fields(stored[4]), strict=True))))
    if rows:
        raise Unreadable
    return Member(state, tuple(shelves), tuple(row[7]))


def _check_ledger(state: State, entries: list[bytes]) -> None:
    head = NO_HEAD
    for entry in entries:
        head = chain(head, entry)
    if len(entries) != state.ledger_count or head != state.ledger_head:
        raise Unreadable
