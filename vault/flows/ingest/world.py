"""What a batch must know before it can decide: who is found, what was seen before, who was erased. Read once an attempt."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from vault.consent.standing import fold
from vault.errors import Unreadable
from vault.flows.ingest.item import Item, Named, Taggers
from vault.flows.people.attempt import Tools
from vault.flows.people.change import assemble
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.read import Stored, ledgers, moved_on, profiles
from vault.flows.people.warm import Grave, Kept
from vault.flows.people.write import Raced
from vault.flows.tags import burier
from vault.ids import new_subject
from vault.storage.session import Raw

SaysNew = Callable[[Item, SubjectDraft], bool]
"""May this message write a choice into the ledger of this subject?"""


def says_nothing(_item: Item, _draft: SubjectDraft) -> bool:
    """For readers who write no choice."""
    return False


class World:
    """The people of a batch in work, and what is known of its messages."""

    def __init__(self, tools: Tools) -> None:
        """Empty; `read_world` fills it."""
        self.tools = tools
        self.seen: dict[bytes, bytes] = {}  # event key -> content digest
        self.graves: dict[bytes, Grave | None] = {}  # tag of an identifier -> its tombstone, where it was looked for
        self.owners: dict[bytes, UUID] = {}  # tag -> subject
        self.people: dict[UUID, ProfileDraft] = {}  # subject -> profile
        self.broken: set[UUID] = set()
        self.forged: dict[bytes, UUID] = {}  # tag -> whom a row points it at that nobody with the key wrote
        self._buriers = Taggers(partial(burier, tools.keyring))
        self.groups = 0

    def profile_of(self, tag: bytes) -> ProfileDraft | None:
        """The profile that an identifier finds. None for nobody, and for one whose rows do not agree."""
        subject = self.owners.get(tag)
        return self.people.get(subject) if subject is not None else None

    def stone_of(self, named: Named) -> bytes:
        """The tag of the tombstone that an erasure of this identifier's owner leaves."""
        return self._buriers[named.kind.name].tag(named.value.encode())

    def is_broken(self, tag: bytes) -> bool:
        """True if the identifier finds a person whose rows do not agree, or finds somebody by a forged row."""
        if tag in self.forged:
            return True
        subject = self.owners.get(tag)
        return subject is not None and subject not in self.people

    def withhold(self, subject: UUID) -> None:
        """Rows of this subject do not agree: nobody finds its profile."""
        profile = self.people.get(subject)
        if profile is not None:
            for member in profile.members:
                self.broken.add(member.subject)
                self.people.pop(member.subject, None)

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
        for profile in {id(one): one for one in (second, *self.people.values())}.values():
            for member in profile.members:
                if member.group == old:
                    member.group = new

    def drafts(self) -> list[SubjectDraft]:
        """Every subject in work."""
        return [member for profile in {id(p): p for p in self.people.values()}.values() for member in profile.members]


async def read_world(
    connection: Raw,
    tools: Tools,
    items: Sequence[Item],
    with_ledger: Iterable[UUID] = (),
    *,
    says_new: SaysNew = says_nothing,
    without: Iterable[UUID] = (),
    again: bool = False,
    warm: Sequence[Kept] = (),
) -> World:
    """All that these items need to know. Ledgers are read of `with_ledger` and of whom `says_new` names.

    `without` are subjects of whom something did not open: their profiles are withheld. With `again`, people are looked up
    even for messages that were taken before. `warm` are profiles that need no reading: whether a message about them was
    taken before, and whether an identifier that finds nobody is free, is then for the statement to say. Raises `Raced` when
    somebody wrote between two reads.
    """
    world = World(tools)
    for kept in warm:
        world.graves.update(kept.graves)
        world.owners.update(kept.owners)
        for member in kept.profile.members:
            member.tools = tools
            world.people[member.subject] = kept.profile
    known = world.owners
    cold = [item for item in items if not [1 for one in item.named if one.tag in known and one.kind.joins]]
    stored: dict[UUID, Stored] = {}
    if cold:
        stored = await _read_cold(connection, world, cold, again=again)
    for subject in without:
        world.withhold(subject)
    fresh = [item for item in cold if again or item.key not in world.seen]
    await _read_ledgers(connection, world, stored, set(with_ledger) | _speakers(world, fresh, says_new))
    for profile in {id(one): one for one in world.people.values()}.values():
        world.groups += 1
        for member in profile.members:
            member.group = world.groups
    return world


