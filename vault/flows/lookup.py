"""One profile for one destination, found by an identifier: the paths of Segment's Profile API.

Promises: the same plan, choices and transforms as the feed; what is sent, and nothing else, is on record before it is
answered; who is unknown, who allows nothing and who cannot be read look the same (threats G12).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from vault.audit.entry import Tag
from vault.disclosures.held import Held, after_upsert
from vault.disclosures.record import Released, objects_of, pack_detail
from vault.errors import Conflict, Invalid, NotFound, Unavailable, Unreadable
from vault.flows.release.line import Shown, allowed_of, shown_to
from vault.flows.release.page import fresh
from vault.flows.release.people import Known, find
from vault.flows.release.plan import Plan
from vault.flows.release.record import Left, Sheet, Turned, record
from vault.flows.release.single import record_one
from vault.flows.tags import check_turn, identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.storage.session import Raw

DEFAULT_LIMIT: Final = 10  # as Segment's Profile API
MAX_LIMIT: Final = 200
MISSING: Final = "Profile was not found."
ATTEMPTS: Final = 3
_RELEASED: Final = Tag.DISCLOSURE_LOOKUP_RELEASED

Answer = dict[str, Any]


class Draft(Sheet):
    """A lookup in the making."""

    answer: Answer | None = None  # None: nothing may be seen


async def traits(
    vault: Vault, destination: str, kind: str, value: str, include: Sequence[str] = (), limit: int = DEFAULT_LIMIT
) -> Answer:
    """`{"traits": {...}, "cursor": {...}}` of the profile that `kind:value` finds, as `destination` may see it now.

    Raises `NotFound` if there is none or nothing may be seen, `Invalid` for a limit out of range, `Unavailable` if the
    disclosure cannot be recorded.
    """
    vault.keyring.refresh()
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit is a number from 1 to {MAX_LIMIT}.")
    for _ in range(ATTEMPTS):
        try:
            async with vault.database.hot() as connection:
                draft = await _decide(vault, connection, plan, kind, value, include, limit)
                recorded = fresh(vault, draft.at) and await record_one(vault, connection, plan, draft, _RELEASED)
            if not recorded:
                if not fresh(vault, draft.at):
                    continue
                await record(vault, plan, draft, _RELEASED, Tag.DISCLOSURE_LOOKUP_WITHHELD)
        except Conflict as error:
            if error.reason != "retry":
                raise
            continue
        if draft.answer is None:
            raise NotFound(MISSING)
        if fresh(vault, draft.at):
            return draft.answer
    raise Unavailable("The decision grew old before it could be sent; ask again.")


async def _decide(
    vault: Vault, connection: Raw, plan: Plan, kind: str, value: str, include: Sequence[str], limit: int
) -> Draft:
    """Reads the profile as it stands at one moment, and decides what is sent.

    What the destination holds is compared again, under a lock, when this is recorded.
    """
    turn, tag = vault.keyring.turn, _tag(vault, kind, value)
    draft = Draft(at=vault.clock.now())
    if tag is None or plan.ended(draft.at):
        return draft
    state_key = vault.keyring.key(names.STATE)
    found = await find(connection, tag, plan.mask, plan.contract.number, state_key, vault.pointers)
    if found is None:
        await check_turn(connection, turn)
        return draft
    known, before = found.known, found.held
    if known is None or (before is not None and before.damaged):
        draft.unreadable.append(found.subject)
        return draft
    try:
        shown = shown_to(plan, vault.keyring, known, allowed_of(vault.catalogue, known, draft.at) & plan.mask)
    except Unreadable:
        draft.unreadable.append(found.subject)
        return draft
    if shown:
        draft.answer, sent = _answer(shown, include, limit)
        _note(draft, plan, known, sent, before, found.number)
    return draft


def _note(draft: Draft, plan: Plan, known: Known, sent: tuple[Released, ...], before: Held | None, number: int) -> None:
    """What is looked up is held beside what the feed gave: only the feed says what it takes back."""
    if not sent:
        return
    ledger = known.members[0].state.ledger_count
    detail = tuple(one._replace(ledger=ledger) for one in sent)
    draft.left.append(Left(known.root, number, pack_detail(detail), before))
    was = before or Held(known.root, plan.contract.number)
    after = after_upsert(was, was.fields | objects_of(detail), number)
    if after != before:
        draft.turned.append(Turned(before, after))


def _tag(vault: Vault, kind_name: str, value: str) -> bytes | None:
    """The tag by which an identifier finds somebody; None for what is no identifier."""
    kind = vault.catalogue.identifiers.get(kind_name)
    normal = normalise(kind, value) if kind is not None else None
    return None if kind is None or normal is None else identity_tag(vault.keyring, kind.name, normal)


def _answer(shown: list[Shown], include: Sequence[str], limit: int) -> tuple[Answer, tuple[Released, ...]]:
    """What is sent, and what to record of it: only what the answer holds."""
    found: dict[str, msgspec.Raw | bool] = {}
    objects: dict[str, dict[int, tuple[int, int]]] = {}  # name -> purpose -> (object, transform)
    for one in shown:
        found.update((item.name, msgspec.Raw(value)) for item, value in one.traits)
        found.update((item.name, True) for item in one.audiences)
        for item in (*(item for item, _ in one.traits), *one.audiences):
            objects.setdefault(item.name, {})[one.purpose.number] = (item.number, item.transform)
    names_ = sorted(name for name in found if not include or name in include)
    page = names_[:limit]
    more = len(names_) > limit
    sent = []
    for one in shown:
        number = one.purpose.number
        items = tuple(sorted(objects[name][number] for name in page if number in objects[name]))
        if items:
            sent.append(Released(number, one.purpose.basis, 0, items))
    answer = {
        "traits": {name: found[name] for name in page},
        "cursor": {"url": "", "has_more": more, "next": page[-1] if more else "", "limit": limit},
    }
    return answer, tuple(sent)
