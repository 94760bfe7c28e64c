"""One profile for one destination: opened, shaped, and put into a line of the feed. Lookup and webhooks use the same.

What a person's choices do not allow is never opened. The answer says what left, so that it can be recorded before it goes.
Values stay the JSON bytes that they were sealed as: nothing here parses what it need not change.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from vault.catalogue.load import Catalogue
from vault.clock import Micros
from vault.consent.decision import meet
from vault.disclosures.record import join_detail
from vault.errors import Unavailable, Unreadable
from vault.flows.release.people import Known, Member, Shelf
from vault.flows.release.plan import FIRST_IDENTIFIER, Item, Plan, PurposePlan, Shape, Spot
from vault.keys.compartments import Compartment, Kept, Opener
from vault.keys.keyring import Keyring
from vault.profile.values import FieldHead
from vault.profile.view import computed_of, identifiers_of, newest, view

_NULL: Final = b"null"  # a deletion: nothing older shows
_NO_IDENTIFIERS: Final[list[tuple[Item, list[bytes]]]] = []  # never written to
_NO_AUDIENCES: Final[list[Item]] = []
_text = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """What one purpose shows of a person, in the destination's form."""

    purpose: PurposePlan
    items: tuple[Item, ...]  # traits, computed ones too
    values: Sequence[bytes]  # of each
    identifiers: list[tuple[Item, list[bytes]]]
    audiences: list[Item]
    shape: Shape

    @property
    def traits(self) -> list[tuple[Item, bytes]]:
        """Each with its value."""
        return list(zip(self.items, self.values, strict=True))

    def __repr__(self) -> str:
        return f"Shown({self.purpose.name})"


def allowed_of(catalogue: Catalogue, known: Known, now: Micros) -> int:
    """Mask of the purposes that the whole profile permits now: nothing that one of its members refused."""
    return meet(catalogue, [member.state for member in known.members], now)


def shown_to(plan: Plan, keyring: Keyring, known: Known, allowed: int) -> list[Shown]:
    """For each purpose of the plan that the person allows, what it shows; purposes that show nothing are left out.

    Raises `Unreadable` if anything that should open does not: then nothing of the person is released.
    """
    members = known.members
    openers = [Opener(keyring, member.state.subject) for member in members]
    shown = []
    for purpose in plan.purposes:
        if allowed >> purpose.number & 1:
            one = _shown(purpose, keyring, members, openers)
            if one is not None:
                shown.append(one)
    return shown


# --- opening --------------------------------------------------------------------------------------------------------

Joint = list[
    tuple[FieldHead, bytes]
]  # identifiers, states of computed traits, memberships: joined over all of a profile


def _shown(purpose: PurposePlan, keyring: Keyring, members: tuple[Member, ...], openers: list[Opener]) -> Shown | None:
    """Of each trait the newest value, of the joint fields all: what the permit names, and nothing else is opened."""
    number = purpose.number
    found = [
        (shelf, opener)
        for member, opener in zip(members, openers, strict=True)
        for shelf in member.shelves
        if shelf.kept.held >> number & 1
    ]
    of_root = len(found) if len(members) == 1 else sum(shelf.kept.held >> number & 1 for shelf in members[0].shelves)
    forms = tuple([shelf.fields.form for shelf, _ in found])
    layout = purpose.layout(of_root, forms)
    if layout.clash:
        layout = purpose.arranged(forms, _newest(layout.spots, found))
    values: list[bytes] = []
    for (shelf, opener), opening in zip(found, layout.openings, strict=True):
        if opening is not None:
            values += opening.open(_opened(keyring, opener, shelf.kept, number), shelf.fields)
    if layout.shape is not None and _NULL not in values:
        return Shown(purpose, layout.items, layout.pick(values), _NO_IDENTIFIERS, _NO_AUDIENCES, layout.shape)
    traits: dict[int, bytes] = {}
    joint: Joint = []
    for spot, value in zip(layout.spots, values, strict=True):
        if spot.field in purpose.traits:
            traits[spot.field] = value
        else:
            joint.append((found[spot.compartment][0].fields.head(spot.place), value))
    return _shaped(purpose, traits, joint)


def _newest(spots: tuple[Spot, ...], found: list[tuple[Shelf, Opener]]) -> list[Spot]:
    """Of each trait the spot of the newest value alone: what is shown need be opened, and nothing else."""
    traits = [spot for spot in spots if spot.field < FIRST_IDENTIFIER]
    best = newest((found[spot.compartment][0].fields.head(spot.place), spot) for spot in traits)
    return [spot for spot in spots if spot.field >= FIRST_IDENTIFIER or best[spot.field][1] is spot]


