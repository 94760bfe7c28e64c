"""What a page says of one change: which lines, what they disclose, what the destination holds after them.

Contract, gate and each person's choices decide; what they allow is opened and shaped by `line`. What the choices allow is
worked out once for each state of choices on a page, since few serve everyone. Writes nothing: `record` does.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import audience_object, computed_object, identifier_object, is_account_object
from vault.clock import Micros
from vault.consent.ledger import Decision, parse_choice
from vault.disclosures.held import Held, Reason, after_removal, after_upsert
from vault.errors import Unreadable
from vault.flows.release.line import Shown, allowed_of, detail_of, objects_shown, shown_to_each, upsert
from vault.flows.release.people import Known
from vault.flows.release.plan import Plan
from vault.flows.release.record import Left, Sheet, Turned
from vault.flows.vault import Vault
from vault.state.record import State

_new: Final = tuple.__new__  # a named tuple without a Python call
Line = dict[str, Any]


class Draft(Sheet):
    """A page in the making."""

    lines: list[bytes] = msgspec.field(default_factory=list)  # each ends in a line feed
    after: int = 0
    more: bool = False


class Verdict(NamedTuple):
    """What a profile's choices say now."""

    allowed: int  # mask of the plan's purposes
    restricted: bool
    unsettled: bool  # a choice has ended that no ledger tells of yet


class Told(NamedTuple):
    """What may be shown of a profile; None where something that should open does not."""

    verdict: Verdict
    shown: list[Shown] | None


class Decider:
    """Decides the changes of one page, one after the other, into its draft."""

    def __init__(self, vault: Vault, plan: Plan, draft: Draft) -> None:
        """Everything is judged by the moment of the draft."""
        self._vault = vault
        self._plan = plan
        self._draft = draft
        self._ended = plan.ended(draft.at)
        self._verdicts: dict[tuple[int | bool, ...], Verdict] = {}

    def told(self, people: Sequence[tuple[Known, Held | None]]) -> dict[UUID, Told]:
        """What may be said of profiles that were read whole, by root; with each what the destination holds of it."""
        verdicts = [self._verdict(known) for known, _ in people]
        wanted = [
            (known, 0 if self._shut(verdict, before) else verdict.allowed)
            for verdict, (known, before) in zip(verdicts, people, strict=True)
        ]
        shown = shown_to_each(self._plan, self._vault.keyring, wanted)
        return {
            known.root: _new(Told, (verdict, view))
            for (known, _), verdict, view in zip(people, verdicts, shown, strict=True)
        }

    def person(self, number: int, known: Known, name: str, before: Held | None, told: Told) -> None:
        """One change of a profile. `name` is the destination's own for it."""
        draft, plan = self._draft, self._plan
        (allowed, restricted, unsettled), shown = told
        if self._ended:
            self.remove(number, before, "contract_ended")
            return
        if restricted and before is not None and self._keeps(before):
            draft.lines.append(line_of({"op": "restrict", "id": name}))
            return
        if shown is None:
            draft.unreadable.append(known.root)
            return
        try:
            reason = None if shown else _reason(plan, known, draft.at, allowed, before)
        except Unreadable:
            draft.unreadable.append(known.root)
            return
        if reason is not None:
            self.remove(number, before, reason, settled=not unsettled)
            return
        objects = objects_shown(shown)
        was = before or Held(known.root, plan.contract.number)
        after = after_upsert(was, objects | was.fields if unsettled else objects, number)
        if after.gone or unsettled:
            lost = (after.gone | after.fields) - objects
            if lost and after.acknowledged_at is None:
                draft.lines.append(line_of(_retraction(self._vault.catalogue, name, lost)))
        draft.lines.append(upsert(plan, name, shown, number))
        ledger = known.members[0].state.ledger_count
        draft.left.append(Left(known.root, number, detail_of(shown, ledger), before))
        if after is not before:
            draft.turned.append(Turned(before, after))

    def remove(
        self, number: int, before: Held | None, reason: Reason, into: UUID | None = None, *, settled: bool = True
    ) -> None:
        """Tells the destination to delete a profile that it holds; says nothing where it never held one, or was told before."""
        if before is None or before.removed_number is not None:
            return
        after = after_removal(before, number, reason, into)
        self.repeat(after)
        if settled:
            self._draft.turned.append(Turned(before, after))

    def repeat(self, removed: Held) -> None:
        """The line of a removal, whether it is told for the first time or again."""
        self._draft.lines.append(line_of(_removal(self._plan, removed)))

    def _shut(self, verdict: Verdict, before: Held | None) -> bool:
        """Need nothing be opened, whatever the choices allow?"""
        if before is None:
            return self._ended
        return self._ended or before.damaged or (verdict.restricted and self._keeps(before))

    def _keeps(self, before: Held) -> bool:
        """May the destination go on holding what it must not use?"""
        return self._plan.contract.can_restrict and bool(before.fields)

    def _verdict(self, known: Known) -> Verdict:
        if len(known.members) > 1:
            return self._judged(known)
        state = known.members[0].state
        for _, at in state.expiries:
            if at <= self._draft.at:
                return self._judged(known)
        choices = _choices(state)
        found = self._verdicts.get(choices)
        if found is None:
            found = self._verdicts[choices] = self._judged(known)
        return found

    def _judged(self, known: Known) -> Verdict:
        return Verdict(
            allowed_of(self._vault.catalogue, known, self._draft.at) & self._plan.mask,
            any(member.state.restricted for member in known.members),
            _unsettled(self._plan, known, self._draft.at),
        )


