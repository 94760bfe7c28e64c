"""Traits and identifiers over time: what a new value replaces, what comes too late, which copies are outdated.

A later value wins within equal authority; of two said at the same moment the one received later. Copies of a field may lie
in several compartments, since each was sealed for what was allowed then. A contact value that is known to be outdated is
withheld from purposes that may not know the newer one (design section 5); other older values stay with those.
"""

from collections.abc import Sequence
from typing import Final

from vault.catalogue.fields import Trait
from vault.catalogue.identifiers import IdentifierKind
from vault.catalogue.numbers import identifier_object
from vault.flows.people.compartment import CompartmentDraft
from vault.flows.people.draft import SubjectDraft
from vault.profile.sightings import MOST_BYTES, Sighting, fitting, join, read_sightings, write_sightings
from vault.profile.values import FieldHead, Provenance

CLIENT: Final = 0  # authority of a value: a later one wins only among equals
SERVER: Final = 1
_NULL: Final = b"null"
_CONTACT: Final = "user.contact"

Copy = tuple[SubjectDraft, CompartmentDraft, FieldHead]
Held = tuple[SubjectDraft, CompartmentDraft, list[Sighting]]


def store_trait(
    members: Sequence[SubjectDraft], draft: SubjectDraft, trait: Trait, value: bytes, provenance: Provenance, mask: int
) -> bool:
    """Seal one trait of an identify for the purposes in `mask`. False if none is left for it.

    An explicit null removes every copy that it may replace: none said later, none of a higher authority. It is sealed as the
    value itself, so that what was said before it and comes after it stays deleted; nobody is shown it.
    """
    field, rank = trait.number, provenance[2:]
    copies = [(member, place, head) for member in members for place, head in member.copies(field)]
    older = [copy for copy in copies if _rank(copy[2]) <= rank]
    if value.strip() == _NULL:
        for member, place, _ in older:
            member.take_out(place, field)
        if mask:
            draft.put(mask, field, provenance, _NULL)
        return True
    if not mask:
        return False
    contact = trait.category.startswith(_CONTACT)
    if _is_outdated([copy for copy in copies if _rank(copy[2]) > rank], value, contact=contact):
        return True
    if contact:
        for member, place, _ in older:
            if member.read(place, field) != value:
                member.take_out(place, field)
    for member, place, head in older:
        if head[5] == rank[1] and _rank(head) == rank and head[3] > provenance[1] and field in place:
            _give_way(member, place, head, mask)
    draft.put(mask, field, provenance, value)
    return True


def _is_outdated(newer: Sequence[Copy], value: bytes, *, contact: bool) -> bool:
    """True if a value came after it was deleted, for whatever purpose, or contact data after it was known to have changed."""
    if any(member.read(place, head[0]) == _NULL for member, place, head in newer):
        return True
    if not (contact and newer):
        return False
    member, place, head = max(newer, key=lambda copy: _rank(copy[2]))
    return member.read(place, head[0]) != value  # who may know the newer one has it


def _rank(head: FieldHead) -> tuple[int, int]:
    return head[4:6]  # authority, said at


def _give_way(member: SubjectDraft, place: CompartmentDraft, head: FieldHead, mask: int) -> None:
    """Leave a value that was said at the same moment only to purposes that may not know the one received later."""
    value = member.read(place, head.field)
    member.take_out(place, head.field)
    rest = place.held & ~mask
    if rest and value is not None:
        member.put(rest, head.field, head.provenance, value)


def known_alone(members: Sequence[SubjectDraft], draft: SubjectDraft, kind: IdentifierKind, mask: int) -> bool:
    """True if nothing need be stored of an identifier that the draft has: it is the only one of its kind, and was sealed.

    When it was said last could not matter then, except of an address.
    """
    number = kind.number
    return (
        not kind.category.startswith(_CONTACT)
        and draft.holding(mask, identifier_object(number)) is not None
        and sum([[*member.tags.values()].count(number) for member in members]) == 1
    )


def store_identifier(
    members: Sequence[SubjectDraft],
    draft: SubjectDraft,
    kind: IdentifierKind,
    value: str,
    provenance: Provenance,
    mask: int,
) -> None:
    """Seal an identifier's value beside its kind's others, and when it was said last, where that could matter."""
    field = identifier_object(kind.number)
    contact = kind.category.startswith(_CONTACT)
    said_at = provenance.said_at
    held = _held(members, field)
    latest = max((one.last_said_at for *_, known in held for one in known if one.value != value), default=-1)
    if contact:
        if said_at < latest:
            mask &= _who_knows(held, latest)
        else:
            for one in held:
                _outdate(one, field, value, provenance, mask)
    if mask:
        before = draft.get(mask, field)
        known = read_sightings(before) if before is not None else []
        mine = next((one for one in known if one.value == value), None)
        # Devices speak with every event, and only which was last could matter; addresses come seldom, and must be exact.
        if mine is None or mine.last_said_at < (said_at if contact else min(said_at, latest)):
            _add(draft, mask, field, [Sighting(value, said_at, said_at, provenance.source)], provenance)


def _held(members: Sequence[SubjectDraft], field: int) -> list[Held]:
    """What every compartment knows of a kind."""
    found: list[Held] = []
    for member in members:
        for place, _ in member.copies(field):
            value = member.read(place, field)
            if value is not None:
                found.append((member, place, read_sightings(value)))
    return found


def _who_knows(held: Sequence[Held], said_at: int) -> int:
    """Mask of the purposes that may see a value said at that time."""
    mask = 0
    for _, place, known in held:
        if any(one.last_said_at == said_at for one in known):
            mask |= place.held
    return mask


def _outdate(held: Held, field: int, value: str, provenance: Provenance, mask: int) -> None:
    """Leave what `value` replaces only to the purposes that may know `value`."""
    member, place, known = held
    old = [one for one in known if one.value != value and one.last_said_at <= provenance.said_at]
    if not old or not place.held & ~mask:
        return
    member.take_out(place, field)
    for purposes, sightings in ((place.held, [one for one in known if one not in old]), (mask, old)):
        if sightings and place.held & purposes:
            _add(member, place.held & purposes, field, sightings, provenance)


def _add(draft: SubjectDraft, mask: int, field: int, sightings: Sequence[Sighting], provenance: Provenance) -> None:
    before = draft.get(mask, field)
    known = read_sightings(before) if before is not None else []
    origin = Provenance(provenance.source, provenance.event_key, SERVER, draft.tools.now)
    after = write_sightings(join([*known, *sightings]))
    if len(after) > MOST_BYTES:
        after = write_sightings(fitting(join([*known, *sightings])))
    draft.put_joint(mask, field, origin, after)
