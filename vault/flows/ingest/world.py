"""What a batch must know before it can decide: who is found, what was seen before, who was erased. Read once an attempt."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from vault.consent.standing import fold
from vault.flows.ingest.item import Item
from vault.flows.people.change import ProfileDraft, assemble
from vault.flows.people.draft import SubjectDraft, Tools
from vault.flows.people.read import ledgers, owners, profiles
from vault.ids import new_subject
from vault.storage.session import Raw


class Grave(NamedTuple):
    """A tombstone: what was said before `until` is late; with `suppress` all is; `objected` outlived the erasure."""

    until: int
    suppress: bool
    objected: int


class World:
    """The people of a batch in work, and what is known of its messages."""

    def __init__(self, tools: Tools) -> None:
        """Empty; `read_world` fills it."""
        self.tools = tools
        self.seen: dict[bytes, bytes] = {}  # event key -> content digest
        self.graves: dict[bytes, Grave] = {}
        self.owners: dict[bytes, UUID] = {}  # tag -> subject
        self.people: dict[UUID, ProfileDraft] = {}  # subject -> profile
        self.broken: set[UUID] = set()
        self.groups = 0

    def profile_of(self, tag: bytes) -> ProfileDraft | None:
        """The profile that an identifier finds. None for nobody, and for one whose rows do not agree."""
        subject = self.owners.get(tag)
        return self.people.get(subject) if subject is not None else None

    def is_broken(self, tag: bytes) -> bool:
        """True if the identifier finds a person whose rows do not agree."""
        subject = self.owners.get(tag)
        return subject is not None and subject not in self.people

    def newcomer(self) -> ProfileDraft:
        """A new subject, not yet in the world: `admit` puts it there once something of it is kept."""
        draft = SubjectDraft(self.tools, new_subject(self.tools.now), None)
        self.groups += 1
        draft.group = self.groups
        return ProfileDraft([draft])

    def admit(self, profile: ProfileDraft) -> None:
        """Make every member findable under this profile."""
        for member in profile.members:
            self.people[member.subject] = profile

    def join(self, first: ProfileDraft, second: ProfileDraft) -> None:
        """From now on both are written together or not at all."""
        if first.root.group == second.root.group:
            return
        old, new = second.root.group, first.root.group
        for profile in {id(one): one for one in self.people.values()}.values():
            for member in profile.members:
                if member.group == old:
                    member.group = new

    def drafts(self) -> list[SubjectDraft]:
        """Every subject in work."""
        return [member for profile in {id(p): p for p in self.people.values()}.values() for member in profile.members]


async def read_world(
    connection: Raw, tools: Tools, items: Sequence[Item], with_ledger: Iterable[UUID], *, again: bool = False
) -> World:
    """All that these items need to know. The ledgers of `with_ledger` are read, too.

    With `again`, people are looked up even for messages that were taken before.
    """
    world = World(tools)
    rows = await connection.fetch(
        "SELECT event_key, digest FROM dedup WHERE event_key = ANY ($1::bytea[])", [item.key for item in items]
    )
    world.seen = {row[0]: row[1] for row in rows}
    fresh = [item for item in items if again or item.key not in world.seen]
    named = [named for item in fresh for named in item.named]
    rows = await connection.fetch(
        "SELECT tag, until, suppress, objected FROM tombstone WHERE tag = ANY ($1::bytea[])",
        list({one.tombstone for one in named}),
    )
    world.graves = {row[0]: Grave(row[1], row[2], row[3]) for row in rows}
    world.owners = await owners(connection, {one.tag for one in named})
    stored, world.broken = await profiles(connection, world.owners.values(), tools.state_key)
    world.people, unfit = assemble(tools, stored)
    world.broken |= unfit
    wanted = set(with_ledger)
    choices = await ledgers(connection, {s: one for s, one in stored.items() if s in wanted and s in world.people})
    for subject, said in choices.items():
        world.people[subject].member(subject).standing = fold(said)
    for profile in {id(one): one for one in world.people.values()}.values():
        world.groups += 1
        for member in profile.members:
            member.group = world.groups
    return world
