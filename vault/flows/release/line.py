"""One profile for one destination: opened, shaped, and put into a line of the feed. Lookup and webhooks use the same.

What a person's choices do not allow is never opened. The answer says what left, so that it can be recorded before it goes.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import MEMBERSHIPS
from vault.clock import Micros
from vault.consent.decision import meet
from vault.disclosures.record import Released
from vault.errors import Unavailable, Unreadable
from vault.flows.release.people import Known, Member
from vault.flows.release.plan import Plan, PurposePlan
from vault.keys.compartments import Compartment, Opener, Wrapped
from vault.keys.keyring import Keyring
from vault.profile.sealing import open_fields
from vault.profile.view import View, computed_of, identifiers_of, newest, view

if TYPE_CHECKING:
    from vault.profile.values import FieldHead

Raw = msgspec.Raw


class Shown(msgspec.Struct, frozen=True):
    """What one purpose shows of a person, in the destination's form."""

    purpose: PurposePlan
    traits: dict[str, Raw]
    identifiers: dict[str, list[Raw]]
    audiences: list[str]
    items: tuple[tuple[int, int], ...]  # (object, transform)
    named: dict[str, tuple[int, int]]  # the same by name, of traits and audiences: what a lookup chooses from

    def __repr__(self) -> str:
        return f"Shown({self.purpose.name})"


def allowed_of(catalogue: Catalogue, known: Known, now: Micros) -> int:
    """Mask of the purposes that the whole profile permits now: nothing that one of its members refused."""
    return meet(catalogue, (member.state for member in known.members), now)


def shown_to(plan: Plan, keyring: Keyring, known: Known, allowed: int) -> list[Shown]:
    """For each purpose of the plan that the person allows, what it shows; purposes that show nothing are left out.

    Raises `Unreadable` if anything that should open does not: then nothing of the person is released.
    """
    openers = [Opener(keyring, member.state.subject) for member in known.members]
    shown = []
    for purpose in plan.purposes:
        if not allowed >> purpose.number & 1:
            continue
        seen = _open(purpose, keyring, known.members, openers)
        one = _shape(purpose, seen)
        if one.items:
            shown.append(one)
    return shown


def _open(purpose: PurposePlan, keyring: Keyring, members: tuple[Member, ...], openers: list[Opener]) -> View:
    """Opens of each trait the newest value only, and of the joint fields what the permit names."""
    sealed: list[tuple[FieldHead, tuple[int, int, bytes]]] = []
    joint: list[tuple[FieldHead, tuple[int, int, bytes]]] = []
    for m, member in enumerate(members):
        for s, shelf in enumerate(member.shelves):
            if not shelf.wrapped.held >> purpose.number & 1:
                continue
            for head, blob in shelf.fields:
                if purpose.wants(head.field) and (m == 0 or head.field != MEMBERSHIPS):
                    (sealed if head.field in purpose.traits else joint).append((head, (m, s, blob)))
    wanted: dict[tuple[int, int], list[tuple[FieldHead, bytes]]] = {}
    for head, (m, s, blob) in (*newest(sealed).values(), *joint):
        wanted.setdefault((m, s), []).append((head, blob))
    opened: list[tuple[FieldHead, bytes]] = []
    for (m, s), fields in wanted.items():
        compartment = _opened(keyring, openers[m], members[m].shelves[s].wrapped, purpose.number)
        opened.extend(open_fields(compartment, fields, purpose.permit))
    return view(opened)


def _opened(keyring: Keyring, opener: Opener, wrapped: Wrapped, purpose: int) -> Compartment:
    """The compartment. A wrap that names an epoch which never was is this person's trouble only (threat A14)."""
    try:
        return opener.open(wrapped, purpose)
    except Unavailable:
        keyring.epoch(purpose)  # raises where no key of the purpose is held: then nobody is served
        raise Unreadable from None


def _shape(purpose: PurposePlan, seen: View) -> Shown:
    """Puts what was opened into the destination's form. A transform that does not fit withholds the value."""
    traits: dict[str, Raw] = {}
    identifiers: dict[str, list[Raw]] = {}
    items: list[tuple[int, int]] = []
    named: dict[str, tuple[int, int]] = {}
    for number, item in purpose.traits.items():
        value = seen.traits.get(number)
        shaped = item.apply(value) if value is not None else None
        if shaped is not None:
            traits[item.name] = Raw(shaped)
            named[item.name] = (number, item.transform)
    values = computed_of(seen, [one for one, _ in purpose.computed])
    for one, item in purpose.computed:
        value = values.get(one.number)
        shaped = item.apply(value) if value is not None else None
        if shaped is not None:
            traits[item.name] = Raw(shaped)
            named[item.name] = (item.number, item.transform)
    for number, chosen in identifiers_of(seen, {n: item.which for n, item in purpose.identifiers.items()}).items():
        item = purpose.identifiers[number]
        forms = [shaped for text in chosen if (shaped := item.apply(msgspec.json.encode(text))) is not None]
        if forms:
            identifiers[item.name] = [Raw(form) for form in forms]
            items.append((number, item.transform))
    audiences = []
    for number, item in purpose.audiences.items():
        if number in seen.audiences:
            audiences.append(item.name)
            named[item.name] = (item.number, item.transform)
    items.extend(named.values())
    return Shown(purpose, traits, identifiers, sorted(audiences), tuple(sorted(items)), named)


def upsert(plan: Plan, known: Known, shown: list[Shown], number: int) -> dict[str, Any]:
    """The line that holds the whole current view."""
    line: dict[str, Any] = {"op": "upsert", "id": plan.id_of(known.root)}
    traits: dict[str, Raw] = {}
    identifiers: dict[str, list[Raw]] = {}
    audiences: set[str] = set()
    for one in shown:
        traits.update(one.traits)
        identifiers.update(one.identifiers)
        audiences.update(one.audiences)
    line["traits"] = traits
    line["identifiers"] = identifiers
    line["audiences"] = sorted(audiences)
    line["purposes"] = [one.purpose.name for one in shown]
    if len(plan.purposes) > 1:
        line["allowed"] = {
            one.purpose.name: {
                "traits": sorted(one.traits),
                "identifiers": sorted(one.identifiers),
                "audiences": one.audiences,
            }
            for one in shown
        }
    line["version"] = number
    return line


def released(shown: list[Shown], ledger: int) -> tuple[Released, ...]:
    """What a disclosure record says of it; `ledger` is the length of the ledger on which the decision rests."""
    return tuple(Released(one.purpose.number, one.purpose.basis, ledger, one.items) for one in shown)
