"""One page of a destination's feed: decided in one snapshot, on record before its first byte.

1. The cursor says how far the reader is; another policy starts a new snapshot, framed by `reset` and `snapshot_end`.
2. The changes after it, and the people they name, are read in one database snapshot. 3. Contract, gate and each person's
choices decide; what they allow is opened and shaped. 4. Disclosures, what the destination now holds, and the page's audit
entry are written in one statement. 5. Only then is the page returned, and only if it is younger than a second; else it is
decided again (design section 2, promise 5).

A page that is asked for twice says the same again: what had to be removed or retracted after the reader's cursor is
repeated, so a lost answer loses nothing.
"""

from typing import Any, Final
from uuid import UUID

import msgspec

from vault.changes.cursor import Cursor, pack, unpack
from vault.changes.store import page as changes_after
from vault.clock import SECOND, Micros
from vault.disclosures.held import Held, Reason, after_removal, after_upsert
from vault.disclosures.record import objects_of
from vault.disclosures.store import held_by
from vault.errors import NotFound, Unavailable, Unreadable
from vault.flows.release.line import allowed_of, released, shown_to, upsert
from vault.flows.release.people import Known, Moved, read
from vault.flows.release.plan import Plan
from vault.flows.release.record import Left, record
from vault.flows.vault import Vault
from vault.keys import names
from vault.storage.session import Raw

MAX_LINES: Final = 1000  # people a page: some hundred kilobytes, decided in about 50 ms
FRESH: Final = SECOND  # a decision older than this is taken again
ATTEMPTS: Final = 3

Line = dict[str, Any]


class Draft(msgspec.Struct):
    """A page in the making."""

    at: Micros
    lines: list[Line] = msgspec.field(default_factory=list)
    left: list[Left] = msgspec.field(default_factory=list)
    held: list[Held] = msgspec.field(default_factory=list)
    unreadable: list[UUID] = msgspec.field(default_factory=list)
    after: int = 0
    more: bool = False

    def __repr__(self) -> str:
        return f"Draft(lines={len(self.lines)})"


async def page(vault: Vault, destination: str, cursor: str | None, limit: int = MAX_LINES) -> list[bytes]:
    """The lines of the page after `cursor`, each ending in a line feed; the last one holds the next cursor.

    Raises `NotFound` for an unknown destination, `Invalid` for a cursor that is not of this destination, `Gone` for one of
    another database, `Unavailable` if no page could be decided fresh enough or recorded.
    """
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    key = vault.keyring.key(names.CURSOR)
    policy = vault.policy.digest[:8]
    place = unpack(cursor, key, plan.contract.number, vault.incarnation) if cursor else None
    begins = place is None or place.policy != policy
    if place is None or begins:
        place = Cursor(plan.contract.number, vault.incarnation, policy, 0, snapshot=True)
    limit = max(1, min(limit, MAX_LINES))
    for attempt in range(ATTEMPTS):
        draft = await _decide(vault, plan, place, max(1, limit >> attempt))
        await record(vault, plan, draft.at, draft.left, draft.held, draft.unreadable)
        if vault.clock.now() - draft.at <= FRESH:
            break
    else:
        raise Unavailable("The page could not be decided within a second; ask for fewer lines with `limit`.")
    ends = place.snapshot and not draft.more
    following = Cursor(place.destination, place.incarnation, policy, draft.after, snapshot=place.snapshot and not ends)
    lines: list[Line] = [{"op": "reset"}] if begins else []
    lines += draft.lines
    if ends:
        lines.append({"op": "snapshot_end"})
    lines.append({"cursor": pack(following, key), "more": draft.more})
    encode = msgspec.json.encode
    return [encode(line) + b"\n" for line in lines]


