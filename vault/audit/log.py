"""The log: takes up committed entries, grows the tree, signs its head, and keeps the head outside the database too.

One process at a time, by lease. The order of entries is that in which they are taken up, whatever the clocks said (threat
F9). The head beside the journal is compared before every step: on a database that was put back, nothing is signed.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from vault.audit import store
from vault.audit.checkpoint import USE, Checkpoint, origin_of, read, sign
from vault.audit.entry import Entry, Tag
from vault.clock import Clock
from vault.errors import Conflict, NotFound, Unreadable
from vault.ids import uuid7
from vault.journal import witness
from vault.journal.head import AuditHead, read_head, write_head
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.merkle import (
    EMPTY_ROOT,
    Getter,
    Place,
    consistency_nodes,
    consistency_proof,
    frontier,
    grow,
    inclusion_nodes,
    inclusion_proof,
    leaf_hash,
    root,
)
from vault.storage.lease import AUDIT, LIFE, Lease, LeaseLost, hold
from vault.storage.session import Connection, Database, Raw, raw

BATCH: Final = 2000  # leaves a step
NAMED: Final = 50  # forged entries that one leaf names: 64 digits each, under the size of a leaf


class Inclusion(msgspec.Struct, frozen=True):
    """Proof that an entry is in the log under a signed head."""

    index: int
    leaf: bytes
    proof: tuple[bytes, ...]
    checkpoint: str  # signed note


async def integrate(database: Database, keyring: Keyring, journal: Path, clock: Clock, batch: int = BATCH) -> int:
    """Takes up at most `batch` committed entries; answers how many. 0 too while another process does it.

    Raises `Conflict` (code `audit_behind_head`) on a database that is older than its head, `LeaseLost` if another process
    took over meanwhile; nothing was written then.
    """
    async with database.hot() as driver:
        if not await store.anything_waits(driver):
            return 0
        lease = await hold(driver, AUDIT, database.holder, clock.now())
        if lease is None:
            return 0
        key = keyring.key(names.JOURNAL)
        entries, forged = await store.waiting(driver, batch, key)
        if forged:
            await _refuse(database, forged, key, clock)
        if not entries:
            return len(forged)
        size = lease.position
        stored = await _getter(driver, frontier(size))
        known = await asyncio.to_thread(read_head, journal, key)
        await _check_unbroken(driver, keyring, known or AuditHead(0, EMPTY_ROOT), AuditHead(size, root(size, stored)))
        made = grow(size, [leaf_hash(leaf) for _, leaf in entries], stored)
        fresh = {(node.level, node.position): node.hash for node in made}
        grown = size + len(entries)

        def get(level: int, position: int) -> bytes:
            return fresh.get((level, position)) or stored(level, position)

        head = AuditHead(grown, root(grown, get))
        note = sign(Checkpoint(origin_of(await store.log_id(driver)), *head), keyring.signer(USE))
        step = store.Extension(size, entries, made, clock.now(), note)
        await _write(driver, lease, step, clock)
    await asyncio.to_thread(write_head, journal, key, head)
    return len(entries)


async def _refuse(database: Database, forged: Sequence[tuple[UUID, bytes]], key: bytes, clock: Clock) -> None:
    """Takes entries away that no process of this vault wrote, and says so: how many, and a digest of each of the first."""
    now = clock.now()
    digests = [hashlib.sha256(leaf).hexdigest() for _, leaf in forged[:NAMED]]
    entry = Entry(
        entry_id=uuid7(now),
        at=now,
        tag=Tag.INTEGRITY_CHECK_FAILED,
        actor="vault",
        policy=0,
        detail={"check": "audit_entry", "entries": len(forged), "digests": [*digests]},
    )
    async with database.begin() as connection:
        await store.drop_forged(await raw(connection), [entry_id for entry_id, _ in forged])
        await store.append(connection, entry, key)


async def proof(connection: Connection, entry_id: UUID) -> Inclusion:
    """Proof of inclusion under the newest head. Raises `NotFound` until the log has taken the entry up."""
    row = await store.find(connection, entry_id)
    head = await store.latest_checkpoint(connection)
    if row is None or head is None:
        raise NotFound
    size, note = head
    get = await _getter(connection, inclusion_nodes(row.number, size))
    return Inclusion(row.number, row.leaf, tuple(inclusion_proof(row.number, size, get)), note)


async def consistency(connection: Connection, first: int, second: int) -> tuple[bytes, ...]:
    """Proof that the log of `first` leaves begins that of `second`. Raises `NotFound` for sizes that the log never had."""
    head = await store.latest_checkpoint(connection)
    if head is None or not 0 <= first <= second <= head[0]:
        raise NotFound
    return tuple(consistency_proof(first, second, await _getter(connection, consistency_nodes(first, second))))


class Loss(NamedTuple):
    """A database that is not the one of its head: how many entries it has, and how many the head beside the journal names."""

    here: int
    head: int


async def loss(connection: Connection, keyring: Keyring, journal: Path) -> Loss | None:
    """What this database lacks of the log that its head names; None if it lacks nothing."""
    known = await asyncio.to_thread(read_head, journal, keyring.key(names.JOURNAL))
    if known is None:
        return None
    head = await store.latest_checkpoint(connection)
    size = 0 if head is None else head[0]
    if known.size > size or root(known.size, await _getter(connection, frontier(known.size))) != known.root:
        return Loss(size, known.size)
    return None


async def check_head(connection: Connection, keyring: Keyring, journal: Path, accepted: Loss | None = None) -> None:
    """At start: raises `Conflict` (code `audit_behind_head`) if this database is older than its head, or another one.

    `accepted`: an officer named both sizes; what differs from them, or is no loss, is a `Conflict` (`loss_differs`).
    """
    found = await loss(connection, keyring, journal)
    if accepted is not None and found != accepted:
        raise Conflict(_differs(found), code="loss_differs")
    if found is not None and accepted is None:
        raise _behind(found)


async def accept_loss(connection: Connection, keyring: Keyring, journal: Path) -> AuditHead:
    """Puts the head back to what this database holds; answers the head that was given up. An officer's act.

    The caller audits it and begins a new incarnation, before. Raises `NotFound` if nothing was lost.
    """
    key = keyring.key(names.JOURNAL)
    lost = await asyncio.to_thread(read_head, journal, key)
    if lost is None:
        raise NotFound
    head = await store.latest_checkpoint(connection)
    size = 0 if head is None else head[0]
    left = AuditHead(size, root(size, await _getter(connection, frontier(size))))
    if left == lost:
        raise NotFound
    await asyncio.to_thread(write_head, journal, key, left, accept_loss=True)
    await asyncio.to_thread(witness.forget, journal)  # else the state audit would accuse everybody who was put back
    return lost


async def _write(driver: Raw, lease: Lease, step: store.Extension, clock: Clock) -> None:
    if not await store.extend(driver, lease.name, lease.fencing, step, clock.now() + LIFE):
        raise LeaseLost


async def _getter(connection: Connection, places: list[Place]) -> Getter:
    """A getter over stored nodes, fetched now. Raises `Unreadable` when asked for one that is missing."""
    found = await store.nodes(connection, places)

    def get(level: int, position: int) -> bytes:
        try:
            return found[level, position]
        except KeyError:
            raise Unreadable from None

    return get


async def _check_unbroken(driver: Raw, keyring: Keyring, known: AuditHead, current: AuditHead) -> None:
    """Raises `Conflict` unless the log still begins with the head kept outside, and this vault signed what came after it.

    After it: a crash between a commit and the keeping of its head. The nodes alone prove nothing, since who writes to the
    database can recompute them over an edited leaf.
    """
    if known.size > current.size or root(known.size, await _getter(driver, frontier(known.size))) != known.root:
        raise _behind()
    if current.size == known.size:
        return
    latest = await store.latest_checkpoint(driver)
    if latest is None or latest[0] != current.size:
        raise _behind()
    publics = [bytes.fromhex(one["public"]) for one in keyring.public_keys((USE,))]
    signed = read(latest[1], publics, origin_of(await store.log_id(driver)))
    if (signed.size, signed.root) != (current.size, current.root):
        raise _behind()


def _behind(found: Loss | None = None) -> Conflict:
    if found is None:
        return Conflict(
            "the database is older than the audit head beside the journal, or another one; start anew to see by how much",
            code="audit_behind_head",
        )
    return Conflict(
        f"the database has {found.here} audit entries, and the head beside the journal names {found.head}: it is an older"
        " copy, or another one. Find the newer database. Only if it is lost for good:"
        f" profile-vault audit accept-loss --here {found.here} --head {found.head}",
        code="audit_behind_head",
    )


def _differs(found: Loss | None) -> str:
    if found is None:
        return "The database holds everything that its head names: nothing is lost, nothing is to be accepted."
    return f"The sizes are others: the database has {found.here} entries, the head names {found.head}."
