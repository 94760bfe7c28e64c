"""What a decided event leaves: its parts, each sealed for its purposes, and computed traits. Traits are `values`' to store.

Everything is given the mask of purposes that is left for it after catalogue, stamp and choices. A property of which no
purpose is left is not stored. Audiences are judged once a profile at the end of the batch: `judge`.
"""

from collections.abc import Mapping

import msgspec

from vault.audiences.expression import judge as holds
from vault.audiences.expression import read_value, traits_of
from vault.catalogue.computed import Computed
from vault.catalogue.fields import Event
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, bit
from vault.clock import Micros
from vault.events.message import Message
from vault.flows.ingest.values import SERVER
from vault.flows.people.draft import SubjectDraft
from vault.profile.computed import fold, read_states, write_states
from vault.profile.values import Provenance
from vault.profile.view import computed_of, view, write_memberships


def store_event(
    draft: SubjectDraft, message: Message, event: Event, event_key: bytes, mask: int, catalogue: Catalogue
) -> None:
    """Seal an event for the purposes in `mask`: one part per set of purposes among its properties; fold computed traits."""
    parts: dict[int, dict[str, msgspec.Raw]] = {mask: {}}
    kept: dict[str, tuple[int, bytes]] = {}
    for name, value in message.properties.items():
        declared = event.properties.get(name)
        left = declared.purposes & mask if declared is not None else 0
        if left:
            parts.setdefault(left, {})[name] = msgspec.Raw(value)
            kept[name] = (left, value)
    sealed_name = event.sensitivity == "special"
    for purposes, properties in parts.items():
        body = {"messageId": message.message_id, "type": message.type, "properties": properties}
        if message.name is not None:
            body["name"] = message.name
        draft.add_event(
            purposes, event_key, message.said_at, 0 if sealed_name else event.number, msgspec.json.encode(body)
        )
    by_purposes: dict[int, list[Computed]] = {}
    for computed in catalogue.computed_by_event.get(event.number, ()):
        if computed.purposes & mask == computed.purposes:
            by_purposes.setdefault(computed.purposes, []).append(computed)
    for purposes, together in by_purposes.items():
        # An input counts only if it was collected for every purpose that the trait carries.
        usable = {name: value for name, (left, value) in kept.items() if purposes & left == purposes}
        _fold(draft, purposes, together, usable, message.said_at, event_key)


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


def judge(catalogue: Catalogue, root: SubjectDraft, members: list[SubjectDraft], allowed: int) -> None:
    """Judge every audience anew for a joined profile, each on what its purpose may see; membership is sealed on the root."""
    by_purpose: dict[int, set[int]] = {}
    for audience in catalogue.audiences.values():
        by_purpose.setdefault(audience.purpose, set())
        if not allowed & bit(audience.purpose) or not (audience.anonymous or any(m.state.identified for m in members)):
            continue
        known = _known(catalogue, members, audience.purpose, traits_of(audience.condition))
        if holds(audience.condition, known):
            by_purpose[audience.purpose].add(audience.number)
    for purpose, numbers in by_purpose.items():
        if not allowed & bit(purpose):
            continue
        mask = bit(purpose)
        after = write_memberships(numbers)
        before = root.get(mask, MEMBERSHIPS)
        if after != (before or write_memberships(())):
            root.put_joint(mask, MEMBERSHIPS, Provenance(0, bytes(16), SERVER, root.tools.now), after)


def _known(
    catalogue: Catalogue, members: list[SubjectDraft], purpose: int, wanted: frozenset[str]
) -> dict[str, object]:
    """The values of these traits that the purpose may see, over all members."""
    numbers = {catalogue.traits[name].number: name for name in wanted if name in catalogue.traits}
    computed = [catalogue.computed[name] for name in wanted if name in catalogue.computed]
    opened = []
    for member in members:
        opened.extend(member.seen_by(purpose, (*numbers, *((ACCUMULATORS,) if computed else ()))))
    seen = view(opened)
    known: dict[str, object] = {numbers[n]: read_value(raw) for n, raw in seen.traits.items() if n in numbers}
    values = computed_of(seen, computed)
    known.update({one.name: read_value(values[one.number]) for one in computed if one.number in values})
    return known
