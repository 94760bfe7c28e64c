"""One act of one person whom the vault knows: all that decides is read by one statement, and written by one.

Decided by the same rules as a batch (`flows.ingest`), on a world that is of one moment. Whatever is not plain (nobody is
found, it was said before, rows do not agree, somebody came between) is left to the general way, which begins anew; nothing
was written then, though the journal may have heard of it, which is harmless: replay only lowers.
"""

from typing import Final
from uuid import UUID

from vault.catalogue.load import Catalogue
from vault.consent.act import may_take_wraps
from vault.consent.ledger import read_chain
from vault.consent.standing import fold
from vault.errors import Unreadable
from vault.flows.ingest.decide import Decider
from vault.flows.ingest.item import Item
from vault.flows.ingest.verdict import Oversized, Unfit
from vault.flows.ingest.voice import Voices
from vault.flows.ingest.world import World
from vault.flows.people.attempt import LedgerNeeded, Tools
from vault.flows.people.change import assemble, tools_of
from vault.flows.people.commit import commit
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.read import believed
from vault.flows.people.warm import Grave
from vault.flows.people.write import Raced
from vault.flows.vault import Vault
from vault.flows.watch import tell
from vault.sources.store import Source
from vault.storage.session import Raw

_LEDGER: Final = 8
_FOUND: Final = 9
_STONES: Final = 10
_SEEN: Final = 11
# A row a member of whoever is found; the last three columns say the same in each. The first eight are those of `profiles`.
_WORLD: Final = """
WITH found AS MATERIALIZED (SELECT tag, subject_id, code FROM identity WHERE tag = ANY ($1::bytea[]))
SELECT s.subject_id, s.root, s.version, s.state, k.version, k.wraps,
    ARRAY(SELECT (purposes, generation, compartment_id, version, fields) FROM compartment WHERE subject_id = s.subject_id),
    ARRAY(SELECT (kind, tag) FROM identifier WHERE subject_id = s.subject_id AND kind = ANY ($4::smallint[])),
    ARRAY(SELECT entry FROM ledger WHERE subject_id = s.subject_id ORDER BY sequence),
    ARRAY(SELECT (tag, subject_id, code) FROM found),
    ARRAY(SELECT (tag, until, suppress, objected) FROM tombstone WHERE tag = ANY ($2::bytea[])),
    EXISTS (SELECT FROM dedup WHERE event_key = $3)
FROM subject s LEFT JOIN keys.subject_key k USING (subject_id)
WHERE s.root = ANY (ARRAY(SELECT root FROM subject WHERE subject_id = ANY (ARRAY(SELECT subject_id FROM found))))
"""


async def take_alone(vault: Vault, source: Source, item: Item) -> ProfileDraft | None:
    """The profile as it stands after the act; durable. None: not taken, and it has to go the general way.

    Raises `Unavailable` when it cannot be made durable.
    """
    tools = tools_of(vault)
    if item.tagged != vault.keyring.tags:
        return None
    async with vault.database.hot() as connection:
        world = await _world(connection, tools, item, _deciding(vault.catalogue))
    if world is None:
        return None
    decider = Decider(vault, source, world, Voices(vault.catalogue, source), {})
    try:
        (verdict,) = await decider.decide([item])
    except (Unfit, Oversized, LedgerNeeded):
        return None
    if verdict.dropped is not None or verdict.noted or verdict.profile is None:
        return None
    roots = {profile.root.subject for profile in world.people.values()}
    try:
        if await commit(vault, tools, world.drafts(), f"source:{source.source_id}"):
            return None
    except Raced:
        return None
    vault.warm.forget(roots)
    await tell(vault, source, [verdict], ())
    return verdict.profile


def _deciding(catalogue: Catalogue) -> list[int]:
    """The kinds of which an act asks for the tags: those that join, and those that a refusal may take away.

    Not order numbers, of which one may have thousands: they only find.
    """
    lasting = sum(p.mask for p in catalogue.purposes.values() if not may_take_wraps(p))
    return [one.number for one in catalogue.identifiers.values() if one.joins or not one.purposes & lasting]


async def _world(connection: Raw, tools: Tools, item: Item, kinds: list[int]) -> World | None:
    """What is known of whom the item names; None for what is not plain."""
    world = World(tools)
    stones = {world.stone_of(one): one.tag for one in item.named}
    rows = await connection.fetch(_WORLD, [one.tag for one in item.named], list(stones), item.key, kinds)
    if not rows or rows[0][_SEEN]:
        return None
    stored, broken = believed(rows, tools.state_key)
    if broken:
        return None
    if not all(tools.pointers.hold(tag, subject.bytes, code) for tag, subject, code in rows[0][_FOUND]):
        return None
    world.owners = {one[0]: UUID(bytes=one[1].bytes) for one in rows[0][_FOUND]}
    world.graves = {one.tag: None for one in item.named}
    world.graves |= {stones[one[0]]: Grave(one[1], one[2], one[3]) for one in rows[0][_STONES]}
    world.people, unfit = assemble(tools, stored)
    if unfit or not all(subject in world.people for subject in world.owners.values()):
        return None
    try:
        for row in rows:
            subject = UUID(bytes=row[0].bytes)
            state = stored[subject].state
            said = read_chain(row[_LEDGER], state.ledger_count, state.ledger_head)
            world.people[subject].member(subject).standing = fold(said)
    except Unreadable:
        return None
    for profile in {id(one): one for one in world.people.values()}.values():
        world.groups += 1
        for member in profile.members:
            member.group = world.groups
    return world