def _choices(state: State) -> tuple[int | bool, ...]:
    """All that decides what a person permits, while no choice has ended."""
    return (
        state.granted, state.refused, state.blocked, state.objected, state.restricted, state.fenced, state.minor,
    )  # fmt: skip


def _unsettled(plan: Plan, known: Known, now: Micros) -> bool:
    """Has a choice ended that no ledger tells of yet?

    What that takes back must wait for the number of its own change: under this one, whoever passed it would never hear.
    """
    for member in known.members:
        for purpose, at in member.state.expiries:
            if at <= now and plan.mask >> purpose & 1:
                return True
    return False


def line_of(line: Line) -> bytes:
    """A line of the feed, with its line feed."""
    return msgspec.json.encode(line) + b"\n"


def _removal(plan: Plan, held: Held) -> Line:
    line: Line = {"op": "remove", "id": plan.id_of(held.subject_id), "reason": held.reason}
    if held.into_root is not None:
        line["into"] = plan.id_of(held.into_root)
    return line


def _retraction(catalogue: Catalogue, name: str, lost: frozenset[int]) -> Line:
    """Names of what must be deleted, each under the member in which an `upsert` carries it.

    What left the policies has no name any more; the `upsert` that follows does not hold it, and is the whole view.
    """
    line: Line = {"op": "retract", "id": name, "traits": [], "identifiers": [], "audiences": []}
    for number in lost & catalogue.objects.keys():
        line.setdefault(_member_of(number), []).append(catalogue.object_name(number))
    for member in line.keys() & {"traits", "identifiers", "audiences", "accounts"}:
        line[member].sort()
    return line


def _member_of(number: int) -> str:
    if number >= audience_object(0):
        return "audiences"
    if number >= computed_object(0) or number < identifier_object(0):
        return "traits"
    return "accounts" if is_account_object(number) else "identifiers"


def _reason(plan: Plan, known: Known, now: Micros, allowed: int, before: Held | None) -> Reason:
    """Why nothing is shown any more, as exactly as the destination needs to know."""
    if any(member.state.fenced for member in known.members):
        return "erased"
    if before is not None and before.fields and not before.fields & plan.objects:
        return "policy"
    if any((m.state.refused | m.state.blocked | m.state.objected) & plan.mask & ~allowed for m in known.members):
        return "withdrawn"
    if _unsettled(plan, known, now) or any(
        _expired(plan, entry) for member in known.members for entry in member.ledger
    ):
        return "expired"
    return "out_of_scope"


def _expired(plan: Plan, entry: bytes) -> bool:
    choice = parse_choice(entry)
    return choice.decision is Decision.EXPIRED and bool(plan.mask >> choice.purpose & 1)
