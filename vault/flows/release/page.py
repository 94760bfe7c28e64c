"""One page of a destination's feed: decided in one snapshot, on record before its first byte.

1. The cursor says how far the reader is; another policy, or the end of the contract, starts a new snapshot, framed by
`reset` and `snapshot_end`. 2. The changes after it, and the people they name, are read in one database snapshot. 3. Contract,
gate and each person's choices decide; what they allow is opened and shaped. 4. Disclosures, what the destination now holds,
and the page's audit entry are written in one commit. 5. Only then is the page returned, and only if it is younger than a
second; else it is decided again (design section 2, promise 5).

A page that is asked for twice says the same again, so a lost answer loses nothing. A removal keeps its number and is
repeated to every reader that passes it, even where the person has moved on to a later change; a retraction is repeated
with the person's line until the destination confirms it. So who asks with a cursor was told of every removal before it, and
where the contract says so, has confirmed them by that.
"""

import asyncio
import hashlib
from contextlib import aclosing
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.audit.entry import Tag
from vault.changes.cursor import Cursor, pack, unpack
from vault.changes.store import page as changes_after
from vault.clock import SECOND, Micros
from vault.disclosures.held import Held
from vault.disclosures.store import held_by, read_on, removed_after
from vault.errors import Conflict, NotFound, Unavailable
from vault.flows.release import effect
from vault.flows.release.ahead import ahead
from vault.flows.release.decide import Decider, Draft, line_of
from vault.flows.release.people import Known, Moved, People, read
from vault.flows.release.plan import Plan
from vault.flows.release.record import record
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names
from vault.measures import DECISION_AGE
from vault.storage.session import Raw, raw

MAX_LINES: Final = 1000  # people a page: some hundred kilobytes, decided in about 50 ms
SLICE: Final = 500  # people read at once: the next are read while these are decided
BREATH: Final = 25  # people decided at a stretch, step by step: some two milliseconds, then others have their turn
FRESH: Final = SECOND  # a decision older than this is taken again
ATTEMPTS: Final = 5  # each with half as many people as the one before


class Page(NamedTuple):
    """A page, decided and on record."""

    lines: list[bytes]  # each ends in a line feed; the last one holds the cursor
    cursor: str
    at: Micros  # when it was decided

    def __repr__(self) -> str:
        return f"Page(lines={len(self.lines)})"


async def page(vault: Vault, destination: str, cursor: str | None, limit: int = MAX_LINES) -> list[bytes]:
    """The lines of `read_page`."""
    return (await read_page(vault, destination, cursor, limit)).lines


async def read_page(vault: Vault, destination: str, cursor: str | None, limit: int = MAX_LINES) -> Page:
    """The page after `cursor`; without one, the first page of a snapshot.

    Raises `NotFound` for an unknown destination, `Invalid` for a cursor that is not of this destination, `Gone` for one of
    another database, `Unavailable` if no page could be decided fresh enough or recorded.
    """
    vault.keyring.refresh()
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    key = vault.keyring.key(names.CURSOR)
    terms = _terms(vault, plan)
    place = unpack(cursor, key, plan.contract.number, vault.incarnation) if cursor else None
    begins = place is None or place.policy != terms
    if place is None or begins:
        place = Cursor(plan.contract.number, vault.incarnation, terms, 0, snapshot=True)
    await _confirm(vault, plan, place)
    draft = await _recorded(vault, plan, place, max(1, min(limit, MAX_LINES)))
    ends = place.snapshot and not draft.more
    following = pack(
        Cursor(place.destination, place.incarnation, terms, draft.after, snapshot=place.snapshot and not ends), key
    )
    lines = [line_of({"op": "reset"})] if begins else []
    lines += draft.lines
    if ends:
        lines.append(line_of({"op": "snapshot_end"}))
    lines.append(line_of({"cursor": following, "more": draft.more}))
    return Page(lines, following, draft.at)


def fresh(vault: Vault, at: Micros) -> bool:
    """May what was decided at `at` still leave?"""
    return vault.clock.now() - at <= FRESH


def _terms(vault: Vault, plan: Plan) -> bytes:
    """What a cursor rests on. The end of a contract is a change of terms that no profile's change tells."""
    if plan.ended(vault.clock.now()):
        return hashlib.sha256(b"contract ended" + vault.policy.digest).digest()[:8]
    return vault.policy.digest[:8]


async def _confirm(vault: Vault, plan: Plan, place: Cursor) -> None:
    """A destination whose contract `acknowledges` by cursor has carried out what came before the one it asks with."""
    if plan.contract.acknowledges != "cursor" or not place.number:
        return
    key = vault.keyring.key(names.STATE)
    async with vault.database.begin() as connection:
        count = await read_on(await raw(connection), plan.contract.number, place.number, vault.clock.now(), key)
        if count:
            detail: dict[str, Any] = {"destination": plan.contract.name, "profiles": count}
            actor = f"destination:{plan.contract.name}"
            await leave(vault, connection, Tag.DISCLOSURE_ACKNOWLEDGEMENT_TAKEN, actor, detail)


