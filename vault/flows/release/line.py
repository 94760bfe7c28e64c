"""One profile for one destination: opened, shaped, and put into a line of the feed. Lookup and webhooks use the same.

What a person's choices do not allow is never opened. The answer says what left, so that it can be recorded before it goes.
Values stay the JSON bytes that they were sealed as: nothing here parses what it need not change.
"""

from itertools import compress
from typing import Final, NamedTuple

import msgspec

from vault.catalogue.load import Catalogue
from vault.clock import Micros
from vault.consent.decision import meet
from vault.disclosures.record import join_detail
from vault.errors import Unavailable, Unreadable
from vault.flows.release.people import Known, Member, Shelf
from vault.flows.release.plan import Item, Layout, Plan, PurposePlan, Shape
from vault.keys.compartments import Compartment, Kept, Opener
from vault.keys.keyring import Keyring
from vault.profile.accounts import Entries
from vault.profile.sealing import open_at
from vault.profile.values import FieldHead
from vault.profile.view import accounts_of, computed_of, identifiers_of, newest, view

_NULL: Final = b"null"  # a deletion: nothing older shows
_text = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """What one purpose shows of a person, in the destination's form."""

    purpose: PurposePlan
    traits: list[tuple[Item, bytes]]  # computed ones too
    identifiers: list[tuple[Item, list[bytes]]]
    audiences: list[Item]
    shape: Shape
    accounts: dict[str, list[tuple[Item, bytes]]]  # by the account's tag in hex

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
    number = purpose.number
    shelves: list[Shelf] = []
    owners: list[Opener] = []
    of_root = -1
    for member, opener in zip(members, openers, strict=True):
        for shelf in member.shelves:
            if shelf.kept.held >> number & 1:
                shelves.append(shelf)
                owners.append(opener)
        if of_root < 0:
            of_root = len(shelves)
    layout = purpose.layout(of_root, tuple([shelf.fields.numbers for shelf in shelves]))
    if layout.clash:
        layout = _newest(layout, shelves)
    traits: dict[int, bytes] = {}
    joint: Joint = []
    for shelf, opener, places, fields in zip(shelves, owners, layout.places, layout.traits, strict=True):
        if not places:
            continue
        values = open_at(_opened(keyring, opener, shelf.kept, number), shelf.fields, places, purpose.permit)
        traits.update(zip(fields, values, strict=False))
        if len(fields) < len(values):
            rest = slice(len(fields), None)
            joint += [(shelf.fields.head(at), value) for at, value in zip(places[rest], values[rest], strict=True)]
    return traits, joint


def opened_at(purpose: PurposePlan, keyring: Keyring, known: Known, field: int) -> list[bytes]:
    """One field wherever the purpose still opens it, over all members. Raises as `shown_to`."""
    found: list[bytes] = []
    for member in known.members:
        opener = Opener(keyring, member.state.subject)
        for shelf in member.shelves:
            places = [place for place, number in enumerate(shelf.fields.numbers) if number == field]
            if places and shelf.kept.held >> purpose.number & 1:
                compartment = _opened(keyring, opener, shelf.kept, purpose.number)
                found += open_at(compartment, shelf.fields, places, purpose.permit)
    return found


def _newest(layout: Layout, shelves: list[Shelf]) -> Layout:
    """The same places, but of each trait the newest one alone: what is shown need be opened, and nothing else."""
    best = newest(
        (shelf.fields.head(place), number)
        for number, (shelf, places, fields) in enumerate(zip(shelves, layout.places, layout.traits, strict=True))
        for place in places[: len(fields)]
    )
    kept, traits = [], []
    for number, (places, fields) in enumerate(zip(layout.places, layout.traits, strict=True)):
        wins = [best[field][1] == number for field in fields]
        kept.append((*compress(places, wins), *places[len(fields) :]))
        traits.append(tuple(compress(fields, wins)))
    return Layout(tuple(kept), tuple(traits), clash=False)


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
    accounts: dict[str, list[tuple[Item, bytes]]] = {}
    if joint:
        accounts = _show_joint(purpose, joint, traits, identifiers, audiences)
    objects = [item.number for item, _ in traits]
    if joint:
        objects += [item.number for item, _ in identifiers]
        objects += [item.number for item in audiences]
        objects += {item.number: None for shown in accounts.values() for item, _ in shown}
    return Shown(purpose, traits, identifiers, audiences, purpose.shape(tuple(objects)), accounts) if objects else None


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
        b'{"op":"upsert","id":"%b","traits":{%b},"identifiers":{%b},"audiences":%b%b,"purposes":[%b]%b,"version":%d}'
        % (
            name.encode(),
            b",".join(traits),
            b",".join(identifiers),
            _text(sorted(audiences)) if audiences else b"[]",
            _accounts(plan, shown) if plan.accounts else b"",
            b",".join([one.purpose.text for one in shown]),
            allowed,
            number,
        )
    )
    if b"\n" in line or b"\r" in line:  # between the parts of an object as it came: within a text they are escaped
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    return line + b"\n"


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
