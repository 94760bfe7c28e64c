"""An erasure in one go: what the steps do one after the other up to the destruction of keys, in one transaction.

Everything is prepared from what was read: what law keeps, tombstones, the closed states. Journal and case key are on disk
before the transaction begins; it locks the members, and writes nothing if one of them has moved on since, or if a request
about the person is there already. Who holds something of them is read under that lock, since releases are recorded until
it is taken. Where a profile is damaged or busy nothing has happened, and the erasure is taken step by step (`advance`),
fence first. After a crash there is a whole erasure or none.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.audit.entry import SALT_BYTES, Detail, Entry, Tag, salted
from vault.clock import Micros
from vault.disclosures.store import held_everywhere
from vault.errors import Conflict, NotFound, Unreadable
from vault.flows.honour import keep
from vault.flows.honour.case import Made, case_of, identifiers_of
from vault.flows.honour.erase import end_of_day, tombstones_of
from vault.flows.honour.opened import Desk, profile_of
from vault.flows.honour.steps import MEMBERS, OPENED
from vault.flows.people.write import Fixed, Raced, Rows, audit_row, write
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.journal.narrowing import Erasure, Tombstone
from vault.keys import names
from vault.policy.actors import Actor
from vault.rights.casefile import seal_case
from vault.rights.request import State, Step, due
from vault.rights.store import Request, row_of
from vault.state.record import pack
from vault.storage.session import Raw, raw

_GROUP: Final = 0

# A page that is being recorded holds the state rows of its people (`release.record`), a lookup the row of wraps
# (`release.single`): both end first, and no other begins.
_LOCK: Final = """
SELECT s.version FROM subject s JOIN keys.subject_key k USING (subject_id)
WHERE s.subject_id = ANY ($1::uuid[]) ORDER BY s.subject_id FOR UPDATE
"""
# The members are locked: who opens a request about one of them waits, or was seen. Keys go only where none was.
_DESTROY: Final = """
WITH free AS MATERIALIZED (
    SELECT WHERE NOT EXISTS (SELECT FROM request WHERE subject_id = ANY ($1::uuid[]))
), keys AS (
    DELETE FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[]) AND EXISTS (SELECT FROM free)
    RETURNING subject_id
), erased AS (
    INSERT INTO erased (subject_id, at, request_id) SELECT s, $2, $3 FROM unnest($1::uuid[]) AS n(s)
), tombstones AS (
    INSERT INTO tombstone AS t (tag, key_version, until, suppress, objected)
    SELECT tag, key_version, until, suppress, objected
    FROM unnest($4::bytea[], $5::smallint[], $6::bigint[], $7::bool[], $8::bigint[])
        AS n(tag, key_version, until, suppress, objected) ORDER BY tag
    ON CONFLICT (tag) DO UPDATE SET key_version = excluded.key_version, until = greatest(t.until, excluded.until),
        suppress = t.suppress OR excluded.suppress, objected = t.objected | excluded.objected
), request AS (
    INSERT INTO request (request_id, type, state, step, received_at, due_at, opened_by, detail, code)
    VALUES ($3, 'erasure', $9, $10, $2, $11, $12, $13, $18)
), casefile AS (
    INSERT INTO casefile (request_id, sealed, expires_at) VALUES ($3, $14, $15)
), notices AS (
    INSERT INTO recipient_notice (request_id, destination, subject_id, deadline)
    SELECT $3, destination, subject_id, $15 FROM unnest($16::int[], $17::uuid[]) AS n(destination, subject_id)
)
SELECT count(*) FROM keys
"""


class _Lost(Exception):
    """The person moved on, or is under another request. Nothing was written."""


async def erase_at_once(vault: Vault, actor: Actor, opened_by: UUID, subject: UUID) -> UUID | None:
    """The request of an erasure whose keys are destroyed; None if it has to be taken step by step.

    Raises `Unavailable` if journal, key store or database cannot be written: then nothing is destroyed.
    """
    now = vault.clock.now()
    request_id = uuid7(now)
    async with vault.database.hot() as connection:
        try:
            members = await profile_of(vault, connection, subject)
        except (NotFound, Unreadable):
            return None
        if any(member.state.fenced for member in members):
            return None
        desk = Desk(vault, members, vault.gate.rights(actor.label, request_id))
    turn = vault.keyring.turn
    found = await keep.gather(vault, desk)
    known = identifiers_of(vault.catalogue, desk)
    tombstones = tombstones_of(vault, desk, known, now)
    erasure = Erasure(now, request_id, tuple(desk.subjects), tombstones)
    rows = keep.sealed(vault, found) if found else Rows.none()
    _fence(vault, desk, rows)
    rows.turn.append((Fixed(_GROUP), turn))
    rows.changes.extend((Fixed(_GROUP), one) for one in desk.subjects)
    _enter(rows, vault, actor, request_id, desk, found, len(tombstones), now)
    detail = {
        OPENED: str(rows.audit[0][1]),
        MEMBERS: [str(one) for one in desk.subjects],
        **keep.told(found),
        "destroyed_at": now,
        "stores": {"keys": len(members)},  # the worker counts the others before it deletes them
        "tombstones": len(tombstones),
        "late_until": end_of_day(now),
    }
    request = Request(request_id, "erasure", State.IN_PROGRESS, Step.ROWS, None, now, due(now), None, opened_by, detail)
    try:
        async with _case_key(vault, names.case(request_id), erasure) as key, vault.database.begin() as transaction:
            driver = await raw(transaction)
            await _take(driver, desk)
            held = await held_everywhere(driver, desk.subjects, vault.keyring.key(names.STATE))
            made = case_of(vault, request_id, desk, known, held, now)
            await _close(driver, rows)
            request = msgspec.structs.replace(request, detail={**made.detail, **detail})
            row = row_of(request, vault.keyring.key(names.REQUEST))
            await _destroy(driver, row, desk.subjects, tombstones, made, seal_case(key.value, made.case))
            key.needed = True
    except (
        _Lost,
        Raced,
        Conflict,
    ):  # `Conflict`: the server undid it, for a lock that took too long or a ring of locks
        return None
    vault.warm.forget(desk.subjects)
    return request_id


class _CaseKey(msgspec.Struct):
    """The key of a case that is not there yet. Shows nothing of itself."""

    value: bytes
    needed: bool = False  # the commit was asked for: whatever is heard of it, it may have happened

    def __repr__(self) -> str:
        return "_CaseKey()"


@asynccontextmanager
async def _case_key(vault: Vault, name: str, erasure: Erasure) -> AsyncIterator[_CaseKey]:
    """A new key for one case, then the journal's entry, both on disk. The key goes again where the case never came to be.

    The entry comes last: whoever starts next carries out what the journal says, so nothing that may fail stands behind it
    but the database. Without its key service the vault has said no, and nothing of the person may go later.
    """

    def make() -> bytes:  # in a thread, since it waits for the disk
        vault.keyring.make(name)
        return vault.keyring.key(name)

    key = _CaseKey(await asyncio.to_thread(make))
    try:
        await vault.journal.append([erasure])
        yield key
    except BaseException as error:
        if not key.needed or isinstance(error, Conflict):
            await asyncio.to_thread(vault.keyring.destroy, name)
        raise


def _fence(vault: Vault, desk: Desk, rows: Rows) -> None:
    """The state rows of the members, fenced; resting on those that were read."""
    key = vault.keyring.key(names.STATE)
    for member in desk.members:
        state = msgspec.structs.replace(member.state, fenced=True, version=member.state.version + 1)
        owner = Fixed(_GROUP, state.subject.hex)
        rows.want.append((owner, member.state.version))
        rows.updated.append((owner, state.root, state.version, pack(state, key)))


def _enter(
    rows: Rows,
    vault: Vault,
    actor: Actor,
    request_id: UUID,
    desk: Desk,
    found: Sequence[keep.Found],
    tombstones: int,
    now: Micros,
) -> None:
    """The same leaves as of the steps, since the same happened."""
    request = str(request_id)
    said: list[tuple[Tag, Detail, UUID | None]] = [
        (Tag.RIGHTS_REQUEST_OPENED, {"request": request, "type": "erasure"}, desk.root),
        (Tag.RIGHTS_PROFILE_FENCED, {"request": request, "subjects": len(desk.subjects)}, desk.root),
        (Tag.RIGHTS_VALUES_KEPT, keep.audited(request_id, found), None),
        (
            Tag.RIGHTS_KEYS_DESTROYED,
            {"request": request, "subjects": len(desk.subjects), "tombstones": tombstones},
            None,
        ),
    ]
    for tag, detail, subject in said:
        salt = random_bytes(SALT_BYTES)
        entry = Entry(
            entry_id=uuid7(now),
            at=now,
            tag=tag,
            actor=actor.label,
            policy=vault.policy.number,
            subject=None if subject is None else salted(salt, subject.bytes),
            detail=detail,
        )
        rows.audit.append(audit_row(Fixed(_GROUP), entry, vault.keyring.key(names.JOURNAL)))
        if subject is not None:
            rows.salts.append((Fixed(_GROUP, subject.hex), entry.entry_id, salt))


async def _take(driver: Raw, desk: Desk) -> None:
    """Holds the members as they were read, and keeps off every release of them."""
    versions = [row[0] for row in await driver.fetch(_LOCK, desk.subjects)]
    ordered = sorted(desk.members, key=lambda one: one.state.subject.int)
    if versions != [one.state.version for one in ordered]:
        raise _Lost


async def _close(driver: Raw, rows: Rows) -> None:
    if await write(driver, rows):
        raise _Lost


async def _destroy(
    driver: Raw,
    row: Mapping[str, Any],
    subjects: Sequence[UUID],
    tombstones: Sequence[Tombstone],
    made: Made,
    sealed: bytes,
) -> None:
    arguments: list[Any] = [
        list(subjects),
        row["received_at"],
        row["request_id"],
        [one.tag for one in tombstones],
        [one.key_version for one in tombstones],
        [one.until for one in tombstones],
        [one.suppress for one in tombstones],
        [one.objected for one in tombstones],
        row["state"],
        row["step"],
        row["due_at"],
        row["opened_by"],
        row["detail"],
        sealed,
        made.deadline,
        [one.destination for one in made.notices],
        [one.subject_id for one in made.notices],
        row["code"],
    ]
    if await driver.fetchval(_DESTROY, *arguments) != len(subjects):
        raise _Lost
