"""Puts back tombstones that somebody took out of the database, or lowered: the journal holds every one of them.

Promises: at the start of whoever writes people, and every hour, the rows say at least what the journal says (threats D1,
D15); what was put back is audited, unless it is of an erasure that is just about to commit: the journal speaks first, and
somebody else looks in between. A row that says more is left alone: it only keeps more out. Between two looks a deleted row
is missing.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.errors import Unavailable, Unreadable
from vault.flows.tags import newest_tombstone_tag
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure, Narrowing, Tombstone
from vault.keys import names
from vault.state.record import unpack
from vault.storage.session import Raw, raw

BATCH: Final = 1000  # tombstones, or erased people, a statement

WRITE: Final = """
INSERT INTO tombstone AS t (tag, key_version, until, suppress, objected)
SELECT tag, key_version, until, suppress, objected
FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::bool[], $5::bigint[])
    AS n(tag, key_version, until, suppress, objected) ORDER BY tag
ON CONFLICT (tag) DO UPDATE SET key_version = excluded.key_version, until = greatest(t.until, excluded.until),
    suppress = t.suppress OR excluded.suppress, objected = t.objected | excluded.objected
"""
_THERE: Final = "SELECT tag, until, suppress, objected FROM tombstone WHERE tag = ANY ($1::bytea[])"
_KEYED: Final = "SELECT subject_id FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
_ALIVE: Final = "SELECT subject_id, state FROM subject WHERE subject_id = ANY ($1::uuid[])"


async def restore_graves(vault: Vault) -> int:
    """Answers how many were put back. Raises `Unreadable` for a journal that does not verify."""
    erasures = await asyncio.to_thread(_erasures, (entry.narrowing for entry in vault.journal.read()))
    put_back = 0
    for start in range(0, len(erasures), BATCH):
        some = erasures[start : start + BATCH]
        async with vault.database.begin() as connection:
            driver = await raw(connection)
            alive = await _alive(vault, driver, some)
            gone = [one for one in some if alive.isdisjoint(one.members)]
            # Of an erasure that is not committed yet the keys are still there: its tombstones come early, and that is all.
            # Asked before the tombstones are, since both change in one commit.
            keyed = {row[0] for row in await driver.fetch(_KEYED, [member for one in gone for member in one.members])}
            lost = await missing(driver, joined(stone for one in gone for stone in current(vault, one.tombstones)))
            if not lost:
                continue
            await write_graves(driver, lost)
            put_back += len(lost)
            over = {
                stone.tag for one in gone if keyed.isdisjoint(one.members) for stone in current(vault, one.tombstones)
            }
            missed = sum(one.tag in over for one in lost)
            if missed:
                detail: Detail = {"check": "tombstones", "entries": missed}
                await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, "vault", detail)
    return put_back


async def write_graves(driver: Raw, tombstones: Iterable[Tombstone]) -> None:
    """Writes tombstones; one that is there already says at least as much as before."""
    rows = list(tombstones)
    await driver.execute(
        WRITE,
        [one.tag for one in rows],
        [one.key_version for one in rows],
        [one.until for one in rows],
        [one.suppress for one in rows],
        [one.objected for one in rows],
    )


def _erasures(narrowings: Iterable[Narrowing]) -> list[Erasure]:
    return [one for one in narrowings if isinstance(one, Erasure)]


async def _alive(vault: Vault, driver: Raw, erasures: Iterable[Erasure]) -> set[UUID]:
    """Members whose erasure never came to its commit: their state row is there, holds, and is not fenced."""
    members = [member for one in erasures for member in one.members]
    key = vault.keyring.key(names.STATE)
    alive = set()
    for subject, row in await driver.fetch(_ALIVE, members):
        try:
            state = unpack(subject, row, key)
        except Unreadable:
            continue
        if not state.fenced:
            alive.add(subject)
    return alive


def current(vault: Vault, stones: Iterable[Tombstone]) -> list[Tombstone]:
    """As they stand in the database: rotations of the key have made older tags anew (ADR 0108).

    A process without that key leaves out those that it cannot tell: those who write people look after tombstones.
    """
    try:
        newest = vault.keyring.newest_version(names.TOMBSTONE)
    except Unavailable:
        newest = max(vault.keystore.versions(names.TOMBSTONE), default=0)
        return [one for one in stones if one.key_version >= newest]
    return [one if one.key_version >= newest else _anew(vault, one, newest) for one in stones]


def _anew(vault: Vault, stone: Tombstone, newest: int) -> Tombstone:
    tag = newest_tombstone_tag(vault.keyring, stone.tag, stone.key_version)
    return msgspec.structs.replace(stone, tag=tag, key_version=newest)


def joined(tombstones: Iterable[Tombstone]) -> dict[bytes, Tombstone]:
    """One a tag, that says what all of them say."""
    joined: dict[bytes, Tombstone] = {}
    for one in tombstones:
        before = joined.get(one.tag)
        joined[one.tag] = one if before is None else _both(before, one)
    return joined


def _both(before: Tombstone, after: Tombstone) -> Tombstone:
    return Tombstone(
        after.tag,
        max(before.key_version, after.key_version),
        max(before.until, after.until),
        before.suppress or after.suppress,
        before.objected | after.objected,
    )


async def missing(driver: Raw, wanted: Mapping[bytes, Tombstone]) -> list[Tombstone]:
    """Those whose row is missing or says less, in order of their tags."""
    rows = {row[0]: row for row in await driver.fetch(_THERE, list(wanted))}
    lost = []
    for tag, one in sorted(wanted.items()):
        row = rows.get(tag)
        if row is None or row[1] < one.until or row[2] < one.suppress or row[3] & one.objected != one.objected:
            lost.append(one)
    return lost
