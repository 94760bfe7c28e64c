"""Replays the journal over a database that has lost the newest: restored from a backup, or promoted without its tail.

Promises: before a process serves, whatever the journal says was taken away is taken away (threats D6, D14): erased people
are erased again, by the same steps and with the same duties to keep; refusals, objections, restrictions and removed wraps
hold. Replay only lowers, twice is once, and a kill at any line is made good by the next start. What was granted or lifted
since is asked for again.

An entry is lost if the person's row is older than the version that the entry names; of an erasure, if keys of a member are
there. So an entry whose commit never came may be carried out here: somebody asked for it. How far the journal was
compared stands in the database, vouched for, so that a start reads only what is new. ADR 0110.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import RIGHTS, bit, bits
from vault.consent.act import Lost, replayed_entry
from vault.consent.ledger import Decision
from vault.crypto.mac import mac, same_code
from vault.errors import Conflict, NotFound, Unavailable, Unreadable
from vault.flows.graves import current, joined, missing, write_graves
from vault.flows.honour.again import erase_again
from vault.flows.people.change import change_profiles
from vault.flows.people.choices import write_entries
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal.journal import NOWHERE, Place
from vault.journal.narrowing import (
    Erasure,
    Narrowing,
    Objection,
    OfSubject,
    Refusal,
    RefusalKind,
    RemovedWraps,
    Restriction,
    Tombstone,
)
from vault.keys import names
from vault.keys.roles import DESK, DUE, INGEST, REQUESTS
from vault.storage.session import Raw, raw

_WRITERS: Final = frozenset((INGEST, DUE, DESK, REQUESTS))
POSITION: Final = "journal"  # row of `instance`: number, hash of that frame, code
LABEL: Final = "journal-at/1"
ACTOR: Final = "vault"
ASKED: Final = 10_000  # people, or tombstones, a query
CHANGED: Final = 200  # people a commit
LOOKS: Final = 6  # of a process that cannot replay: what another is just committing is no loss
BETWEEN: Final = 0.5  # seconds

_READ: Final = "SELECT value FROM instance WHERE name = $1"
_WRITE: Final = """
INSERT INTO instance (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_VERSIONS: Final = "SELECT subject_id, version FROM subject WHERE subject_id = ANY ($1::uuid[])"
_KEYED: Final = "SELECT subject_id FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"


class Replayed(msgspec.Struct, frozen=True):
    """What a start made good. `entries` were compared; the others are what the database had lost, of all that are there."""

    entries: int = 0
    erased: int = 0  # subjects
    lowered: int = 0  # subjects
    tombstones: int = 0
    unreadable: int = 0  # subjects whose rows do not agree: nobody reads them
    requests: tuple[
        UUID, ...
    ] = ()  # of the erasures that were carried out again: new ones, with certificates of their own
    journal: int = 0  # entries in all: older ones than `entries` were compared by an earlier start

    @property
    def anything(self) -> bool:
        """True if the database had lost something."""
        return bool(self.erased or self.lowered or self.tombstones or self.unreadable)


class _Lost(msgspec.Struct):
    """What the database has lost of the journal."""

    erasures: list[Erasure] = []
    narrowings: dict[UUID, list[OfSubject]] = {}
    stones: list[Tombstone] = []

    def __bool__(self) -> bool:
        return bool(self.erasures or self.narrowings or self.stones)

    def of(self) -> set[object]:
        """What names each loss, to see whether it is still one a moment later."""
        return {*self.narrowings, *(one.request_id for one in self.erasures), *(one.tag for one in self.stones)}


async def replay(vault: Vault) -> Replayed:
    """Compares the journal with the database, and makes good what is lost. Every start, before anything is served.

    Raises `Unavailable`: `replay_needed` in a process that lacks keys for it, `journal_behind` for a journal that is older
    than the database. Raises `Unreadable` for a journal that does not verify.
    """
    writes = not vault.role.parts.isdisjoint(_WRITERS)
    if not writes and not vault.role.releases:
        return Replayed()  # it neither shows nor writes people, and may not look at them
    key = vault.keyring.key(names.JOURNAL)
    async with vault.database.hot() as driver:
        place = parse_position(await driver.fetchval(_READ, POSITION), key)
        entries, head = await asyncio.to_thread(vault.journal.since, place)
        lost = await _compare(vault, driver, entries, stones=writes)
    if not holds_everything(vault):
        if lost:
            await _wait(vault, entries, lost, stones=writes)
        return Replayed(len(entries), journal=head.number)
    done = msgspec.structs.replace(await _make_good(vault, lost, len(entries)), journal=head.number)
    async with vault.database.begin() as connection:
        if done.anything:
            counts = msgspec.to_builtins(done)
            del counts["requests"]  # each has an entry of its own
            detail: Detail = {**counts, "position": counts.pop("journal")}
            await leave(vault, connection, Tag.JOURNAL_ENTRIES_REPLAYED, ACTOR, detail)
        if head != place:
            await (await raw(connection)).execute(_WRITE, POSITION, position(head, key))
    return done


async def forget_position(driver: Raw) -> None:
    """For a journal that begins anew: the next start compares all of it."""
    await driver.execute("DELETE FROM instance WHERE name = $1", POSITION)


def position(place: Place, key: bytes) -> str:
    """How far the journal was compared, as text with a code."""
    body = f"{place.number}:{place.hash.hex()}:{place.first.hex()}"
    return f"{body}:{mac(key, LABEL, body.encode()).hex()}"


def parse_position(text: str | None, key: bytes) -> Place:
    """What nobody here wrote counts as none: then everything is compared."""
    body, _, code = (text or "").rpartition(":")
    try:
        vouched = same_code(bytes.fromhex(code), mac(key, LABEL, body.encode()))
    except ValueError:
        vouched = False
    if not vouched:
        return NOWHERE
    number, hash_, first = body.split(":")
    return Place(int(number), bytes.fromhex(hash_), bytes.fromhex(first))


def holds_everything(vault: Vault) -> bool:
    """True with the keys of every purpose and of `rights`: an erasure must seal anew what law keeps."""
    return all(vault.keyring.holds(purpose) for purpose in (*vault.catalogue.purpose_by_number, RIGHTS))


async def _wait(vault: Vault, entries: Sequence[Narrowing], lost: _Lost, *, stones: bool) -> None:
    """What another process is just committing is no loss a moment later. Raises `Unavailable` if something stays lost."""
    still = lost.of()
    for _ in range(LOOKS):
        await asyncio.sleep(BETWEEN)
        async with vault.database.hot() as driver:
            still &= (await _compare(vault, driver, entries, stones=stones)).of()
        if not still:
            return
    raise Unavailable(
        "the database has lost what the journal remembers, and this process lacks the keys to make it good: run"
        " `profile-vault erasures replay` with the root key, or start the door `desk` first",
        code="replay_needed",
    )


# --- what is lost -----------------------------------------------------------------------------------------------------


async def _compare(vault: Vault, driver: Raw, entries: Iterable[Narrowing], *, stones: bool) -> _Lost:
    """`stones`: tombstones, too; who writes nobody does not ask for them, and may not."""
    erasures = [one for one in entries if isinstance(one, Erasure)]
    said: dict[UUID, list[OfSubject]] = {}
    for one in entries:
        if isinstance(one, OfSubject):
            said.setdefault(one.subject, []).append(one)
    versions = {row[0]: row[1] for row in await _ask(driver, _VERSIONS, list(said))}
    newer = {
        subject: left
        for subject, some in said.items()
        if (left := [one for one in some if subject in versions and one.version > versions[subject]])
    }
    keyed = {row[0] for row in await _ask(driver, _KEYED, [one for e in erasures for one in e.members])}
    back = [one for one in erasures if not keyed.isdisjoint(one.members)]
    over = [one for one in erasures if stones and keyed.isdisjoint(one.members)]
    buried = joined(stone for one in over for stone in current(vault, one.tombstones))
    tags = list(buried)
    lost: list[Tombstone] = []
    for start in range(0, len(tags), ASKED):
        lost += await missing(driver, {tag: buried[tag] for tag in tags[start : start + ASKED]})
    return _Lost(back, newer, lost)


async def _ask(driver: Raw, query: str, subjects: Sequence[UUID]) -> list[tuple[Any, ...]]:
    """Rows that begin with a subject id."""
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(subjects), ASKED):
        rows = await driver.fetch(query, subjects[start : start + ASKED])
        found += [(UUID(bytes=row[0].bytes), *tuple(row)[1:]) for row in rows]
    return found