async def _decide(vault: Vault, plan: Plan, place: Cursor, limit: int) -> Draft:
    """Reads one snapshot and decides every change in it."""
    async with vault.database.snapshot() as connection:
        draft = Draft(vault.clock.now())
        changes = await changes_after(connection, place.number, limit + 1)
        draft.more = len(changes) > limit
        changes = changes[:limit]
        draft.after = changes[-1][0] if changes else place.number
        subjects = [subject for _, subject in changes]
        people = await read(connection, subjects, plan.mask, vault.keyring.key(names.STATE))
        held = await held_by(connection, plan.contract.number, subjects)
        erased = await _erased(connection, [subject for subject in subjects if subject not in people])
    for number, subject in changes:
        known = people.get(subject)
        before = held.get(subject)
        if subject in erased:
            _remove(draft, plan, place, subject, number, before, "erased")
        elif isinstance(known, Known):
            _person(vault, plan, place, draft, known, number, before)
        elif isinstance(known, Moved):
            _remove(draft, plan, place, subject, number, before, "merged", known.root)
        else:  # rows that do not agree, or are missing though nobody erased them: withheld and recorded
            draft.unreadable.append(subject)
    return draft


async def _erased(connection: Raw, subjects: list[UUID]) -> set[UUID]:
    if not subjects:
        return set()
    rows = await connection.fetch("SELECT subject_id FROM erased WHERE subject_id = ANY ($1::uuid[])", subjects)
    return {UUID(bytes=row[0].bytes) for row in rows}


def _person(
    vault: Vault, plan: Plan, place: Cursor, draft: Draft, known: Known, number: int, before: Held | None
) -> None:
    root = known.members[0].state
    if plan.ended(draft.at):
        _remove(draft, plan, place, known.root, number, before, "contract_ended")
        return
    if root.restricted and plan.contract.can_restrict and before is not None and before.fields:
        draft.lines.append({"op": "restrict", "id": plan.id_of(known.root)})
        return
    allowed = allowed_of(vault.catalogue, known, draft.at) & plan.mask
    try:
        shown = shown_to(plan, vault.keyring, known, allowed) if allowed else []
    except Unreadable:
        draft.unreadable.append(known.root)
        return
    if not shown:
        _remove(draft, plan, place, known.root, number, before, _reason(vault, plan, known, draft.at))
        return
    detail = released(shown, root.ledger_count)
    after = after_upsert(before or Held(known.root, plan.contract.number), objects_of(detail), number)
    if after.gone and after.gone_number is not None and place.number < after.gone_number:
        draft.lines.append(_retraction(vault, plan, known.root, after.gone))
    draft.lines.append(upsert(plan, known, shown, number))
    draft.left.append(Left(known.root, number, detail))
    if before != after:
        draft.held.append(after)


def _remove(
    draft: Draft,
    plan: Plan,
    place: Cursor,
    root: UUID,
    number: int,
    before: Held | None,
    reason: Reason,
    into: UUID | None = None,
) -> None:
    """Tells the destination to delete a profile that it holds; says nothing where it never held one."""
    if before is None:
        return
    if before.removed_number is None:
        before = after_removal(before, number, reason, into)
        draft.held.append(before)
    if before.removed_number is None or place.number >= before.removed_number:
        return
    line: Line = {"op": "remove", "id": plan.id_of(root), "reason": before.reason}
    if before.into_root is not None:
        line["into"] = plan.id_of(before.into_root)
    draft.lines.append(line)


def _retraction(vault: Vault, plan: Plan, root: UUID, lost: frozenset[int]) -> Line:
    return {"op": "retract", "id": plan.id_of(root), "traits": sorted(vault.catalogue.object_name(n) for n in lost)}


def _reason(vault: Vault, plan: Plan, known: Known, now: Micros) -> Reason:
    """Why nothing is shown any more, as exactly as the destination needs to know."""
    for member in known.members:
        state = member.state
        if state.fenced:
            return "erased"
        if (state.refused | state.blocked | state.objected) & plan.mask:
            return "withdrawn"
        if any(at <= now and plan.mask >> purpose & 1 for purpose, at in state.expiries):
            return "expired"
    return "out_of_scope"


