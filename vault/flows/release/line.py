"""One profile for one destination: opened, shaped, and put into a line of the feed. Lookup and webhooks use the same.

What a person's choices do not allow is never opened. The answer says what left, so that it can be recorded before it goes.
Values stay the JSON bytes that they were sealed as: nothing here parses what it need not change.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.clock import Micros
from vault.consent.decision import meet
from vault.disclosures.record import join_detail
from vault.errors import Unreadable
from vault.flows.release.people import Known, Member, Shelf
from vault.flows.release.plan import FIRST_IDENTIFIER, Item, Layout, Plan, PurposePlan, Shape, Spot
from vault.keys.compartments import Compartment
from vault.keys.kept import Asked, open_each
from vault.keys.keyring import Keyring
from vault.profile.accounts import Entries
from vault.profile.sealing import Opening
from vault.profile.values import Directory, FieldHead
from vault.profile.view import accounts_of, computed_of, identifiers_of, newest, view

_UNREADABLE: Final = "unreadable"
_new: Final = tuple.__new__  # a named tuple without a Python call
_NULL: Final = b"null"  # a deletion: nothing older shows
_NO_IDENTIFIERS: Final[list[tuple[Item, list[bytes]]]] = []  # never written to
_NO_AUDIENCES: Final[list[Item]] = []
_NO_ACCOUNTS: Final[dict[str, list[tuple[Item, bytes]]]] = {}
_text = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """What one purpose shows of a person, in the destination's form."""

    purpose: PurposePlan
    items: tuple[Item, ...]  # traits, computed ones too
    values: Sequence[bytes]  # of each
    identifiers: list[tuple[Item, list[bytes]]]
    audiences: list[Item]
    shape: Shape
    accounts: dict[str, list[tuple[Item, bytes]]]  # by the account's tag in hex

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
    """`shown_to_each`, for one profile. Raises `Unreadable`."""
    (shown,) = shown_to_each(plan, keyring, [(known, allowed)])
    if shown is None:
        raise Unreadable
    return shown


def shown_to_each(plan: Plan, keyring: Keyring, people: Sequence[tuple[Known, int]]) -> list[list[Shown] | None]:
    """For each profile, and each purpose that its mask allows, what it shows; purposes that show nothing are left out.

    None for whom anything that should open does not: then nothing of the person is released. Step by step over all of
    them: a processor that stays in one step needs two thirds of the time.
    """
    views = [
        _looked(purpose, known.members) if allowed >> purpose.number & 1 else None
        for known, allowed in people
        for purpose in plan.purposes
    ]
    wanted = [
        (_new(Asked, (subject, shelf.kept, view.purpose.number)), shelf.fields, opening)
        for view in views
        if view is not None
        for (subject, shelf), opening in zip(view.found, view.layout.openings, strict=True)
        if opening is not None
    ]
    compartments = open_each(keyring, [asked for asked, _, _ in wanted])
    opened = iter(
        [
            _values(opening, compartment, fields)
            for compartment, (_, fields, opening) in zip(compartments, wanted, strict=True)
        ]
    )
    told = iter([None if view is None else _shown(view, opened) for view in views])
    answers: list[list[Shown] | None] = []
    for _ in people:
        shown = [one for one in islice(told, len(plan.purposes)) if one is not None]
        answers.append(None if _UNREADABLE in shown else [one for one in shown if isinstance(one, Shown)])
    return answers


# --- opening --------------------------------------------------------------------------------------------------------

Joint = list[
    tuple[FieldHead, bytes]
]  # identifiers, states of computed traits, memberships: joined over all of a profile


class _View(NamedTuple):
    """What one purpose opens of one profile: of each trait the newest value, of the joint fields all, and nothing else."""

    purpose: PurposePlan
    found: list[tuple[UUID, Shelf]]
    layout: Layout


def _looked(purpose: PurposePlan, members: tuple[Member, ...]) -> _View:
    bit = 1 << purpose.number
    found = [(member.state.subject, shelf) for member in members for shelf in member.shelves if shelf.kept.held & bit]
    of_root = len(found) if len(members) == 1 else sum([shelf.kept.held & bit > 0 for shelf in members[0].shelves])
    forms = tuple([shelf.fields.form for _, shelf in found])
    layout = purpose.layout(of_root, forms)
    if layout.clash:
        layout = purpose.arranged(forms, _newest(layout.spots, found))
    return _new(_View, (purpose, found, layout))


def _values(opening: Opening, compartment: Compartment | None, fields: Directory) -> list[bytes] | None:
    if compartment is None:
        return None
    try:
        return opening.open(compartment, fields)
    except Unreadable:
        return None


def _shown(view: _View, opened: Iterator[list[bytes] | None]) -> Shown | str | None:
    """What the values show, taken from `opened` in the order of the openings; None for nothing."""
    purpose, found, layout = view
    parts = [next(opened) for opening in layout.openings if opening is not None]
    values: list[bytes] = []
    for part in parts:
        if part is None:
            return _UNREADABLE
        values += part
    if layout.shape is not None and _NULL not in values:
        picked = layout.pick(values)
        return _new(Shown, (purpose, layout.items, picked, _NO_IDENTIFIERS, _NO_AUDIENCES, layout.shape, _NO_ACCOUNTS))
    traits: dict[int, bytes] = {}
    joint: Joint = []
    for spot, value in zip(layout.spots, values, strict=True):
        if spot.field in purpose.traits:
            traits[spot.field] = value
        else:
            joint.append((found[spot.compartment][1].fields.head(spot.place), value))
    return _shaped(purpose, traits, joint)


