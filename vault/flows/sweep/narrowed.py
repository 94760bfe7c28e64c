"""The journal against the people: each withdrawal, objection, removal and erasure on record outside is reflected inside.

An entry that is not reflected is one of two things. Either the log has the entry of its commit: then rows of before were put
back, and the journal names whose. Or it has none: then it was never committed, which is harmless, since replaying it only
lowers. Times meet to the microsecond: the entry of the log and the narrowing are made in one attempt.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.audit.entry import Entry, Tag, parse
from vault.clock import SECOND, Micros
from vault.consent.ledger import Choice, Decision, parse_choice
from vault.errors import Unreadable
from vault.flows.sweep.finding import Check, Finding
from vault.journal.narrowing import Erasure, Narrowing, Objection, Refusal, RemovedWraps, Restriction
from vault.keys.compartments import parse_wraps
from vault.state.record import State, unpack
from vault.storage.session import Raw

_WIDENS: Final = frozenset((Decision.GRANTED, Decision.REQUESTED))
BATCH: Final = 500  # narrowings compared at once
LEAVES: Final = 5_000  # of the log, read at once for who is back
_FIRST: Final = UUID(int=0)
LATE: Final = Micros(60 * SECOND)  # from the receipt of a choice to its commit, at most; more is looked up in the log

_ROWS: Final = """
SELECT s.subject_id, s.state, k.wraps, l.rows FROM subject s
LEFT JOIN keys.subject_key k USING (subject_id)
LEFT JOIN LATERAL (
    SELECT array_agg(entry ORDER BY sequence) AS rows FROM ledger WHERE subject_id = s.subject_id
) l ON true
WHERE s.subject_id = ANY ($1::uuid[])
"""
_KEYED: Final = "SELECT subject_id FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
# An entry's id begins with its millisecond: all of one moment are found by it.
_AT: Final = """
SELECT a.leaf, EXISTS (SELECT FROM audit_salt s WHERE s.entry_id = a.entry_id AND s.subject_id = ANY ($3::uuid[]))
FROM (SELECT entry_id, leaf FROM audit UNION ALL SELECT entry_id, leaf FROM audit_in) a
WHERE a.entry_id >= $1 AND a.entry_id < $2
"""
_AFTER: Final = """
SELECT a.entry_id, a.leaf FROM (SELECT entry_id, leaf FROM audit UNION ALL SELECT entry_id, leaf FROM audit_in) a
WHERE a.entry_id >= $1 AND a.entry_id > $2 ORDER BY a.entry_id LIMIT $3
"""
_UNSALTED: Final = """
SELECT a.leaf FROM (SELECT entry_id, leaf FROM audit UNION ALL SELECT entry_id, leaf FROM audit_in) a
WHERE a.entry_id >= $1 AND a.entry_id < $2 AND NOT EXISTS (SELECT FROM audit_salt s WHERE s.entry_id = a.entry_id)
"""


class _Rows(NamedTuple):
    state: State | None  # None: it cannot be believed, which is found elsewhere
    compartments: frozenset[tuple[bytes, int]] | None  # (id, purpose) of each wrap; None: unreadable
    choices: tuple[Choice, ...]


def erased_of(narrowings: Iterable[Narrowing]) -> set[bytes]:
    """The ids of all who were ever erased: sixteen bytes each, the only thing here that grows with the journal."""
    return {member.bytes for one in narrowings if isinstance(one, Erasure) for member in one.members}


async def compare(driver: Raw, narrowings: Iterable[Narrowing], erased: set[bytes], key: bytes) -> list[Finding]:
    """What of the journal does not show. `driver`: a snapshot, taken before the journal was read; `key`: `state`."""
    found: list[Finding] = []
    batches = _batches(narrowings)
    while some := await asyncio.to_thread(next, batches, None):  # reads the journal, all of it at the first
        found += await _compare(driver, some, erased, key)
    return found


async def _compare(driver: Raw, some: Sequence[Narrowing], erased: set[bytes], key: bytes) -> list[Finding]:
    about = {subject for one in some for subject in _subjects(one)}
    rows = {UUID(bytes=row[0].bytes): _rows_of(row, key) for row in await driver.fetch(_ROWS, list(about))}
    keyed = {UUID(bytes=row[0].bytes) for row in await driver.fetch(_KEYED, list(about))}
    found: dict[tuple[Check, UUID], Finding] = {}
    for one in some:
        if isinstance(one, Erasure):
            back = [m for m in one.members if m in keyed or (m in rows and not _fenced(rows[m]))]
            check = Check.ERASURE if back and await _destroyed(driver, one) else Check.UNFULFILLED
        elif isinstance(one, Refusal | Objection | RemovedWraps):
            back = [one.subject] if one.subject in rows and not _shown(one, rows[one.subject]) else []
            check = Check.NARROWING if back and await _committed(driver, one) else Check.UNFULFILLED
            if one.subject not in rows and one.subject.bytes not in erased:
                back, check = [one.subject], Check.GONE
        else:
            continue
        found.update({(check, subject): Finding(check, subject) for subject in back})
    return list(found.values())


def _subjects(one: Narrowing) -> Iterable[UUID]:
    if isinstance(one, Erasure):
        return one.members
    return (one.subject,) if isinstance(one, Refusal | Objection | RemovedWraps | Restriction) else ()


def _rows_of(row: Any, key: bytes) -> _Rows:
    try:
        state = unpack(UUID(bytes=row[0].bytes), row[1], key)
        choices = tuple(parse_choice(entry) for entry in row[3] or ())
        wraps = frozenset((one.compartment_id, w.purpose) for one in parse_wraps(row[2]) for w in one.wraps)
    except (Unreadable, TypeError):
        return _Rows(None, None, ())
    return _Rows(state, wraps, choices)


def _fenced(rows: _Rows) -> bool:
    return rows.state is None or rows.state.fenced


def _shown(one: Refusal | Objection | RemovedWraps, rows: _Rows) -> bool:
    """Does the person show it? One who cannot be believed, or is being erased, is not asked."""
    if rows.state is None or rows.state.fenced:
        return True
    if one.version > rows.state.version:
        return False
    if isinstance(one, RemovedWraps):
        return rows.compartments is None or rows.compartments.isdisjoint(one.wraps)
    said = {
        choice.purpose
        for choice in rows.choices
        if one.at - LATE <= choice.received_at and choice.decision not in _WIDENS  # later: a replay says it anew
    }
    return all(purpose in said for purpose in range(one.purposes.bit_length()) if one.purposes >> purpose & 1)


async def _committed(driver: Raw, one: Refusal | Objection | RemovedWraps) -> bool:
    """Has the log an entry of a choice, of exactly that moment, that only this person could explain, and no longer does?"""
    first, end = _moment(one.at), _moment(Micros(one.at + 1000))
    for leaf, theirs in await driver.fetch(_AT, first, end, [one.subject]):
        if theirs and _is(leaf, Tag.CONSENT_CHOICE_RECORDED, one.at):
            # Their salt is there: then the ledger says it after all, or the leaf itself accuses them (`Check.LOG`).
            return isinstance(one, RemovedWraps)
    return any(_is(row[0], Tag.CONSENT_CHOICE_RECORDED, one.at) for row in await driver.fetch(_UNSALTED, first, end))


async def _destroyed(driver: Raw, one: Erasure) -> bool:
    """Has the log the entry of this erasure's destruction of keys? It may come at any time after: a replay destroys them, too.

    Asked only of who is back, so it may read the log from there to its end.
    """
    request, after = str(one.request_id), _FIRST
    while rows := await driver.fetch(_AFTER, _moment(one.at), after, LEAVES):
        for row in rows:
            entry = _entry(row[1])
            if entry is not None and entry.tag is Tag.RIGHTS_KEYS_DESTROYED and entry.detail.get("request") == request:
                return True
        after = UUID(bytes=rows[-1][0].bytes)
    return False


def _is(leaf: bytes, tag: Tag, at: Micros) -> bool:
    entry = _entry(leaf)
    return entry is not None and entry.tag is tag and entry.at == at


def _entry(leaf: bytes) -> Entry | None:
    try:
        return parse(leaf)
    except Unreadable:
        return None


def _moment(at: Micros) -> UUID:
    """The lowest id of a millisecond."""
    return UUID(int=(at // 1000 & (1 << 48) - 1) << 80)


def _batches(narrowings: Iterable[Narrowing]) -> Iterator[list[Narrowing]]:
    source = iter(narrowings)
    while some := list(islice(source, BATCH)):
        yield some
