"""Steps 4 and 5 of an erasure: the keys of every member are destroyed, then everything else that was stored.

Before the keys go, the journal outside the database holds all member ids and tombstones, so that no restore brings the
person back. Keys, tombstones, the record of the erased subjects and the marks for the feed change in one transaction:
from its commit nothing opens. Rows follow in small batches; each may be taken again after a crash.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.changes.store import mark
from vault.clock import DAY, Micros, day_of
from vault.errors import Conflict
from vault.flows.graves import current, write_graves
from vault.flows.honour.case import Known, desk_of, identifiers_of, normal_forms
from vault.flows.honour.opened import Desk
from vault.flows.honour.steps import MEMBERS, destroy_key, members_of, officer_of, passing_key, take
from vault.flows.tags import tombstone_tag
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure, Tombstone
from vault.keys import names
from vault.rights import store
from vault.rights.casefile import open_case, seal_case
from vault.rights.request import Step
from vault.rights.store import Request, Transaction
from vault.storage.session import Raw, raw

BATCH: Final = 1000  # rows a statement; 10,000 events at once were measured to hold up the log (performance 8.6)
EVENT_KEYS: Final = 4096  # in a case file; 64 KB of them. Events themselves are found by their subject, however many

STORES: Final[dict[str, str]] = {
    "keys": "SELECT count(*) FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])",
    "values": "SELECT count(*) FROM compartment WHERE subject_id = ANY ($1::uuid[])",
    "events": "SELECT count(*) FROM event WHERE subject_id = ANY ($1::uuid[])",
    "consents": "SELECT count(*) FROM ledger WHERE subject_id = ANY ($1::uuid[])",
    "identifiers": "SELECT count(*) FROM identifier WHERE subject_id = ANY ($1::uuid[])",
    "links": "SELECT count(*) FROM link WHERE subject_id = ANY ($1::uuid[]) OR root = ANY ($1::uuid[])",
    "memberships": "SELECT count(*) FROM membership WHERE subject_id = ANY ($1::uuid[])",
    "disclosures": "SELECT count(*) FROM disclosure WHERE subject_id = ANY ($1::uuid[])",
    "audit salts": "SELECT count(*) FROM audit_salt WHERE subject_id = ANY ($1::uuid[])",
    "states": "SELECT count(*) FROM subject WHERE subject_id = ANY ($1::uuid[])",
}
"""What is looked at, by the name that the certificate gives it."""


# --- the keys -------------------------------------------------------------------------------------------------------

_LOCK: Final = "SELECT subject_id FROM subject WHERE subject_id = ANY ($1::uuid[]) ORDER BY subject_id FOR UPDATE"
_KEYS: Final = "DELETE FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
_TURNED: Final = "SELECT max(turn) > $1 FROM keys.epoch"
_ERASED: Final = """
INSERT INTO erased (subject_id, at, request_id) SELECT s, $2, $3 FROM unnest($1::uuid[]) AS n(s) ON CONFLICT DO NOTHING
"""


async def destroy(vault: Vault, request: Request) -> None:
    """Destroys the keys of every member. From here nothing of the person opens."""
    desk = await desk_of(vault, request)
    now = vault.clock.now()
    tombstones = tombstones_of(vault, desk, identifiers_of(vault.catalogue, desk), now)
    await vault.journal.append([Erasure(now, request.request_id, tuple(desk.subjects), tombstones)])
    async with take(vault, request) as taking:
        held = await _hold(await raw(taking.connection), desk.subjects)
        if held != len(desk.subjects):
            raise Conflict(code="retry")
        await destroy_keys(vault, taking.connection, request.request_id, desk.subjects, tombstones, now)
        await leave(
            vault,
            taking.connection,
            Tag.RIGHTS_KEYS_DESTROYED,
            officer_of(request),
            {"request": str(request.request_id), "subjects": len(desk.subjects), "tombstones": len(tombstones)},
        )
        taking.forgotten()
        await taking.move(
            Step.ROWS,
            detail={
                MEMBERS: [str(one) for one in desk.subjects],
                "destroyed_at": now,
                "stores": {"keys": held},
                "tombstones": len(tombstones),
                "late_until": end_of_day(now),
            },
        )
    vault.warm.forget(desk.subjects)


async def _hold(driver: Raw, subjects: Sequence[UUID]) -> int:
    """Locks the members' rows; answers how many there are."""
    return len(await driver.fetch(_LOCK, list(subjects)))


async def destroy_keys(
    vault: Vault,
    connection: Transaction,
    request_id: UUID,
    subjects: Sequence[UUID],
    tombstones: Sequence[Tombstone],
    now: Micros,
) -> None:
    """In the caller's transaction: keys, tombstones, the record of who is erased, the marks, and their requests."""
    driver = await raw(connection)
    await driver.execute(_KEYS, list(subjects))
    if await driver.fetchval(_TURNED, vault.keyring.turn):  # a key was rotated, and this process has not heard of it
        raise Conflict(code="retry")
    await write_graves(driver, current(vault, tombstones))
    await driver.execute(_ERASED, list(subjects), now, request_id)
    await mark(driver, subjects)
    await _forget(vault, connection, subjects)