# --- making it good ---------------------------------------------------------------------------------------------------


async def _make_good(vault: Vault, lost: _Lost, entries: int) -> Replayed:
    """Erasures first: who is erased needs no lowering."""
    again = [await erase_again(vault, one) for one in lost.erasures]
    if lost.stones:
        async with vault.database.hot() as driver:
            await write_graves(driver, lost.stones)
    lowered = unreadable = 0
    subjects = sorted(lost.narrowings)
    for start in range(0, len(subjects), CHANGED):
        some = subjects[start : start + CHANGED]
        done, unfit = await _lower(vault, some, _act(vault.catalogue, lost.narrowings))
        lowered, unreadable = lowered + done, unreadable + unfit
    erased, requests = sum(one.subjects for one in again), tuple(each for one in again for each in one.requests)
    return Replayed(entries, erased, lowered, len(lost.stones), unreadable, requests)


async def _lower(vault: Vault, subjects: Sequence[UUID], act: Callable[[ProfileDraft], None]) -> tuple[int, int]:
    """(subjects that hold what the journal says, subjects that cannot be believed). All at once, else one by one.

    Raises `Conflict` where others kept changing one of them: then nothing is served, and the next start tries again.
    """
    try:
        await change_profiles(vault, subjects, act, ACTOR)
    except NotFound:
        if len(subjects) == 1:  # erased just now
            return 0, 0
    except Unreadable:
        if len(subjects) == 1:
            return 0, 1
    except Conflict:  # others kept changing somebody: no reason to pass that person by
        if len(subjects) == 1:
            raise
    else:
        return len(subjects), 0
    done = unfit = 0
    for subject in subjects:
        lowered, broken = await _lower(vault, [subject], act)
        done, unfit = done + lowered, unfit + broken
    return done, unfit


