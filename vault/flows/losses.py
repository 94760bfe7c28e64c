"""What an officer gives up for lost, so that a vault starts again: entries of the audit log, or the journal itself.

Promises: nothing is given up unless the officer named what is lost; the rest of the log verifies first; it is a leaf of the
log, a new life of the database begins with it (old cursors answer 410, threats H20), and the head goes back only after both
are committed: a crash between leaves the vault closed, and the act is taken again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from vault import durable
from vault.audit import verify
from vault.audit.checkpoint import USE
from vault.audit.entry import Tag
from vault.audit.log import Loss, accept_loss
from vault.canonical import canonical_json
from vault.catalogue.load import digest_of, read_folder
from vault.changes.incarnation import renew
from vault.clock import Micros
from vault.consent.ledger import Authority
from vault.errors import ConfigError, Conflict, NotFound, Unavailable, Unreadable, VaultError
from vault.flows.replay import forget_position
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal import witness
from vault.journal.file import FILE
from vault.journal.journal import Journal
from vault.journal.narrowing import (
    Begun,
    Erasure,
    Narrowing,
    Objection,
    PolicyApplied,
    Refusal,
    RefusalKind,
    Restriction,
    Tombstone,
)
from vault.journal.opening import open_journal
from vault.keys import names
from vault.policy import version
from vault.policy.version import Named
from vault.state.record import State, unpack
from vault.storage.lease import SWEEP, reset
from vault.storage.session import Database, Raw

ACTOR: Final = "operator"
BATCH: Final = 1000  # tombstones of one entry: far under the size of a frame
ASIDE: Final = ".broken"
_STATES: Final = "SELECT subject_id, state FROM subject WHERE subject_id > $1 ORDER BY subject_id LIMIT $2"


class Accepted(msgspec.Struct, frozen=True):
    """What is given up: entries of the audit log by both sizes, the journal as a whole."""

    entries: Loss | None = None
    journal: bool = False


NOTHING: Final = Accepted()


async def put_back_policies(
    database: Database, journal: Journal, named: Named, folder: Path | None, now: Micros
) -> list[int]:
    """Versions of the policies that are newer than a restored database, from the journal's folder; answers their numbers.

    What that folder lacks may be the policies folder as it stands. Raises `Conflict` (`policy_lost`) if it is not.
    """

    def files_of(digest: bytes) -> bytes | None:
        kept = journal.policy(digest)
        if kept is None and folder is not None:
            try:
                files = read_folder(folder)
            except VaultError:
                return None
            kept = canonical_json(dict(files)) if digest_of(files) == digest else None
        return kept

    async with database.begin() as connection:
        return await version.put_back(connection, named, files_of, now)


async def record_loss(vault: Vault, accepted: Accepted) -> None:
    """Leaves the leaf, begins a new life, and then lets the head go back. The journal was replayed before."""
    detail: dict[str, str | int] = {"what": "journal"}
    if accepted.journal:
        detail["subjects"] = await _tell_choices(vault)
    if accepted.entries is not None:
        await _check_whole(vault)
        detail = {"what": "entries", "here": accepted.entries.here, "head": accepted.entries.head}
    async with vault.database.begin() as connection:
        vault.incarnation = await renew(connection)
        await leave(vault, connection, Tag.AUDIT_LOSS_ACCEPTED, ACTOR, detail)
        await reset(connection, SWEEP)  # no round counts as finished: what was seen may be lost as well
    async with vault.database.hot() as driver:
        try:
            await accept_loss(driver, vault.journal)
        except NotFound:
            return
    await asyncio.to_thread(
        witness.forget, vault.settings.memory
    )  # else the state audit accused everybody who was put back


async def _check_whole(vault: Vault) -> None:
    """Raises `Conflict` (`audit_broken`): only a log that is old may be gone on with, not one that was edited."""
    publics = [bytes.fromhex(one["public"]) for one in vault.keyring.public_keys((USE,))]
    async with vault.database.snapshot() as connection:
        report = await verify.verify(connection, publics)
    if not report.good:
        raise Conflict(
            f"The log of this database does not verify from entry {report.first_bad} on: it is not merely old."
            " Restore another backup.",
            code="audit_broken",
        )


# --- a journal that is gone -------------------------------------------------------------------------------------------


async def begin_anew(database: Database, place: Path | str, key: bytes, now: Micros) -> None:
    """Begins a new journal with what this database knows: policy versions, erasures and tombstones.

    `record_loss` tells it the choices that stand.

    Raises `Conflict` (`loss_differs`) for a journal that is whole: it is not given up. One in a database that does not
    verify, or was moved away, is a `ConfigError`: a person sets it aside there.
    """
    if await asyncio.to_thread(_is_whole, place, key):
        raise Conflict("The journal is whole: nothing is lost, nothing is to be accepted.", code="loss_differs")
    async with database.hot() as driver:
        entries = [Begun(now), *await _versions(driver, now), *await _graves(driver, now)]
        await forget_position(driver)
    await asyncio.to_thread(_begin, place, key, entries, now)


def _is_whole(place: Path | str, key: bytes) -> bool:
    try:
        with closing(open_journal(place, key, begin=False)) as journal:
            journal.verify()
    except (Unavailable, Unreadable):
        return False
    return True


def _begin(place: Path | str, key: bytes, entries: Sequence[Narrowing], now: Micros) -> None:
    if isinstance(place, Path):
        _set_aside(place, now)
    with closing(open_journal(place, key, shut=True)) as journal:  # an outage of its server is an outage, no loss
        if journal.moved or not _is_empty(journal):
            raise ConfigError(
                "the journal's database holds a journal that does not verify, or was moved; keep it, under another name"
                " (ALTER SCHEMA journal RENAME TO journal_broken), and give the command again"
            )
        journal.append_now(entries)


def _is_empty(journal: Journal) -> bool:
    try:
        return not journal.verify().number
    except Unreadable:
        return False


def _set_aside(folder: Path, now: Micros) -> None:
    path = folder / FILE
    if path.exists():
        path.rename(folder / f"{FILE}{ASIDE}-{now}")
        durable.sync_folder(folder)


async def _versions(driver: Raw, now: Micros) -> list[Narrowing]:
    rows = await driver.fetch("SELECT number, digest FROM policy_version ORDER BY number")
    return [PolicyApplied(now, number, digest) for number, digest in rows]


async def _graves(driver: Raw, now: Micros) -> list[Narrowing]:
    """Every erasure with its members, and every tombstone, under no request's name."""
    members: dict[UUID, list[UUID]] = {}
    for row in await driver.fetch("SELECT request_id, subject_id FROM erased ORDER BY request_id, subject_id"):
        members.setdefault(UUID(bytes=row[0].bytes), []).append(UUID(bytes=row[1].bytes))
    stones = [
        Tombstone(*row)
        for row in await driver.fetch("SELECT tag, key_version, until, suppress, objected FROM tombstone ORDER BY tag")
    ]
    nobody = UUID(int=0)
    return [
        *(Erasure(now, request, tuple(subjects)) for request, subjects in members.items()),
        *(Erasure(now, nobody, (), tuple(some)) for some in _parts(stones)),
    ]


