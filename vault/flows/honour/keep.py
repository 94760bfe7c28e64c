"""Step 3 of an erasure: what law keeps, and nothing else, sealed anew under a fresh subject that no identifier finds.

For each purpose with `on_erasure = "keep"`: of each event its time and the properties that the catalogue collects for that
purpose, as far as they were stored for it, with that purpose's wrap and the rights wrap only. Traits, identifiers, message
ids and their tags stay behind, so nothing leads from the person to it (threats D16). At the end of its retention each
record is erased like everything else.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.catalogue.load import Catalogue
from vault.catalogue.purposes import Purpose
from vault.clock import Micros
from vault.errors import Conflict, Unreadable
from vault.flows.honour.case import desk_of
from vault.flows.honour.opened import Desk, Part
from vault.flows.honour.steps import officer_of, take
from vault.flows.people.write import Fixed, Rows, write
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.ids import new_subject, random_bytes
from vault.keys import names
from vault.keys.compartments import Opener, Wrapped, holdings_of, pack_wraps
from vault.profile.sealing import seal_event
from vault.profile.values import EVENT_KEY_BYTES
from vault.rights.certificate import Kept
from vault.rights.request import Step
from vault.rights.store import Request
from vault.state.record import fresh, holdings, pack
from vault.storage.session import raw

KEPT_ENDS: Final = 3  # due: the retention of something kept at an erasure is over
_GROUP: Final = 0
_FIRST: Final = 1  # generation and version of what is made here


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a sealed event holds, as far as keeping it goes."""

    type: str
    name: str | None = None
    properties: dict[str, msgspec.Raw] = {}

    def __repr__(self) -> str:
        return f"Message({self.type})"


_decoder: Final = msgspec.json.Decoder(Message)


class Record(msgspec.Struct, frozen=True):
    """One event with the kept properties of all its parts: an amount without its order number would serve no accounts."""

    at: Micros
    received_at: Micros
    kind: int
    message: Message

    def __repr__(self) -> str:
        return f"Record({self.kind})"


class Found(msgspec.Struct):
    """What one purpose keeps of a profile."""

    purpose: Purpose
    records: dict[tuple[UUID, bytes], Record] = msgspec.field(default_factory=dict)  # by subject and event key
    fields: set[str] = msgspec.field(default_factory=set)

    def __repr__(self) -> str:
        return f"Found({self.purpose.name}, {len(self.records)} records)"

    @property
    def ends(self) -> list[Micros | None]:
        """The end of the retention of each record."""
        return [self.purpose.kept_until(record.at) for record in self.records.values()]


async def keep(vault: Vault, request: Request) -> None:
    """Seals anew what law keeps, and says on the request what that is."""
    desk = await desk_of(vault, request)
    found = await gather(vault, desk)
    async with take(vault, request) as taking:
        if found:
            lost = await write(await raw(taking.connection), sealed(vault, found))
            if lost:  # a rotation opened an epoch just now; nothing of this step was written
                raise Conflict(code="retry")
        await leave(
            vault,
            taking.connection,
            Tag.RIGHTS_VALUES_KEPT,
            officer_of(request),
            audited(request.request_id, found),
        )
        await taking.move(Step.DESTROY, detail=told(found))


def audited(request_id: UUID, found: Sequence[Found]) -> Detail:
    """What the audit log says of it."""
    return {
        "request": str(request_id),
        "purposes": [one.purpose.name for one in found],
        "records": [len(one.records) for one in found],
    }


def told(found: Sequence[Found]) -> dict[str, Any]:
    """What the request, and later the certificate, say of it."""
    return {"kept": [msgspec.to_builtins(_summary(one)) for one in found]}


async def gather(vault: Vault, desk: Desk) -> list[Found]:
    """What law keeps of a profile, purpose by purpose. Events are read only where a compartment may hold such."""
    held = 0
    for member in desk.members:
        for wrapped in member.wrapped:
            held |= wrapped.held
    keeping = [p for p in vault.catalogue.purposes.values() if p.on_erasure == "keep" and p.mask & held]
    return [one for purpose in keeping if (one := await _gather(vault, desk, purpose)).records]


async def _gather(vault: Vault, desk: Desk, purpose: Purpose) -> Found:
    found = Found(purpose)
    async with vault.database.snapshot() as connection:
        async for part in desk.parts(connection, purpose=purpose.number):
            if part.purposes & purpose.mask:
                _take_part(vault.catalogue, found, part)
    return found


def _take_part(catalogue: Catalogue, found: Found, part: Part) -> None:
    """Takes of one part the properties that the catalogue collects for the purpose; nothing if there is none."""
    try:
        message = _decoder.decode(part.plaintext)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable from None
    event = catalogue.events_by_number.get(part.kind) or catalogue.event(message.type, message.name or "*")
    if event is None:
        return
    allowed = {one.name for one in event.properties.values() if one.purposes & found.purpose.mask}
    left = {key: value for key, value in message.properties.items() if key in allowed}
    if not left:
        return
    found.fields.update(f"{event.name}: {key}" for key in (*left, "time"))
    place = (part.subject, part.event_key)
    before = found.records.get(place)
    if before is not None:
        left = {**before.message.properties, **left}
    kept = msgspec.structs.replace(message, properties=left)
    found.records[place] = Record(part.at, part.received_at, part.kind, kept)