def _act(catalogue: Catalogue, lost: Mapping[UUID, Iterable[OfSubject]]) -> Callable[[ProfileDraft], None]:
    def act(profile: ProfileDraft) -> None:
        for member in profile.members:
            for one in sorted(lost.get(member.subject, ()), key=_in_turn):
                _narrow(catalogue, member, one)

    return act


def _in_turn(one: OfSubject) -> tuple[int, bool]:
    """By commit. An objection is a refusal, too, and the journal has both: it is written first, so that one entry says it."""
    return one.version, not isinstance(one, Objection)


def _narrow(catalogue: Catalogue, member: SubjectDraft, one: OfSubject) -> None:
    """One entry on the person that it speaks of. What holds already changes nothing."""
    if isinstance(one, Restriction):
        if not member.state.restricted:
            member.alter(restricted=True)
            member.changed = True
    elif isinstance(one, RemovedWraps):
        for purpose in {purpose for _, purpose in one.wraps if purpose != RIGHTS}:
            member.remove_wraps(bit(purpose), frozenset(place for place, of in one.wraps if of == purpose))
    else:
        for purpose in bits(one.purposes):
            _refuse(catalogue, member, purpose, one)


def _refuse(catalogue: Catalogue, member: SubjectDraft, purpose: int, one: Refusal | Objection) -> None:
    decision = Decision.OBJECTED
    if isinstance(one, Refusal):
        decision = Decision.EXPIRED if one.kind is RefusalKind.EXPIRED else Decision.DENIED
    claimed = isinstance(one, Refusal) and one.kind is RefusalKind.BLOCKED
    lost = Lost(purpose=purpose, decision=decision, said_at=one.at, rank=one.rank, claimed=claimed)
    entry = replayed_entry(member.standing, lost, member.tools.now)
    if entry is not None:
        write_entries(catalogue, member, (entry,))