async def _tell_choices(vault: Vault) -> int:
    """Tells a new journal every refusal, objection and restriction that stands; answers of how many subjects."""
    after, told = UUID(int=0), 0
    key = vault.keyring.key(names.STATE)
    while True:
        async with vault.database.hot() as driver:
            rows = await driver.fetch(_STATES, after, BATCH)
        if not rows:
            return told
        entries: list[Narrowing] = []
        for row in rows:
            after = UUID(bytes=row[0].bytes)
            try:
                state = unpack(after, row[1], key)
            except Unreadable:
                continue  # nobody reads it
            found = _narrowings(state, vault.clock.now())
            told += bool(found)
            entries += found
        await vault.journal.append(entries)


def _narrowings(state: State, now: Micros) -> list[Narrowing]:
    """Who refused is not in the state: the highest rank is taken."""
    found: list[Narrowing] = []
    if state.refused:
        found.append(Refusal(now, state.subject, state.refused, version=state.version))
    if state.blocked:
        found.append(Refusal(now, state.subject, state.blocked, RefusalKind.BLOCKED, state.version, Authority.CLIENT))
    if state.objected:
        found.append(Objection(now, state.subject, state.objected, state.version))
    if state.restricted:
        found.append(Restriction(now, state.subject, state.version))
    return found


def _parts(stones: list[Tombstone]) -> Iterator[list[Tombstone]]:
    for start in range(0, len(stones), BATCH):
        yield stones[start : start + BATCH]