def sealed(vault: Vault, found: Sequence[Found]) -> Rows:
    """The rows of one fresh subject that holds everything kept: a compartment a purpose, found by nothing."""
    now = vault.clock.now()
    subject = new_subject(now)
    vault.keyring.refresh()
    rows, owner = Rows.none(), Fixed(_GROUP, subject.hex)
    rows.turn.append((owner, vault.keyring.turn))
    opener = Opener(vault.keyring, subject)
    wrapped: list[Wrapped] = []
    for one in found:
        mask = one.purpose.mask
        place, compartment = opener.create(mask, _FIRST)
        wrapped.append(place)
        for record in one.records.values():
            key = random_bytes(EVENT_KEY_BYTES)  # the old one is a tag of the message id: it would lead back
            part = seal_event(compartment, key, record.kind, msgspec.json.encode(record.message))
            times = (record.at, record.received_at)
            rows.events.append((owner, key, mask, _FIRST, *times, record.kind, part))
    rows.keys.append((owner, _FIRST, pack_wraps(wrapped)))
    ends = [end for one in found for end in one.ends if end is not None]
    if ends:
        rows.due.append((owner, min(ends), KEPT_ENDS))
    state = msgspec.structs.replace(
        fresh(subject),
        version=_FIRST,
        keys_version=_FIRST,
        holdings=holdings(holdings_of(wrapped)),
        event_count=len(rows.events),
    )
    rows.created.append((owner, subject, _FIRST, pack(state, vault.keyring.key(names.STATE))))
    return rows


def _summary(found: Found) -> Kept:
    purpose, ends = found.purpose, found.ends
    known = [end for end in ends if end is not None]
    return Kept(
        purpose=purpose.name,
        legal_basis=purpose.legal_basis,
        ground=purpose.keep_ground or "",
        fields=tuple(sorted(found.fields)),
        records=len(found.records),
        until=max(known) if len(known) == len(ends) else None,
    )


# --- the end of what was kept ---------------------------------------------------------------------------------------

_DUE: Final = "SELECT at, subject_id FROM due WHERE what = $1 AND at <= $2 ORDER BY at, subject_id LIMIT 100"
_PARTS: Final = "SELECT event_key, purposes, at FROM event WHERE subject_id = $1"
_DROP: Final = """
DELETE FROM event e USING unnest($2::bytea[], $3::bigint[]) AS n(event_key, purposes)
WHERE e.subject_id = $1 AND e.event_key = n.event_key AND e.purposes = n.purposes
"""
_DONE: Final = "DELETE FROM due WHERE at = $1 AND subject_id = $2 AND what = $3"
_AGAIN: Final = "INSERT INTO due (at, subject_id, what) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_WHOLE: Final = (
    "DELETE FROM keys.subject_key WHERE subject_id = $1",
    "DELETE FROM subject WHERE subject_id = $1",
)


async def end_kept(vault: Vault) -> int:
    """Erases what was kept long enough; answers how many records went. For the worker."""
    now = vault.clock.now()
    async with vault.database.hot() as connection:
        rows = await connection.fetch(_DUE, KEPT_ENDS, now)
    gone = 0
    for at, subject in rows:
        gone += await _end(vault, now, at, UUID(bytes=subject.bytes))
    return gone


async def _end(vault: Vault, now: Micros, at: int, subject: UUID) -> int:
    """Erases the records of one kept subject that are over; its keys go with the last of them."""
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await driver.fetchval("SELECT 1 FROM subject WHERE subject_id = $1 FOR UPDATE", subject)
        await driver.execute(_DONE, at, subject, KEPT_ENDS)
        over: list[tuple[bytes, int]] = []
        left: list[Micros | None] = []
        for key, purposes, said_at in await driver.fetch(_PARTS, subject):
            end = _end_of(vault.catalogue, purposes, said_at)
            if end is not None and end <= now:
                over.append((key, purposes))
            else:
                left.append(end)
        await driver.execute(_DROP, subject, [key for key, _ in over], [purposes for _, purposes in over])
        following = [end for end in left if end is not None]
        if not left:
            for statement in _WHOLE:
                await driver.execute(statement, subject)
        elif following:
            await driver.execute(_AGAIN, min(following), subject, KEPT_ENDS)
        await leave(
            vault, connection, Tag.RIGHTS_ROWS_DELETED, "vault", {"kept_over": len(over), "kept_left": len(left)}
        )
    return len(over)


def _end_of(catalogue: Catalogue, purposes: int, said_at: int) -> Micros | None:
    """When the record's purpose lets it go; a purpose that left the policies keeps nothing any longer."""
    purpose = catalogue.purpose_by_number.get(purposes.bit_length() - 1)
    return Micros(said_at) if purpose is None else purpose.kept_until(Micros(said_at))
