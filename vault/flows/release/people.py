"""What a release reads of people, in one snapshot: state rows of whole profiles, and only the compartments it may need.

The state row is checked before anything else of a subject is believed, and the ledger must be the one that it vouches for:
a withdrawal that somebody deleted closes the person (threat A20). A profile whose rows do not agree is `None`: it is
withheld, and the caller records it (promise 3).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from vault.consent.ledger import head_of
from vault.errors import Unreadable
from vault.keys.compartments import Kept, scan_wraps
from vault.profile.values import Directory, scan_fields
from vault.state.record import Reader, State, holdings_of
from vault.storage.session import Raw


class Shelf(NamedTuple):
    """A compartment that still has a wrap of one of the purposes: how it opens, and its sealed fields."""

    kept: Kept
    fields: Directory


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


# One statement a table, each walking its key once for the whole page: measured at half the time of one statement that
# looks up every person's rows in turn. All of them see one snapshot, since the caller's transaction is one.
_SUBJECTS = "SELECT subject_id, root, version, state FROM subject WHERE root = ANY ($1::uuid[])"
_ELSEWHERE = "SELECT subject_id, root, version, state FROM subject WHERE subject_id = ANY ($1::uuid[])"
_KEYS = "SELECT subject_id, version, wraps FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
_COMPARTMENTS = """
SELECT subject_id, purposes, generation, compartment_id, version, fields FROM compartment
WHERE subject_id = ANY ($1::uuid[]) AND purposes & $2 <> 0
"""
_LEDGERS = """
SELECT subject_id, array_agg(entry ORDER BY sequence) FROM ledger WHERE subject_id = ANY ($1::uuid[]) GROUP BY subject_id
"""

# One profile by one of its tags, in one statement: a lookup waits for round trips, not for the server.
_FOUND = """
SELECT s.subject_id, s.root, s.version, s.state, k.version, k.wraps,
    ARRAY(SELECT (subject_id, purposes, generation, compartment_id, version, fields) FROM compartment
        WHERE subject_id = s.subject_id AND purposes & $2 <> 0),
    ARRAY(SELECT entry FROM ledger WHERE subject_id = s.subject_id ORDER BY sequence),
    i.subject_id, (SELECT number FROM change WHERE subject_id = f.root)
FROM identity i JOIN subject f USING (subject_id) JOIN subject s ON s.root = f.root
LEFT JOIN keys.subject_key k ON k.subject_id = s.subject_id
WHERE i.tag = $1
"""


class Found(NamedTuple):
    """What an identifier finds."""

    subject: UUID
    known: Known | None  # None: rows that do not agree
    number: int  # of the latest change of the profile; 0 before the first


class _Rows(NamedTuple):
    """What was read beside the state rows, by the 16 bytes of the subject id."""

    keys: dict[bytes, Any]
    compartments: dict[bytes, list[Any]]
    ledgers: dict[bytes, list[bytes]]


async def read(
    connection: Raw, subjects: Iterable[UUID], purposes: int, state_key: bytes
) -> dict[UUID, Known | Moved | None]:
    """For each of `subjects` its profile, where it moved, or None if its rows do not agree. Erased ones are left out.

    `purposes` is the mask of the purposes that the reader serves; no other compartment is fetched. `connection` is within
    a snapshot.
    """
    wanted = set(subjects)
    if not wanted:
        return {}
    found = await connection.fetch(_SUBJECTS, list(wanted))
    elsewhere = wanted.difference([row[1] for row in found if row[0] == row[1]])
    if elsewhere:
        found += [row for row in await connection.fetch(_ELSEWHERE, list(elsewhere)) if row[1] not in wanted]
    rows = await _beside(connection, [row[0] for row in found], purposes)
    states = Reader(state_key)
    members: dict[UUID, list[Member | None]] = {}
    answers: dict[UUID, Known | Moved | None] = {}
    for row in found:
        subject, root = row[0], row[1]
        try:
            member = _member(row, rows, purposes, states)
        except Unreadable:
            member = None
        if root != subject and subject in wanted:
            answers[subject] = Moved(root) if member is not None else None
        if root in wanted:
            members.setdefault(root, []).append(member)
    for root, everyone in members.items():
        answers[root] = _profile(root, everyone)
    return answers


async def find(connection: Raw, tag: bytes, purposes: int, state_key: bytes) -> Found | None:
    """The whole profile of which one member is known by `tag`; None if nobody is. `purposes` as for `read`."""
    found = await connection.fetch(_FOUND, tag, purposes)
    if not found:
        return None
    everyone: list[Member | None] = []
    states = Reader(state_key)
    for row in found:
        name = row[0].bytes
        keys = {} if row[4] is None else {name: (row[0], row[4], row[5])}
        try:
            everyone.append(_member(row, _Rows(keys, {name: row[6]}, {name: row[7]}), purposes, states))
        except Unreadable:
            everyone.append(None)
    return Found(found[0][8], _profile(found[0][1], everyone), found[0][9] or 0)


async def _beside(connection: Raw, subjects: list[UUID], purposes: int) -> _Rows:
    keys = {row[0].bytes: row for row in await connection.fetch(_KEYS, subjects)}
    compartments: dict[bytes, list[Any]] = {}
    for row in await connection.fetch(_COMPARTMENTS, subjects, purposes):
        compartments.setdefault(row[0].bytes, []).append(row)
    ledgers = {row[0].bytes: row[1] for row in await connection.fetch(_LEDGERS, subjects)}
    return _Rows(keys, compartments, ledgers)


def _profile(root: UUID, everyone: list[Member | None]) -> Known | None:
    believed = [member for member in everyone if member is not None]
    if len(believed) != len(everyone):
        return None
    if len(believed) > 1:
        believed.sort(key=lambda member: (not member.state.is_root, member.state.subject))
    first = believed[0].state
    if not first.is_root or first.members != len(believed) - 1:
        return None
    return Known(root, tuple(believed))


def _member(row: Any, rows: _Rows, purposes: int, states: Reader) -> Member:
    subject = row[0]
    name = subject.bytes
    state = states.read(subject, row[3])
    if state.version != row[2] or state.root != row[1]:
        raise Unreadable
    if state.fenced:
        return Member(state, ())
    entries = rows.ledgers.get(name, ())
    if len(entries) != state.ledger_count or head_of(entries) != state.ledger_head:
        raise Unreadable
    keys = rows.keys.get(name)
    if keys is None or state.keys_version != keys[1]:
        raise Unreadable
    kept = scan_wraps(keys[2])
    if state.holdings != holdings_of([one.holding for one in kept.values()]):
        raise Unreadable
    return Member(state, _shelves(state, kept, rows.compartments.get(name, []), purposes), tuple(entries))


def _shelves(
    state: State, kept: dict[tuple[int, int], Kept], compartments: list[Any], purposes: int
) -> tuple[Shelf, ...]:
    """The compartments that the state vouches for, in its order: all that hold one of the purposes, and no other."""
    rows = {(row[1], row[2]): row for row in compartments}
    shelves = []
    for mark in state.compartments:
        if not mark.purposes & purposes:
            continue
        place = (mark.purposes, mark.generation)
        row, one = rows.pop(place, None), kept.get(place)
        if row is None or one is None or one.compartment_id != row[3]:
            raise Unreadable
        mark.check(row[4], row[5])
        if one.held & purposes:
            shelves.append(Shelf(one, scan_fields(row[5])))
    if rows:
        raise Unreadable
    return tuple(shelves)
