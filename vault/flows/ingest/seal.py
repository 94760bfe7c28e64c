"""What a decided event leaves: its parts, each sealed for its purposes, and computed traits. Traits are `values`' to store.

Everything is given the mask of purposes that is left for it after catalogue, stamp and choices. A property of which no
purpose is left is not stored. Audiences are judged once a profile at the end of the batch.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from vault.audiences.expression import judge as holds
from vault.audiences.expression import read_value, traits_of
from vault.catalogue.audiences import Audience
from vault.catalogue.computed import Computed
from vault.catalogue.fields import Event
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, bit
from vault.clock import Micros
from vault.events.message import SENSITIVE, Message
from vault.flows.ingest.values import SERVER
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.profile.computed import fold, read_states, write_states
from vault.profile.typed import fits
from vault.profile.values import FieldHead, Provenance
from vault.profile.view import computed_of, view, write_memberships
from vault.sources.dropped import Drop, property_of

_encode: Final = msgspec.json.Encoder().encode


def store_event(
    draft: SubjectDraft, message: Message, event: Event, event_key: bytes, mask: int, catalogue: Catalogue
) -> list[Drop]:
    """Seal an event for the purposes in `mask`: one part per set of purposes among its properties; fold computed traits.

    Answers what is left out because it is of another type than declared, to be counted.
    """
    declared = event.properties
    parts: dict[int, dict[str, msgspec.Raw]] = {mask: {}}
    kept: dict[str, tuple[int, bytes]] = {}
    misfits: list[Drop] = []
    for name, value in message.properties.items():
        if name not in declared:
            continue
        if not fits(declared[name].type, value):
            misfits.append(_misfit(event, name))
        elif left := declared[name].purposes & mask:
            if left not in parts:
                parts[left] = {}
            parts[left][name] = msgspec.Raw(value)
            kept[name] = (left, value)
    kind = 0 if event.sensitivity == "special" else event.number
    for purposes, properties in parts.items():
        body: dict[str, object] = {"messageId": message.message_id, "type": message.type, "properties": properties}
        if message.name is not None:
            body["name"] = message.name
        draft.add_event(purposes, event_key, message.said_at, kind, _encode(body))
    if event.number not in catalogue.computed_by_event:
        return misfits
    by_purposes: dict[int, list[Computed]] = {}
    for computed in catalogue.computed_by_event[event.number]:
        if computed.purposes & mask == computed.purposes:
            by_purposes.setdefault(computed.purposes, []).append(computed)
    for purposes, together in by_purposes.items():
        # An input counts only if it was collected for every purpose that the trait carries.
        usable = {name: value for name, (left, value) in kept.items() if purposes & left == purposes}
        _fold(draft, purposes, together, usable, message.said_at, event_key)
    return misfits


def _misfit(event: Event, name: str) -> Drop:
    if event.sensitivity == "special":
        return Drop(property_of(event.type, SENSITIVE), SENSITIVE, "wrong_type")
    return Drop(property_of(event.type, event.name), name, "wrong_type")


def _fold(
    draft: SubjectDraft,
    purposes: int,
    together: list[Computed],
    usable: Mapping[str, bytes],
    said_at: Micros,
    event_key: bytes,
) -> None:
    """Take one event into the computed traits of one set of purposes: opened once, sealed once."""
    before = draft.get(purposes, ACCUMULATORS)
    states = read_states(before) if before is not None else {}
    changed = False
    for computed in together:
        after = fold(computed, states.get(computed.number), usable, said_at, event_key)
        if after is not None and after != states.get(computed.number):
            states[computed.number] = after
            changed = True
    if changed:
        # Provenance of a joint field is its latest event: it never loses to an older one, since it holds them all.
        provenance = Provenance(0, event_key, SERVER, draft.tools.now)
        draft.put_joint(purposes, ACCUMULATORS, provenance, write_states(states))


class _Test(NamedTuple):
    """An audience, and what must be known of a person to judge it."""

    audience: Audience
    names: dict[int, str]  # of the traits, by number
    computed: tuple[Computed, ...]
    fields: tuple[int, ...]


class Audiences:
    """The audiences of a catalogue, made ready once."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Those that it has now; a process takes up other policies when it starts."""
        self._by_purpose: dict[int, list[_Test]] = {}
        for audience in catalogue.audiences.values():
            wanted = traits_of(audience.condition)
            names = {catalogue.traits[name].number: name for name in wanted if name in catalogue.traits}
            computed = tuple(catalogue.computed[name] for name in wanted if name in catalogue.computed)
            test = _Test(audience, names, computed, (*names, *((ACCUMULATORS,) if computed else ())))
            self._by_purpose.setdefault(audience.purpose, []).append(test)
        tests = [test for together in self._by_purpose.values() for test in together]
        self._inputs = frozenset(field for test in tests for field in test.fields)

    def judge(self, profile: ProfileDraft, allowed: int) -> None:
        """Judge anew for a profile, each on what its purpose may see; membership is sealed on the root.

        Nothing is judged again that cannot come out otherwise: the same choices and members, and no input changed.
        """
        members, root = profile.members, profile.root
        basis = (self, allowed, sum([member.altered for member in members]))
        if profile.judged == basis and all(self._inputs.isdisjoint(member.fields_changed) for member in members):
            return
        for purpose, tests in self._by_purpose.items():
            mask = bit(purpose)
            if not allowed & mask:
                continue
            after = write_memberships([test.audience.number for test in tests if _holds(test, members)])
            before = root.get(mask, MEMBERSHIPS)
            if after != (before or write_memberships(())):
                root.put_joint(mask, MEMBERSHIPS, Provenance(0, bytes(16), SERVER, root.tools.now), after)
        profile.judged = basis


def _holds(test: _Test, members: list[SubjectDraft]) -> bool:
    audience = test.audience
    if not (audience.anonymous or any(member.state.identified for member in members)):
        return False
    return holds(audience.condition, _known(test, members))


def _known(test: _Test, members: list[SubjectDraft]) -> dict[str, object]:
    """The values that the audience reads, of what its purpose may see, over all members."""
    opened: list[tuple[FieldHead, bytes]] = []
    for member in members:
        opened += member.seen_by(test.audience.purpose, test.fields)
    seen = view(opened)
    known: dict[str, object] = {test.names[n]: read_value(raw) for n, raw in seen.traits.items() if n in test.names}
    values = computed_of(seen, test.computed)
    known.update({one.name: read_value(values[one.number]) for one in test.computed if one.number in values})
    return known