def _opened(keyring: Keyring, opener: Opener, kept: Kept, purpose: int) -> Compartment:
    """The compartment. A wrap that names an epoch which never was is this person's trouble only (threat A14)."""
    try:
        return opener.open_kept(kept, purpose)
    except Unavailable:
        keyring.epoch(purpose)  # raises where no key of the purpose is held: then nobody is served
        raise Unreadable from None


# --- shaping --------------------------------------------------------------------------------------------------------


def _shaped(purpose: PurposePlan, values: dict[int, bytes], joint: Joint) -> Shown | None:
    """Puts what was opened into the destination's form. A transform that does not fit withholds the value."""
    traits: list[tuple[Item, bytes]] = []
    for number, item in purpose.traits.items():
        value = values.get(number)
        if value is not None and value != _NULL:
            shaped = value if item.reveals else item.apply(value)
            if shaped is not None:
                traits.append((item, shaped))
    identifiers: list[tuple[Item, list[bytes]]] = []
    audiences: list[Item] = []
    if joint:
        _show_joint(purpose, joint, traits, identifiers, audiences)
    objects = [item.number for item, _ in traits]
    if joint:
        objects += [item.number for item, _ in identifiers]
        objects += [item.number for item in audiences]
    if not objects:
        return None
    items, shapes = tuple([item for item, _ in traits]), [value for _, value in traits]
    return Shown(purpose, items, shapes, identifiers, audiences, purpose.shape(tuple(objects)))


def _show_joint(
    purpose: PurposePlan,
    joint: Joint,
    traits: list[tuple[Item, bytes]],
    identifiers: list[tuple[Item, list[bytes]]],
    audiences: list[Item],
) -> None:
    seen = view(joint)
    computed = computed_of(seen, [one for one, _ in purpose.computed])
    for one, item in purpose.computed:
        value = computed.get(one.number)
        shaped = item.apply(value) if value is not None else None
        if shaped is not None:
            traits.append((item, shaped))
    for number, chosen in identifiers_of(seen, {n: item.which for n, item in purpose.identifiers.items()}).items():
        item = purpose.identifiers[number]
        forms = [shaped for text in chosen if (shaped := item.apply(_text(text))) is not None]
        if forms:
            identifiers.append((item, forms))
    audiences += [item for number, item in purpose.audiences.items() if number in seen.audiences]


# --- the line -------------------------------------------------------------------------------------------------------


def upsert(plan: Plan, name: str, shown: list[Shown], number: int) -> bytes:
    """The line that holds the whole current view, with its line feed. `name` is the destination's own for the profile."""
    if len(plan.purposes) == 1:
        one = shown[0]
        line = one.shape.line % (
            name.encode(), *one.values, *[b",".join(values) for _, values in one.identifiers], number
        )  # fmt: skip
    else:
        line = _of_several(name, shown, number)
    if b"\n" in line or b"\r" in line:  # between the parts of an object as it came: within a text they are escaped
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    return line + b"\n"


def _of_several(name: str, shown: list[Shown], number: int) -> bytes:
    traits, identifiers, audiences = _joined(shown)
    return (
        b'{"op":"upsert","id":"%b","traits":{%b},"identifiers":{%b},"audiences":%b,"purposes":[%b],"allowed":%b,"version":%d}'
        % (
            name.encode(),
            b",".join(traits),
            b",".join(identifiers),
            _text(sorted(audiences)),
            b",".join([one.purpose.text for one in shown]),
            _text({one.purpose.name: _named(one) for one in shown}),
            number,
        )
    )


def _joined(shown: list[Shown]) -> tuple[list[bytes], list[bytes], set[str]]:
    """Members of the line over several purposes; each name once."""
    traits = {item.key: value for one in shown for item, value in one.traits}
    identifiers = {item.key: values for one in shown for item, values in one.identifiers}
    return (
        [key + value for key, value in traits.items()],
        [key + b"[" + b",".join(values) + b"]" for key, values in identifiers.items()],
        {item.name for one in shown for item in one.audiences},
    )


def _named(one: Shown) -> dict[str, list[str]]:
    return {
        "traits": sorted(item.name for item, _ in one.traits),
        "identifiers": sorted(item.name for item, _ in one.identifiers),
        "audiences": sorted(item.name for item in one.audiences),
    }


def detail_of(shown: list[Shown], ledger: int) -> bytes:
    """What a disclosure record says of it; `ledger` is the length of the ledger on which the decision rests."""
    return join_detail([(one.purpose.number, one.purpose.basis, ledger, one.shape.packed) for one in shown])


def objects_shown(shown: list[Shown]) -> frozenset[int]:
    """The object numbers that leave, whatever the purpose."""
    return shown[0].shape.objects if len(shown) == 1 else frozenset().union(*(one.shape.objects for one in shown))
