"""What a release reads of people, in one snapshot: state rows of whole profiles, and only the compartments it may need.

The state row is checked before anything else of a subject is believed, and the ledger must be the one that it vouches for:
a withdrawal that somebody deleted closes the person (threat A20). A profile whose rows do not agree is `None`: it is
withheld, and the caller records it (promise 3).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.consent.ledger import head_of
from vault.disclosures.held import Held
from vault.disclosures.store import held_of
from vault.errors import Unreadable
from vault.flows.tags import Pointers
from vault.keys.kept import Kept, scan_wraps
from vault.profile.values import Directory, scan_fields
from vault.state.record import Reader, State, digest, holdings_of
from vault.storage.session import Raw

_NO_ROW: Final = (b"", 0, b"", None)
_new: Final = tuple.__new__  # a named tuple without a Python call: thousands a page


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
    i.subject_id, (SELECT number FROM change WHERE subject_id = f.root),
    (SELECT (d.subject_id, d.destination, d.fields, d.gone, d.gone_number, d.removed_number, d.reason, d.into_root,
        d.acknowledged_at) FROM disclosure_state d WHERE d.subject_id = f.root AND d.destination = $3),
    i.code
FROM identity i JOIN subject f USING (subject_id) JOIN subject s ON s.root = f.root
LEFT JOIN keys.subject_key k ON k.subject_id = s.subject_id
WHERE i.tag = $1
"""


class Found(NamedTuple):
    """What an identifier finds."""

    subject: UUID
    known: Known | None  # None: rows that do not agree
    number: int  # of the latest change of the profile; 0 before the first
    held: Held | None  # what the destination holds of it; None: nothing ever


class _Rows(NamedTuple):
    """What was read beside the state rows, by the 16 bytes of the subject id."""

    keys: dict[bytes, Any]
    compartments: dict[bytes, list[Any]]
    ledgers: dict[bytes, list[bytes]]


class People:
    """What one reading found. People are checked and put together when asked for, some at a time, while their rows are at hand."""

    def __init__(self, found: list[Any], wanted: set[UUID], rows: _Rows, purposes: int, states: Reader) -> None:
        """Made by `read`."""
        self._rows = rows
        self._purposes = purposes
        self._states = states
        self._profiles: dict[UUID, list[Any]] = {}
        self._moved: dict[UUID, Any] = {}
        for row in found:
            subject, root = row[0], row[1]
            if root in wanted:
                self._profiles.setdefault(root, []).append(row)
            if root != subject and subject in wanted:
                self._moved[subject] = row

    def __contains__(self, subject: UUID) -> bool:
        """False for those of whom no row is left: the erased."""
        return subject in self._profiles or subject in self._moved

    def of(self, subjects: Sequence[UUID]) -> list[Known | Moved | None]:
        """Of each the profile, where it moved, or None if its rows do not agree."""
        nobody: list[Any] = []
        groups = [
            self._profiles.get(subject) or ([self._moved[subject]] if subject in self._moved else nobody)
            for subject in subjects
        ]
        believed = iter(_members([row for rows in groups for row in rows], self._rows, self._purposes, self._states))
        answers: list[Known | Moved | None] = []
        for subject, rows in zip(subjects, groups, strict=True):
            members = [next(believed) for _ in rows]
            if subject in self._profiles:
                answers.append(_profile(subject, members))
            else:
                answers.append(Moved(rows[0][1]) if rows and members[0] is not None else None)
        return answers


async def read(connection: Raw, subjects: Iterable[UUID], purposes: int, state_key: bytes) -> People:
    """The profiles of `subjects`. `connection` is within a snapshot.

    `purposes` is the mask of the purposes that the reader serves; no other compartment is fetched.
    """
    wanted = set(subjects)
    states = Reader(state_key)
    if not wanted:
        return People([], wanted, _Rows({}, {}, {}), purposes, states)
    found = await connection.fetch(_SUBJECTS, list(wanted))
    elsewhere = wanted.difference([row[1] for row in found if row[0] == row[1]])
    if elsewhere:
        found += [row for row in await connection.fetch(_ELSEWHERE, list(elsewhere)) if row[1] not in wanted]
    return People(found, wanted, await _beside(connection, [row[0] for row in found], purposes), purposes, states)