async def destroy_unread(vault: Vault, request: Request, subjects: Sequence[UUID], stones: Sequence[Tombstone]) -> None:
    """As `destroy` and `delete_rows`, of people whose rows do not agree or are not all there: nothing of them is read."""
    async with vault.database.begin() as connection:
        await _hold(await raw(connection), subjects)
        await destroy_keys(vault, connection, request.request_id, subjects, stones, vault.clock.now())
        detail: Detail = {
            "request": str(request.request_id),
            "subjects": len(subjects),
            "tombstones": len(stones),
        }
        await leave(vault, connection, Tag.RIGHTS_KEYS_DESTROYED, officer_of(request), detail)
    vault.warm.forget(subjects)
    await sweep(vault, request, subjects)


def end_of_day(at: Micros) -> Micros:
    """The first moment of the next day, UTC: no tombstone tells the hour of an erasure (threats D4)."""
    return Micros((day_of(at) + 1) * DAY)


def tombstones_of(vault: Vault, desk: Desk, known: Known, now: Micros) -> tuple[Tombstone, ...]:
    """One a known identifier, in order of its tag. Objections to direct marketing outlive the erasure (threats D15)."""
    marketing = sum(p.mask for p in vault.catalogue.purposes.values() if "direct_marketing" in p.kinds)
    objected = 0
    for member in desk.members:
        objected |= member.state.objected & marketing
    version = vault.keyring.newest_version(names.TOMBSTONE)
    until = end_of_day(now)
    forms = normal_forms(vault.catalogue, known)
    tags = sorted(tombstone_tag(vault.keyring, kind, normal) for kind, normal in forms)
    return tuple(Tombstone(tag, version, until, suppress=False, objected=objected) for tag in tags)


async def count(driver: Raw, subjects: Sequence[UUID]) -> dict[str, int]:
    """How many rows each store holds of these subjects."""
    return {name: int(await driver.fetchval(query, list(subjects))) for name, query in STORES.items()}


async def _forget(vault: Vault, connection: Transaction, subjects: Sequence[UUID]) -> None:
    """Takes the person out of their requests, and destroys the archives made for them, keys first.

    Writing the requests waits for whoever is making an archive just now; what they made is found then.
    """
    about = await store.requests_about(connection, subjects)
    await store.forget_subject(connection, subjects, vault.keyring.key(names.REQUEST))
    for request_id in about:
        await destroy_key(vault, names.archive(request_id))
    await store.drop_archives(connection, about)


# --- the rows -------------------------------------------------------------------------------------------------------

_EVENT_KEYS: Final = "SELECT DISTINCT event_key FROM event WHERE subject_id = ANY ($1::uuid[]) LIMIT $2"
_EVENTS: Final = """
DELETE FROM event WHERE (subject_id, event_key, purposes) IN (
    SELECT subject_id, event_key, purposes FROM event WHERE subject_id = ANY ($1::uuid[]) LIMIT $2)
"""
_IDENTITY: Final = """
DELETE FROM identity WHERE subject_id = ANY ($1::uuid[])
    AND tag IN (SELECT tag FROM identifier WHERE subject_id = ANY ($1::uuid[]) UNION ALL SELECT unnest($2::bytea[]))
"""
_LOOKUP: Final = "SELECT count(*) FROM identity WHERE subject_id = ANY ($1::uuid[]) AND tag = ANY ($2::bytea[])"
_ROWS: Final = (
    "DELETE FROM compartment WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM ledger WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM identifier WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM link WHERE subject_id = ANY ($1::uuid[]) OR root = ANY ($1::uuid[])",
    "DELETE FROM membership WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM integrity_finding WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM due WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM subject WHERE subject_id = ANY ($1::uuid[])",
)
# What the log speaks of: it says how many went, so that a row which somebody else takes out is missed (flows.sweep.tally).
_SALTS: Final = "DELETE FROM audit_salt WHERE subject_id = ANY ($1::uuid[])"
_DISCLOSED: Final = "DELETE FROM disclosure WHERE subject_id = ANY ($1::uuid[])"
# What a recipient has to be told stays as a bare row: it is what the feed derives its `remove` line from. One of a recipient
# that was told and has answered before the rows went is bare, too: it stays until the certificate has taken the answer up.
_BARE: Final = """
UPDATE disclosure_state SET fields = ''::bytea, gone = ''::bytea, gone_number = NULL
WHERE subject_id = ANY ($1::uuid[]) AND (octet_length(fields) > 0 OR octet_length(gone) > 0 OR gone_number IS NOT NULL)
"""
# What the certificate has not taken up stays: the row is the only record of when the recipient answered.
_SETTLED: Final = """
DELETE FROM disclosure_state s
WHERE subject_id = ANY ($1::uuid[]) AND removed_number IS NOT NULL AND acknowledged_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM recipient_notice n WHERE n.subject_id = s.subject_id
        AND n.destination = s.destination AND n.acknowledged_at IS NULL)
"""
# A page that was decided before the fence may have been recorded after the case file was written: it owes an answer too.
_LATE: Final = """
INSERT INTO recipient_notice (request_id, destination, subject_id, deadline)
SELECT $2, destination, subject_id, $3 FROM disclosure_state
WHERE subject_id = ANY ($1::uuid[]) AND (removed_number IS NULL OR acknowledged_at IS NULL)
ON CONFLICT DO NOTHING
"""


