"""One profile for one destination: opened, shaped, and put into a line of the feed. Lookup and webhooks use the same.

What a person's choices do not allow is never opened. The answer says what left, so that it can be recorded before it goes.
Values stay the JSON bytes that they were sealed as: nothing here parses what it need not change.
"""

from typing import Final, NamedTuple

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import identifier_object
from vault.clock import Micros
from vault.consent.decision import meet
from vault.disclosures.record import join_detail
from vault.errors import Unavailable, Unreadable
from vault.flows.release.people import Known, Member, Shelf
from vault.flows.release.plan import Item, Plan, PurposePlan, Shape
from vault.keys.compartments import Compartment, Kept, Opener
from vault.keys.keyring import Keyring
from vault.profile.sealing import open_at
from vault.profile.values import FieldHead
from vault.profile.view import computed_of, identifiers_of, rank, view

_NULL: Final = b"null"  # a deletion: nothing older shows
_TRAITS_END: Final = identifier_object(0)
_text = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """What one purpose shows of a person, in the destination's form."""

    purpose: PurposePlan
    traits: list[tuple[Item, bytes]]  # computed ones too
    identifiers: list[tuple[Item, list[bytes]]]
    audiences: list[Item]
    shape: Shape

    def __repr__(self) -> str:
        return f"Shown({self.purpose.name})"


def allowed_of(catalogue: Catalogue, known: Known, now: Micros) -> int:
    """Mask of the purposes that the whole profile permits now: nothing that one of its members refused."""
    return meet(catalogue, [member.state for member in known.members], now)


def shown_to(plan: Plan, keyring: Keyring, known: Known, allowed: int) -> list[Shown]:
    """For each purpose of the plan that the person allows, what it shows; purposes that show nothing are left out.

    Raises `Unreadable` if anything that should open does not: then nothing of the person is released.
    """
    openers = [Opener(keyring, member.state.subject) for member in known.members]
    shown = []
    for purpose in plan.purposes:
        if allowed >> purpose.number & 1:
            one = _show(purpose, *_open(purpose, keyring, known.members, openers))
            if one is not None:
                shown.append(one)
    return shown


# --- opening --------------------------------------------------------------------------------------------------------

Joint = list[
    tuple[FieldHead, bytes]
]  # identifiers, states of computed traits, memberships: joined over all of a profile


def _open(
    purpose: PurposePlan, keyring: Keyring, members: tuple[Member, ...], openers: list[Opener]
) -> tuple[dict[int, bytes], Joint]:
    """Of each trait the newest value, of the joint fields all: what the permit names, and nothing else is opened."""
    shelves: list[tuple[Opener, Shelf]] = []
    of_root = 0
    for index, (member, opener) in enumerate(zip(members, openers, strict=True)):
        shelves += [(opener, shelf) for shelf in member.shelves if shelf.kept.held >> purpose.number & 1]
        if index == 0:
            of_root = len(shelves)
    layout = purpose.layout(of_root, tuple([shelf.fields.numbers for _, shelf in shelves]))
    places = _newest(layout.places, [shelf for _, shelf in shelves]) if layout.clash else layout.places
    traits: dict[int, bytes] = {}
    joint: Joint = []
    for (opener, shelf), wanted in zip(shelves, places, strict=True):
        if not wanted:
            continue
        compartment = _opened(keyring, opener, shelf.kept, purpose.number)
        fields = shelf.fields
        numbers = fields.numbers
        for place, value in zip(wanted, open_at(compartment, fields, wanted, purpose.permit), strict=True):
            if numbers[place] < _TRAITS_END:
                traits[numbers[place]] = value
            else:
                joint.append((fields.head(place), value))
    return traits, joint


def _newest(places: tuple[tuple[int, ...], ...], shelves: list[Shelf]) -> list[list[int]]:
    """The same places, of each trait only the newest one: what is shown need be opened, and nothing else."""
    best: dict[int, tuple[FieldHead, int]] = {}
    kept: list[list[int]] = [[] for _ in shelves]
    for number, (wanted, shelf) in enumerate(zip(places, shelves, strict=True)):
        for place in wanted:
            head = shelf.fields.head(place)
            if head.field >= _TRAITS_END:
                kept[number].append(place)
                continue
            other = best.get(head.field)
            if other is not None and rank(head) <= rank(other[0]):
                continue
            if other is not None:
                old = shelves[other[1]].fields.numbers
                kept[other[1]] = [p for p in kept[other[1]] if old[p] != head.field]
            kept[number].append(place)
            best[head.field] = head, number
    return kept


def _opened(keyring: Keyring, opener: Opener, kept: Kept, purpose: int) -> Compartment:
    """The compartment. A wrap that names an epoch which never was is this person's trouble only (threat A14)."""
    try:
        return opener.open_kept(kept, purpose)
    except Unavailable:
        keyring.epoch(purpose)  # raises where no key of the purpose is held: then nobody is served
        raise Unreadable from None


# --- shaping --------------------------------------------------------------------------------------------------------


def _show(purpose: PurposePlan, values: dict[int, bytes], joint: Joint) -> Shown | None:
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
    return Shown(purpose, traits, identifiers, audiences, purpose.shape(tuple(objects))) if objects else None


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
    if len(shown) == 1:
        traits = [item.key + value for item, value in shown[0].traits]
        identifiers = [item.key + b"[" + b",".join(values) + b"]" for item, values in shown[0].identifiers]
        audiences = {item.name for item in shown[0].audiences}
    else:
        traits, identifiers, audiences = _joined(shown)
    allowed = (
        b',"allowed":' + _text({one.purpose.name: _named(one) for one in shown}) if len(plan.purposes) > 1 else b""
    )
    line = (
        b'{"op":"upsert","id":"%b","traits":{%b},"identifiers":{%b},"audiences":%b,"purposes":[%b]%b,"version":%d}'
        % (
            name.encode(),
            b",".join(traits),
            b",".join(identifiers),
            _text(sorted(audiences)) if audiences else b"[]",
            b",".join([one.purpose.text for one in shown]),
            allowed,
            number,
        )
    )
    if b"\n" in line or b"\r" in line:  # between the parts of an object as it came: within a text they are escaped
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    return line + b"\n"


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
