"""Whose message is this? Identifiers to a profile: found, made anew, joined, or only claimed (design section 7).

`identity.graph` decides; this carries it out on drafts. Joining links subjects and moves nothing: every value stays under
the keys it came under, and the link keeps its evidence. A client source joins nobody: it claims.
"""

from collections import Counter
from typing import NamedTuple

from vault.audit.entry import Entry, Tag, salted
from vault.catalogue.load import Catalogue
from vault.flows.ingest.item import Item, Named
from vault.flows.ingest.world import World
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.write import audit_row
from vault.flows.vault import Vault
from vault.identity.graph import Attach, Found, Merge, New, Nobody, Profile, Rule, decide
from vault.ids import random_bytes, uuid7
from vault.keys import names
from vault.sources.store import Source


class Place(NamedTuple):
    """Where a message belongs. `claim` is the profile that a client source merely named."""

    profile: ProfileDraft
    author: SubjectDraft  # the member that the message is written under
    attach: tuple[Named, ...]  # identifiers that are new
    claim: ProfileDraft | None


def resolve(vault: Vault, source: Source, world: World, item: Item) -> Place | str:
    """The place of a message, or the code of the reason why it has none. Changes drafts only where profiles are joined."""
    if world.forged and any(named.tag in world.forged for named in item.named):
        return "integrity"
    joining = _joining(world, item)
    profile = _only(source, world, joining)
    if profile is not None:
        return "erasing" if profile.fenced else Place(profile, _author(world, profile, item), (), None)
    if any(world.is_broken(named.tag) for named in joining):
        return "integrity"
    roots = {named.tag: world.profile_of(named.tag) for named in joining}
    found = [
        Found(
            kind=named.kind.number,
            priority=named.kind.priority,
            tag=named.tag,
            root=profile.root.subject if (profile := roots[named.tag]) is not None else None,
            own=named.own,
            previous=named.previous,
        )
        for named in joining
    ]
    profiles = {p.root.subject: _facts(vault.catalogue, p) for p in roots.values() if p is not None}
    limits = {kind.number: kind.limit for kind in vault.catalogue.identifiers.values() if kind.joins}
    resolution = decide(found, profiles, limits, server=source.server)
    if isinstance(resolution, Nobody):
        return resolution.reason
    return _carry_out(vault, source, world, item, resolution)


def _joining(world: World, item: Item) -> list[Named]:
    """The identifiers that may join, of an alias with the one reading of `previousId` that is known to mean somebody.

    While neither is known it is a device's, as the libraries send it, and also a user's where the catalogue lets one
    profile have several: so an alias that comes before what it tells of ends in the same person as one that comes after.
    """
    joining = [named for named in item.named if named.kind.joins]
    if item.message.type != "alias":
        return joining
    before = [named for named in joining if named.previous]
    known = [named for named in before if named.tag in world.owners]
    kept = known or [named for named in before if named.kind.device_access or named.kind.limit > 1] or before
    return [named for named in joining if not named.previous or named in kept]


def _only(source: Source, world: World, joining: list[Named]) -> ProfileDraft | None:
    """The one profile that every identifier finds already: `graph.decide` would have the message go there and change nothing.

    Most messages are such; a test compares the two.
    """
    found = [world.profile_of(named.tag) for named in joining]
    first = found[0] if found else None
    if first is None or any(profile is not first for profile in found):
        return None
    return first if source.server or any(named.own for named in joining) else None


def _carry_out(vault: Vault, source: Source, world: World, item: Item, resolution: New | Attach | Merge) -> Place:
    by_tag = {named.tag: named for named in item.named}
    attach = tuple(by_tag[found.tag] for found in resolution.attach)
    if isinstance(resolution, Merge):
        profile = _merge(vault, source, world, item, resolution)
        return Place(profile, _author(world, profile, item), attach, None)
    claim = world.people[resolution.claim] if resolution.claim is not None else None
    if isinstance(resolution, New):
        profile = world.newcomer()
        return Place(profile, profile.root, attach, claim)
    profile = world.people[resolution.root]
    return Place(profile, _author(world, profile, item), attach, claim)


def _author(world: World, profile: ProfileDraft, item: Item) -> SubjectDraft:
    """The member that the message's strongest identifier finds; nothing of a message is written under two keys."""
    if len(profile.members) == 1:
        return profile.root
    for named in sorted(item.named, key=lambda one: one.kind.priority):
        subject = world.owners.get(named.tag)
        if named.kind.joins and subject is not None and world.people.get(subject) is profile:
            return profile.member(subject)
    return profile.root


def _facts(catalogue: Catalogue, profile: ProfileDraft) -> Profile:
    joining = {kind.number for kind in catalogue.identifiers.values() if kind.joins}
    strongest = min((k for k in catalogue.identifiers.values() if k.joins), key=lambda kind: kind.priority).number
    counts = Counter(kind for member in profile.members for kind in member.tags.values() if kind in joining)
    return Profile(
        root=profile.root.subject,
        counts=counts,
        identified=counts[strongest] > 0,
        restricted=any(member.state.restricted for member in profile.members),
        fenced=profile.fenced,
        merges=profile.root.state.members,
    )


def _merge(vault: Vault, source: Source, world: World, item: Item, merge: Merge) -> ProfileDraft:
    """Link every absorbed profile under the survivor.

    Each member's row is written, so that whoever decided on one of them meanwhile decides again.
    """
    survivor = world.people[merge.survivor]
    members = list(survivor.members)
    for absorbed in merge.absorbed:
        other = world.people[absorbed.root]
        world.join(survivor, other)
        confirmed = other.root.state.claimed in {member.subject for member in survivor.members}
        said = Rule.ALIASED if item.message.type == "alias" else Rule.MERGED
        rule = Rule.CONFIRMED if confirmed else said
        link = (item.key, source.source_id, int(rule), absorbed.kind, True, world.tools.now)
        other.root.rows.links.append((other.root, merge.survivor, *link))
        _audit_merge(vault, source, world, other.root)
        for member in other.members:
            member.alter(root=merge.survivor, claimed=None, members=0)
            member.changed = True
            members.append(member)
    survivor.root.alter(members=len(members) - 1)
    for member in survivor.members:
        member.alter()
        member.changed = True
    profile = ProfileDraft(members)
    world.admit(profile)
    return profile


def _audit_merge(vault: Vault, source: Source, world: World, absorbed: SubjectDraft) -> None:
    salt = random_bytes(16)
    entry = Entry(
        entry_id=uuid7(world.tools.now),
        at=world.tools.now,
        tag=Tag.IDENTITY_PROFILES_JOINED,
        actor=f"source:{source.source_id}",
        policy=vault.policy.number,
        subject=salted(salt, absorbed.subject.bytes),
    )
    absorbed.rows.audit.append(audit_row(absorbed, entry, vault.keyring.key(names.JOURNAL)))
    absorbed.rows.salts.append((absorbed, entry.entry_id, salt))