# One statement, so one moment: whose tags an erasure took by then, of them it also shows the tombstones.
_KNOWN: Final = """
SELECT
    (SELECT array_agg((event_key, digest)) FROM dedup WHERE event_key = ANY ($1::bytea[])),
    (SELECT array_agg((tag, until, suppress, objected)) FROM tombstone WHERE tag = ANY ($2::bytea[])),
    (SELECT array_agg((tag, subject_id, code)) FROM identity WHERE tag = ANY ($3::bytea[]))
"""


async def _read_cold(connection: Raw, world: World, items: Sequence[Item], *, again: bool) -> dict[UUID, Stored]:
    """Read what these items name: messages taken before, people, tombstones.

    A tag whose subject went between the two statements is looked up once more. Of a profile that was found warm nothing is
    read again, and of who is named only by messages that were taken before nothing at all, unless `again`.
    """
    keys = [item.key for item in items]
    named = {one.tag: one for item in items for one in item.named}
    stones = {world.stone_of(one): tag for tag, one in named.items()}
    unknown = list(named.keys() - world.owners.keys())
    stored: dict[UUID, Stored] = {}
    for _ in range(2):
        seen, buried, found = (await connection.fetch(_KNOWN, keys, list(stones), unknown))[0]
        world.seen = dict(seen or ())
        world.graves.update(dict.fromkeys(named))
        world.graves.update((stones[one[0]], Grave(one[1], one[2], one[3])) for one in buried or ())
        fresh = {one.tag for item in items if again or item.key not in world.seen for one in item.named}
        owners = _pointed(world, [one for one in found or () if one[0] in fresh])
        wanted = [subject for subject in owners.values() if subject not in world.people]
        stored, world.broken = await profiles(connection, wanted, world.tools.state_key)
        if all(subject in stored or subject in world.broken or subject in world.people for subject in owners.values()):
            break
    world.owners.update(owners)
    people, unfit = assemble(world.tools, stored)
    world.people.update(people)
    world.broken |= unfit
    return stored


def _pointed(world: World, rows: Iterable[Sequence[Any]]) -> dict[bytes, UUID]:
    """Whom these rows of `identity` find; rows that nobody with the key wrote find nobody, and are kept apart."""
    hold = world.tools.pointers.hold
    owners: dict[bytes, UUID] = {}
    for tag, subject, code in rows:
        if hold(tag, subject.bytes, code):
            owners[tag] = subject
        else:
            world.forged[tag] = UUID(bytes=subject.bytes)
    return owners


async def note_stored(connection: Raw, world: World, items: Sequence[Item]) -> None:
    """Marks messages as taken before whose event is there and whose dedup row is gone: they would lose every race."""
    fresh = {item.key: item.digest for item in items if item.key not in world.seen}
    rows = await connection.fetch(
        "SELECT DISTINCT event_key FROM event WHERE subject_id = ANY ($1::uuid[]) AND event_key = ANY ($2::bytea[])",
        list(world.people),
        list(fresh),
    )
    world.seen.update((row[0], fresh[row[0]]) for row in rows)


def _speakers(world: World, items: Sequence[Item], says_new: SaysNew) -> set[UUID]:
    """Everyone in the profiles of whom a message surely writes, or may well write, a choice."""
    found: set[UUID] = set()
    for item in items:
        for named in item.named:
            profile = world.profile_of(named.tag) if named.kind.joins else None
            if profile is not None and any(says_new(item, member) for member in profile.members):
                found.update(member.subject for member in profile.members)
    return found


async def _read_ledgers(connection: Raw, world: World, stored: Mapping[UUID, Stored], wanted: set[UUID]) -> None:
    """Give these subjects their standing. A ledger that is not the one its state vouches for breaks its profile only."""
    rows = {subject: one for subject, one in stored.items() if subject in wanted and subject in world.people}
    if not rows:
        return
    try:
        choices = await ledgers(connection, rows)
    except Unreadable:
        choices = {}
        for subject, one in rows.items():
            try:
                choices |= await ledgers(connection, {subject: one})
            except Unreadable:
                if await moved_on(connection, {subject: one}):
                    raise Raced from None
                world.withhold(subject)
    for subject, said in choices.items():
        if subject in world.people:
            world.people[subject].member(subject).standing = fold(said)
