"""Choices on drafts: ledger, masks, wraps and ends change together (design section 6, Effect).

`take` writes entries to one member and, where they count there too, to every other member of the profile; the masks of each
become the fold of its ledger; the wraps that a refusal takes are destroyed.
"""

from collections.abc import Iterable, Mapping

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import bit, bits, identifier_object
from vault.clock import Micros
from vault.consent.act import GRACE, copied_to_member, expiry_entries, grace_entries, wraps_lost
from vault.consent.ledger import Choice, Decision
from vault.consent.standing import apply
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft

Proofs = Mapping[bytes, bytes]  # digest in the entry -> the evidence, to be sealed


def take(
    catalogue: Catalogue,
    profile: ProfileDraft,
    author: SubjectDraft,
    entries: Iterable[Choice],
    proofs: Proofs | None = None,
) -> None:
    """Write entries to `author`'s ledger and to every member's, and let state and wraps follow. May raise `LedgerNeeded`."""
    said = tuple(entries)
    if not said:
        return
    for member in profile.members:
        mine = said if member is author else copied_to_member(said, member.standing)
        if mine:
            write_entries(catalogue, member, mine, proofs)


def write_entries(
    catalogue: Catalogue, member: SubjectDraft, entries: tuple[Choice, ...], proofs: Proofs | None = None
) -> None:
    """Append to one ledger; masks become its fold, ends are noted for the worker, wraps that a refusal takes are destroyed."""
    standing = member.standing
    for choice in entries:
        member.add_choice(choice, (proofs or {}).get(choice.evidence))
        standing = apply(standing, choice)
    masks = standing.masks()
    known = set(member.state.expiries)
    blocked = masks.blocked & ~member.state.blocked
    member.standing = standing
    member.alter(
        granted=masks.granted,
        refused=masks.refused,
        blocked=masks.blocked,
        objected=masks.objected,
        expiries=masks.expiries,
    )
    for end in masks.expiries:
        if end not in known:
            member.end_at(end[1])
    for purpose in bits(blocked):
        member.end_at(Micros((standing.of(purpose).blocked_at or 0) + GRACE))
    lost = wraps_lost(catalogue, entries)
    member.remove_wraps(lost)
    if lost:
        _drop_tags(catalogue, member, lost)
    for choice in entries:
        if choice.decision is Decision.GRANTED and choice.covers and masks.granted >> choice.purpose & 1:
            _reach_back(catalogue, member, choice)


def _drop_tags(catalogue: Catalogue, member: SubjectDraft, lost: int) -> None:
    """A tag exists while any purpose of its kind holds (design section 4): it goes with the last wrap of its values.

    Not the last that leads to the subject: by it a choice is remembered, and the person is found to be erased.
    """
    joining = {kind.number for kind in catalogue.identifiers.values() if kind.joins}
    for kind in catalogue.identifiers.values():
        held = set(member.tags.values())
        if kind.number not in held or not kind.purposes & lost or member.copies(identifier_object(kind.number)):
            continue
        if held & joining - {kind.number}:
            member.drop_tags(kind.number)


def _reach_back(catalogue: Catalogue, member: SubjectDraft, choice: Choice) -> None:
    """Seal the newest value of each field that the grant names anew, for the new purpose alone."""
    for number in choice.covers:
        if not catalogue.collected.get(number, 0) & bit(choice.purpose):
            continue
        copies = [(draft, head) for draft, head in member.copies(number) if draft.held]
        if not copies:
            continue
        newest, head = max(copies, key=lambda copy: (copy[1].authority, copy[1].said_at))
        value = member.read(newest, number)
        if value is not None and not newest.held >> choice.purpose & 1:
            member.put(bit(choice.purpose), number, head.provenance, value)


def expire(catalogue: Catalogue, profile: ProfileDraft) -> None:
    """Write what time decides, member by member: the end of choices, and refusals that stood blocked for the whole grace."""
    for member in profile.members:
        now = member.tools.now
        entries = (*expiry_entries(member.standing, now), *grace_entries(member.standing, now))
        if entries:
            write_entries(catalogue, member, entries)