async def find(
    connection: Raw, tag: bytes, purposes: int, destination: int, state_key: bytes, pointers: Pointers
) -> Found | None:
    """The whole profile of which one member is known by `tag`; None if nobody is. `purposes` as for `read`.

    By a row of `identity` that nobody with the key wrote it finds rows that do not agree.
    """
    found = await connection.fetch(_FOUND, tag, purposes, destination)
    if not found:
        return None
    if not pointers.hold(tag, found[0][8].bytes, found[0][11]):
        return Found(found[0][8], None, 0, None)
    states = Reader(state_key)
    members = [_members([row], _beside_it(row), purposes, states)[0] for row in found]
    held = None if found[0][10] is None else held_of(found[0][10])
    return Found(found[0][8], _profile(found[0][1], members), found[0][9] or 0, held)


def _beside_it(row: Any) -> _Rows:
    """What `_FOUND` answers beside a state row."""
    name = row[0].bytes
    return _Rows({} if row[4] is None else {name: (row[0], row[4], row[5])}, {name: row[6]}, {name: row[7]})


async def _beside(connection: Raw, subjects: list[UUID], purposes: int) -> _Rows:
    keys = {row[0].bytes: row for row in await connection.fetch(_KEYS, subjects)}
    compartments: dict[bytes, list[Any]] = {}
    for row in await connection.fetch(_COMPARTMENTS, subjects, purposes):
        compartments.setdefault(row[0].bytes, []).append(row)
    ledgers = {row[0].bytes: row[1] for row in await connection.fetch(_LEDGERS, subjects)}
    return _Rows(keys, compartments, ledgers)


def _profile(root: UUID, members: list[Member | None]) -> Known | None:
    believed = [member for member in members if member is not None]
    if len(believed) != len(members):
        return None
    if len(believed) > 1:
        believed.sort(key=lambda member: (not member.state.is_root, member.state.subject))
    first = believed[0].state
    if first.root != first.subject or first.members != len(believed) - 1:
        return None
    return _new(Known, (root, tuple(believed)))


# --- checking -------------------------------------------------------------------------------------------------------
# Check by check over all of them, not person by person: a processor that stays in one check is measured at two thirds of
# the time. None stands for a subject whose rows do not agree.


def _members(found: list[Any], beside: _Rows, purposes: int, states: Reader) -> list[Member | None]:
    subjects = [row[0].bytes for row in found]
    checked = [_state(row, states) for row in found]
    ledgers = [_ledger(state, beside.ledgers.get(name, ())) for state, name in zip(checked, subjects, strict=True)]
    wraps = [_wraps(state, beside.keys.get(name)) for state, name in zip(checked, subjects, strict=True)]
    rows = [beside.compartments.get(name, ()) for name in subjects]
    stored = [row[5] for some in rows for row in some]
    digests = iter([digest(fields) for fields in stored])
    scanned = iter([_fields(fields) for fields in stored])
    held = [{row[1:3]: (row[3], row[4], next(digests), next(scanned)) for row in some} for some in rows]
    return [
        _member(*parts, purposes) for parts in zip(checked, ledgers, wraps, held, strict=True)
    ]  # fmt: skip


def _state(row: Any, states: Reader) -> State | None:
    try:
        state = states.read(row[0], row[3])
    except Unreadable:
        return None
    return state if state.version == row[2] and state.root == row[1] else None


def _ledger(state: State | None, entries: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The entries, if they are those that the state vouches for. Of an erased person some are gone: nobody asks."""
    if state is None or len(entries) != state.ledger_count or head_of(entries) != state.ledger_head:
        return None
    return tuple(entries)


def _wraps(state: State | None, keys: Any) -> dict[tuple[int, int], Kept] | None:
    if state is None or keys is None or state.keys_version != keys[1]:
        return None
    try:
        kept, parts = scan_wraps(keys[2])
    except Unreadable:
        return None
    return kept if state.holdings == holdings_of(parts) else None


def _fields(stored: bytes) -> Directory | None:
    try:
        return scan_fields(stored)
    except Unreadable:
        return None


def _member(
    state: State | None,
    entries: tuple[bytes, ...] | None,
    kept: dict[tuple[int, int], Kept] | None,
    rows: dict[tuple[int, int], tuple[bytes, int, bytes, Directory | None]],
    purposes: int,
) -> Member | None:
    """The subject with the compartments that the state vouches for, in its order: all of these purposes, and no other."""
    if state is None:
        return None
    if state.fenced:
        return Member(state, ())
    if entries is None or kept is None:
        return None
    shelves = []
    for mark in state.compartments:
        if mark[0] & purposes:
            place = mark[:2]
            one = kept.get(place)
            compartment_id, version, seen, fields = rows.pop(place, _NO_ROW)
            if one is None or one[0] != compartment_id or mark[2] != version or mark[3] != seen:
                return None
            if one.held & purposes:
                if fields is None:
                    return None
                shelves.append(_new(Shelf, (one, fields)))
    return None if rows else _new(Member, (state, tuple(shelves), entries))
