"""An act, or a stamp that says something new: ledger, state, wraps and journal change in one go (design section 6).

`take` is the heart: it writes entries to one member and, where they count there too, to every other member of the
profile; sets the masks of each to the fold of its ledger; and destroys the wraps that a refusal takes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.clock import Micros
from vault.consent.act import Ignored, Said, act_entries, copied_to_member, expiry_entries, wraps_lost
from vault.consent.standing import apply
from vault.consent.ledger import Authority, Choice, Decision, How
from vault.consent.stamp import Speaker
from vault.errors import Invalid, NotFound
from vault.flows.people.change import ProfileDraft
from vault.flows.people.draft import SubjectDraft
from vault.flows.vault import Vault


def take(catalogue: Catalogue, profile: ProfileDraft, author: SubjectDraft, entries: Iterable[Choice]) -> None:
    """Write entries to `author`'s ledger and to every member's, and let state and wraps follow. Ledgers must be loaded."""
    said = tuple(entries)
    if not said:
        return
    for member in profile.members:
        mine = said if member is author else copied_to_member(said, member.standing)
        if mine:
            write_entries(catalogue, member, mine)


def write_entries(catalogue: Catalogue, member: SubjectDraft, entries: tuple[Choice, ...]) -> None:
    """Append to one ledger; masks become its fold, ends are noted for the worker, wraps that a refusal takes are destroyed."""
    standing = member.standing
    for choice in entries:
        member.add_choice(choice)
        standing = apply(standing, choice)
    masks = standing.masks()
    known = set(member.state.expiries)
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
    member.remove_wraps(wraps_lost(catalogue, entries))


def expire(vault: Vault, profile: ProfileDraft) -> None:
    """Write the end of every choice whose time has come, member by member: an end is nobody's word about the others."""
    for member in profile.members:
        entries = expiry_entries(member.standing, member.tools.now)
        if entries:
            write_entries(vault.catalogue, member, entries)
