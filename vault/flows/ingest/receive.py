"""Bytes of a source to an answer: decode, read, decide, commit; again for those who lost a race. Durable before the answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from vault.errors import Conflict, Invalid, Unreadable
from vault.events.decode import Decoded, Rejected, decode
from vault.flows.ingest.counting import count
from vault.flows.ingest.decide import Decider
from vault.flows.ingest.item import Dropped, Item, Outcome, items_of
from vault.flows.ingest.verdict import Oversized, Unfit, Verdict
from vault.flows.ingest.voice import Voices
from vault.flows.ingest.world import World, note_stored, read_world
from vault.flows.people.attempt import LedgerNeeded
from vault.flows.people.change import tools_of
from vault.flows.people.commit import commit
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.warm import Kept, Warm
from vault.flows.people.write import NO_GROUP, Raced
from vault.flows.vault import Vault
from vault.flows.watch import drop_of, tell, tell_refused
from vault.sources.store import Source

PART: Final = 200  # messages of a body in work at once; the batches of SDKs have 100 at most
ATTEMPTS: Final = 30  # each is lost only to somebody who wrote


async def receive(vault: Vault, source: Source, body: bytes, kind: str) -> Outcome:
    """Take the messages of a body, a part after the other. `kind` is `batch` or the type that the path names.

    No more people than a part names are in work (threats G7). If a part fails, those before it are taken, and the sender
    sends all of them again, to one effect.

    Raises `Invalid` or `TooLarge` for a body that is none, `Conflict` (code `retry`) when others kept winning every race,
    `Unavailable` when it cannot be made durable. One bad message does not lose the others.
    """
    vault.keyring.refresh()  # tags are made once, before the first try
    try:
        decoded: Decoded = decode(body, kind, vault.clock.now())
    except Invalid as error:
        await tell_refused(vault, source, error.reason, error.hint)
        raise
    stored = 0
    dropped: list[Dropped] = []
    rejected: Sequence[Rejected] = decoded.rejected
    for first in range(0, max(1, len(decoded.messages)), PART):
        if first:
            await vault.turns.pause()
        items = items_of(vault.places, vault.keyring, source, decoded.messages[first : first + PART])
        taken = await take_items(vault, source, items, rejected)
        stored += taken.outcome.stored
        dropped += taken.outcome.dropped
        rejected = ()  # they were told with the first
    return Outcome(stored, sorted(dropped, key=lambda one: one.index))


class Taken(NamedTuple):
    """The answer, and the profile that each kept item ended in."""

    outcome: Outcome
    profiles: dict[int, ProfileDraft]


async def take_items(vault: Vault, source: Source, items: list[Item], rejected: Sequence[Rejected] = ()) -> Taken:
    """Decide and commit these items, as often as it takes. `rejected` are those that could not even be read."""
    pending = items
    dropped = [Dropped(one.index, one.code) for one in rejected]
    stored = 0
    profiles: dict[int, ProfileDraft] = {}
    learnt = _Learnt()
    decided: list[Verdict] = []
    attempt = 0
    while pending:
        attempt += 1
        if attempt > ATTEMPTS:
            raise Conflict("Others kept changing the same people; send it again.", code="retry")
        voices = Voices(vault.catalogue, source)
        # The first try uses the people that are kept warm; where that does not do, everything is read.
        warm = _take_warm(vault.warm, pending, voices) if attempt == 1 else []
        try:
            world, verdicts = await _decide(vault, source, pending, learnt, voices, warm)
            if pending[0].tagged != vault.keyring.tags:  # they find nobody any more
                raise Conflict("The keys of lookups were rotated just now; send it again.", code="retry")
            lost = await commit(vault, world.tools, world.drafts(), f"source:{source.source_id}")
            _keep(vault, world, lost)
        except Raced:
            learnt.raced = True
            continue
        finally:
            vault.warm.let_go(warm)
        done = [verdict for verdict in verdicts if not _is_lost(verdict, lost)] if lost else verdicts
        pending = [verdict.item for verdict in verdicts if _is_lost(verdict, lost)] if lost else []
        decided += done
        stored += sum(verdict.dropped is None for verdict in done)
        profiles.update((v.item.index, v.profile) for v in done if v.profile is not None)
        dropped += [verdict.dropped for verdict in done if verdict.dropped is not None]
        noted = Counter(drop for verdict in done if verdict.noted for drop in verdict.noted)
        if noted:
            vault.uncounted.owe(source.source_id, noted)
    if rejected:
        vault.uncounted.owe(source.source_id, Counter(drop_of(vault.catalogue, one) for one in rejected))
    await count(vault, source)
    await tell(vault, source, decided, rejected)
    return Taken(Outcome(stored, sorted(dropped, key=lambda one: one.index)), profiles)


class _Learnt(msgspec.Struct):
    """What earlier tries found out about this body; each try reads the world anew."""

    ledgers: set[UUID] = msgspec.field(default_factory=set)  # of whom the ledger is needed
    unfit: set[UUID] = msgspec.field(default_factory=set)  # of whom something does not open
    refused: dict[int, str] = msgspec.field(default_factory=dict)  # messages over a limit, by index
    raced: bool = False  # somebody came between, or a message is stored whose dedup row is gone


async def _decide(
    vault: Vault,
    source: Source,
    pending: list[Item],
    learnt: _Learnt,
    voices: Voices,
    warm: Sequence[Kept],
) -> tuple[World, list[Verdict]]:
    """Decide on the world as it is now; whatever is missing is learnt, and it is decided again. May raise `Raced`."""
    while True:
        async with vault.database.hot() as connection:
            world = await read_world(
                connection,
                tools_of(vault),
                pending,
                learnt.ledgers,
                says_new=voices.says_new,
                without=learnt.unfit,
                warm=warm,
            )
            if learnt.raced:
                await note_stored(connection, world, pending)
        warm = ()  # half changed if they did not do
        decider = Decider(vault, source, world, voices, learnt.refused)
        try:
            return world, await decider.decide(pending)
        except Unfit as found:
            if found.subjects <= learnt.unfit:
                raise Unreadable from None
            learnt.unfit |= found.subjects
        except Oversized as one:
            learnt.refused[one.index] = one.code
        except LedgerNeeded as needed:
            learnt.ledgers |= _with_members(world, needed.subject)


def _take_warm(warm: Warm, items: list[Item], voices: Voices) -> list[Kept]:
    """The kept profiles of which all messages can be decided without a read: every identifier that joins is known.

    Choices are decided on what was just read, since the journal hears of them before the statement can refuse.
    """
    taken: dict[int, Kept] = {}
    cold: set[int] = set()
    for item in items:
        found = [warm.find(named.tag) for named in item.named if named.kind.joins]
        first = found[0] if found else None
        if first is not None and (len(found) == 1 or all(one is first for one in found)):
            taken[id(first)] = first
            if voices.anything_new(item, first.profile):
                cold.add(id(first))
        else:
            cold.update([id(one) for one in found if one is not None])
    chosen = [kept for name, kept in taken.items() if name not in cold]
    for kept in chosen:
        warm.take(kept)
    return chosen


def _keep(vault: Vault, world: World, lost: set[int]) -> None:
    """Keep those whose rows are as they were drafted now."""
    for profile in {id(one): one for one in world.people.values()}.values():
        if profile.root.group not in lost:
            for member in profile.members:
                member.settled()
            vault.warm.keep(profile, world.graves)


def _with_members(world: World, subject: UUID) -> set[UUID]:
    """The subject and everyone it is joined with: an act writes to all of them."""
    profile = world.people.get(subject)
    return {subject} if profile is None else {member.subject for member in profile.members}


def _is_lost(verdict: Verdict, lost: set[int]) -> bool:
    return (NO_GROUP if verdict.profile is None else verdict.profile.root.group) in lost