async def delete_rows(vault: Vault, request: Request) -> None:
    """Deletes everything that is keyed by an erased member, except what a recipient must still be told."""
    members = await _counted(vault, request)
    await sweep(vault, request, members)
    async with take(vault, request) as taking:
        await leave(
            vault,
            taking.connection,
            Tag.RIGHTS_ROWS_DELETED,
            officer_of(request),
            {"request": str(request.request_id), "events": int(taking.request.detail["stores"]["events"])},
        )
        await taking.move(Step.CERTIFY)


async def _counted(vault: Vault, request: Request) -> list[UUID]:
    """The members; how much was stored of them is on the request before the first row goes.

    Nobody waits for this count: ten thousand events take longer than the destruction of their keys. Nobody writes to
    an erased person, so it is the count of that moment.
    """
    async with take(vault, request) as taking:
        members = await erased_by(taking.connection, taking.request)
        known = taking.request.detail["stores"]
        if "events" not in known:
            counts = await count(await raw(taking.connection), members)
            counts |= await count_lookup(vault, taking.connection, taking.request, members)
            await _name_events(vault, taking.connection, request.request_id, members)
            await taking.move(Step.ROWS, detail={"stores": counts | known})
    return members


async def _name_events(vault: Vault, connection: Transaction, request_id: UUID, members: Sequence[UUID]) -> None:
    """Puts event keys into the case file, for the residue scan: as many as fit, before the first event goes."""
    sealed = await store.get_case(connection, request_id)
    if sealed is None:
        return
    rows = await (await raw(connection)).fetch(_EVENT_KEYS, list(members), EVENT_KEYS)
    key = await passing_key(vault, names.case(request_id))
    case = msgspec.structs.replace(open_case(key, request_id, sealed), event_keys=tuple(row[0] for row in rows))
    await store.reseal_case(connection, request_id, seal_case(key, case))


async def erased_by(connection: Transaction, request: Request) -> list[UUID]:
    """The subjects that a request has erased."""
    named = members_of(request)
    return await store.members_of(connection, request.request_id) if named is None else named


async def sweep(vault: Vault, request: Request, members: Sequence[UUID]) -> None:
    """One pass over every store; harmless however often it is made."""
    subjects = list(members)
    async with vault.database.hot() as connection:
        while await connection.execute(_EVENTS, subjects, BATCH) != "DELETE 0":
            pass
    async with vault.database.begin() as transaction:
        driver = await raw(transaction)
        await driver.execute(_IDENTITY, subjects, await tags_of(vault, transaction, request))
        for statement in _ROWS:
            await driver.execute(statement, subjects)
        salts, disclosed = [_gone(await driver.execute(one, subjects)) for one in (_SALTS, _DISCLOSED)]
        if salts or disclosed:
            detail: Detail = {"request": str(request.request_id), "salts": salts, "disclosures": disclosed}
            await leave(vault, transaction, Tag.AUDIT_SALTS_FORGOTTEN, "vault", detail)
        await driver.execute(_SETTLED, subjects)
        await driver.execute(_BARE, subjects)
        await driver.execute(_LATE, subjects, request.request_id, await _deadline(transaction, request))


def _gone(status: str) -> int:
    return int(status.rpartition(" ")[2])


async def tags_of(vault: Vault, connection: Transaction, request: Request) -> list[bytes]:
    """The tags that found the person, from the case file; none once nobody is waited for, and they are long gone."""
    sealed = await store.get_case(connection, request.request_id)
    if sealed is None:
        return []
    key = await passing_key(vault, names.case(request.request_id))
    return list(open_case(key, request.request_id, sealed).tags)


async def count_lookup(
    vault: Vault, connection: Transaction, request: Request, members: Sequence[UUID]
) -> dict[str, int]:
    """How many tags still find the person: a store as the others, counted by tag, since no index leads there by subject."""
    tags = await tags_of(vault, connection, request)
    return {"lookup tags": int(await (await raw(connection)).fetchval(_LOOKUP, list(members), tags))}


async def _deadline(connection: Transaction, request: Request) -> Micros:
    """Until when recipients of this erasure may answer: the same for all of them."""
    ends = await store.case_ends(connection, request.request_id)
    return ends if ends is not None else request.due_at