async def _recorded(vault: Vault, plan: Plan, place: Cursor, limit: int) -> Draft:
    """Decides as often as it takes until a page is on record and fresh."""
    for attempt in range(ATTEMPTS):
        draft = await _decide(vault, plan, place, max(1, limit >> attempt))
        if not fresh(vault, draft.at):
            continue
        try:
            await record(vault, plan, draft, Tag.DISCLOSURE_PAGE_RELEASED, Tag.DISCLOSURE_PAGE_WITHHELD)
        except Conflict as error:
            if error.reason != "retry":
                raise
            continue
        await effect.measured(vault, plan, draft)
        if fresh(vault, draft.at):
            DECISION_AGE.observe((vault.clock.now() - draft.at) / SECOND)
            return draft
    raise Unavailable("The page could not be decided within a second; ask for fewer lines with `limit`.")


async def _decide(vault: Vault, plan: Plan, place: Cursor, limit: int) -> Draft:
    """Reads one snapshot and decides every change in it."""
    async with vault.database.snapshot() as connection:
        draft = Draft(at=vault.clock.now())
        changes = dict(await changes_after(connection, place.number, limit + 1))
        repeated = {
            one.removed_number: one
            for one in await removed_after(
                connection, plan.contract.number, place.number, limit + 1, confirmed=not place.snapshot
            )
            if one.removed_number is not None
        }
        numbers = sorted(changes.keys() | repeated.keys())
        draft.more = len(numbers) > limit
        numbers = numbers[:limit]
        draft.after = numbers[-1] if numbers else place.number
        parts = [numbers[start : start + SLICE] for start in range(0, len(numbers), SLICE)]
        decider = Decider(vault, plan, draft)
        reader = _Reader(vault, plan, connection, changes)
        async with aclosing(ahead(reader.read, parts)) as slices:
            async for part, seen in slices:
                await _decide_part(decider, draft, part, repeated, changes, seen)
    return draft


class _Seen(NamedTuple):
    """What was read of the people of a slice."""

    people: People
    held: dict[UUID, Held]
    erased: set[UUID]
    ids: dict[UUID, str]  # the destination's own names


class _Reader(NamedTuple):
    """Reads slices of a page, all in one snapshot."""

    vault: Vault
    plan: Plan
    connection: Raw
    changes: dict[int, UUID]

    async def read(self, numbers: list[int]) -> _Seen:
        """What a decision about the changes of these numbers rests on."""
        subjects = [self.changes[number] for number in numbers if number in self.changes]
        people = await read(self.connection, subjects, self.plan.mask, self.vault.keyring.key(names.STATE))
        held = await held_by(self.connection, self.plan.contract.number, subjects)
        erased = await _erased(self.connection, [subject for subject in subjects if subject not in people])
        return _Seen(people, held, erased, dict(zip(subjects, self.plan.ids_of(subjects), strict=True)))


async def _decide_part(
    decider: Decider,
    draft: Draft,
    numbers: list[int],
    repeated: dict[int, Held],
    changes: dict[int, UUID],
    seen: _Seen,
) -> None:
    held = seen.held
    for start in range(0, len(numbers), BREATH):
        await asyncio.sleep(0)
        part = numbers[start : start + BREATH]
        subjects = [changes[number] for number in part if number in changes]
        found = dict(zip(subjects, seen.people.of(subjects), strict=True))
        told = decider.told([(one, held.get(one.root)) for one in found.values() if isinstance(one, Known)])
        for number in part:
            if number in repeated:
                decider.repeat(repeated[number])
            subject = changes.get(number)
            if subject is None:
                continue
            known, before = found[subject], held.get(subject)
            if before is not None and before.damaged:
                draft.unreadable.append(subject)
            elif isinstance(known, Known):
                decider.person(number, known, seen.ids[subject], before, told[subject])
            elif subject in seen.erased:
                decider.remove(number, before, "erased")
            elif isinstance(known, Moved):
                decider.remove(number, before, "merged", known.root)
            else:  # rows that do not agree, or are missing though nobody erased them: withheld and recorded
                draft.unreadable.append(subject)


async def _erased(connection: Raw, subjects: list[UUID]) -> set[UUID]:
    if not subjects:
        return set()
    rows = await connection.fetch("SELECT subject_id FROM erased WHERE subject_id = ANY ($1::uuid[])", subjects)
    return {row[0] for row in rows}