def opened_at(purpose: PurposePlan, keyring: Keyring, known: Known, field: int) -> list[bytes]:
    """One field wherever the purpose still opens it, over all members. Raises as `shown_to`."""
    wanted = [
        (Asked(member.state.subject, shelf.kept, purpose.number), shelf.fields)
        for member in known.members
        for shelf in member.shelves
        if field in shelf.fields.form.numbers and shelf.kept.held >> purpose.number & 1
    ]
    found: list[bytes] = []
    compartments = open_each(keyring, [asked for asked, _ in wanted])
    for compartment, (_, fields) in zip(compartments, wanted, strict=True):
        if compartment is None:
            raise Unreadable
        place = fields.form.numbers.index(field)
        found += Opening(fields.form, (place,), purpose.permit).open(compartment, fields)
    return found


def _newest(spots: tuple[Spot, ...], found: list[tuple[UUID, Shelf]]) -> list[Spot]:
    """Of each trait the spot of the newest value alone: what is shown need be opened, and nothing else."""
    traits = [spot for spot in spots if spot.field < FIRST_IDENTIFIER]
    best = newest((found[spot.compartment][1].fields.head(spot.place), spot) for spot in traits)
    return [spot for spot in spots if spot.field >= FIRST_IDENTIFIER or best[spot.field][1] is spot]


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
    accounts: dict[str, list[tuple[Item, bytes]]] = {}
    if joint:
        accounts = _show_joint(purpose, joint, traits, identifiers, audiences)
    objects = [item.number for item, _ in traits]
    if joint:
        objects += [item.number for item, _ in identifiers]
        objects += [item.number for item in audiences]
        objects += {item.number: None for shown in accounts.values() for item, _ in shown}
    if not objects:
        return None
    items, shapes = tuple([item for item, _ in traits]), [value for _, value in traits]
    return Shown(purpose, items, shapes, identifiers, audiences, purpose.shape(tuple(objects)), accounts)


def _show_joint(
    purpose: PurposePlan,
    joint: Joint,
    traits: list[tuple[Item, bytes]],
    identifiers: list[tuple[Item, list[bytes]]],
    audiences: list[Item],
) -> dict[str, list[tuple[Item, bytes]]]:
    """Adds to the three lists; answers the account traits by account."""
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
    return show_accounts(purpose, accounts_of(seen.accounts)) if seen.accounts else {}


def show_accounts(purpose: PurposePlan, entries: Entries) -> dict[str, list[tuple[Item, bytes]]]:
    """The traits of each account in the destination's form, by the account's tag; accounts that show nothing are left out."""
    found: dict[str, list[tuple[Item, bytes]]] = {}
    for tag, entry in entries.items():
        shown = [
            (item, shaped)
            for number, item in purpose.accounts.items()
            if number in entry.traits and (shaped := item.apply(bytes(entry.traits[number].value))) is not None
        ]
        if shown:
            found[tag] = shown
    return found


# --- the line -------------------------------------------------------------------------------------------------------


def upsert(plan: Plan, name: str, shown: list[Shown], number: int) -> bytes:
    """The line that holds the whole current view, with its line feed. `name` is the destination's own for the profile."""
    if len(plan.purposes) == 1:
        one = shown[0]
        line = one.shape.line % (
            name.encode(),
            *one.values,
            *[b",".join(values) for _, values in one.identifiers],
            *((_accounts(plan, shown),) if one.accounts else ()),
            number,
        )
    else:
        line = _of_several(plan, name, shown, number)
    if b"\n" in line or b"\r" in line:  # between the parts of an object as it came: within a text they are escaped
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    return line + b"\n"


def _of_several(plan: Plan, name: str, shown: list[Shown], number: int) -> bytes:
    traits, identifiers, audiences = _joined(shown)
    return (
        b'{"op":"upsert","id":"%b","traits":{%b},"identifiers":{%b},"audiences":%b%b,"purposes":[%b],"allowed":%b,"version":%d}'
        % (
            name.encode(),
            b",".join(traits),
            b",".join(identifiers),
            _text(sorted(audiences)),
            _accounts(plan, shown) if plan.accounts else b"",
            b",".join([one.purpose.text for one in shown]),
            _text({one.purpose.name: _named(one) for one in shown}),
            number,
        )
    )


def _accounts(plan: Plan, shown: list[Shown]) -> bytes:
    """The member `accounts`: what the person's calls said of each, under the destination's own name for it."""
    found: dict[str, dict[bytes, bytes]] = {}
    for one in shown:
        for tag, traits in one.accounts.items():
            found.setdefault(tag, {}).update((item.key, value) for item, value in traits)
    entries = {
        plan.account_id(tag).encode(): b",".join([key + value for key, value in traits.items()])
        for tag, traits in found.items()
    }
    if not entries:
        return b""
    return b',"accounts":[%b]' % b",".join(
        [b'{"id":"%b","traits":{%b}}' % (name, entries[name]) for name in sorted(entries)]
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
    named = {
        "traits": sorted(item.name for item, _ in one.traits),
        "identifiers": sorted(item.name for item, _ in one.identifiers),
        "audiences": sorted(item.name for item in one.audiences),
    }
    if one.accounts:
        named["accounts"] = sorted({item.name for shown in one.accounts.values() for item, _ in shown})
    return named


def detail_of(shown: list[Shown], ledger: int) -> bytes:
    """What a disclosure record says of it; `ledger` is the length of the ledger on which the decision rests."""
    return join_detail([(one.purpose.number, one.purpose.basis, ledger, one.shape.packed) for one in shown])


def objects_shown(shown: list[Shown]) -> frozenset[int]:
    """The object numbers that leave, whatever the purpose."""
    return shown[0].shape.objects if len(shown) == 1 else frozenset().union(*(one.shape.objects for one in shown))
