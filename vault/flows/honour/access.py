"""Answers access and portability: reads and opens the whole profile for the rights desk, and seals the archive.

The archive lies under a key of its own and is gone, key first, after seven days or the first download.
"""

from collections.abc import Iterable
from typing import Any, Final

from vault.audit.entry import Detail, Tag
from vault.catalogue.numbers import identifier_object
from vault.clock import Micros
from vault.disclosures.store import held_everywhere, history
from vault.errors import NotFound
from vault.flows.honour.answer import Gathered, access_answer, portable_answer
from vault.flows.honour.opened import Desk, Value, profile_of
from vault.flows.honour.recipients import source_names
from vault.flows.honour.steps import destroy_key, key_of, officer_of, take
from vault.flows.people.read import ledgers
from vault.flows.tags import account_tag
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.profile.sightings import read_sightings
from vault.rights import store
from vault.rights.archive import KEPT, pack, seal_archive
from vault.rights.request import State, Step
from vault.rights.store import Request

TITLES: Final = {"access": "Your data", "portability": "Your data, to take with you"}
_EVENTS: Final = "SELECT count(*) FROM event WHERE subject_id = ANY ($1::uuid[])"


async def gather(vault: Vault, request: Request) -> None:
    """Makes the archive. A person who is erased meanwhile has none: the request ends as cancelled."""
    gathered = await _gathered(vault, request) if request.subject_id is not None else None
    if gathered is None:
        await _cancel(vault, request)
        return
    content, counts = _packed(vault, request, gathered)
    now = vault.clock.now()
    async with take(vault, request) as taking:
        subjects = [state.subject for state in gathered.states]
        if taking.request.subject_id is None or await store.erasure_of(taking.connection, subjects) is not None:
            await taking.move(Step.DONE, state=State.CANCELLED, finished_at=now)
            return
        key = await key_of(vault, names.archive(request.request_id))
        sealed = seal_archive(key, request.request_id, content)
        await store.put_archive(taking.connection, request.request_id, sealed, Micros(now + KEPT))
        await leave(
            vault,
            taking.connection,
            Tag.RIGHTS_ARCHIVE_MADE,
            officer_of(request),
            {"request": str(request.request_id), "type": request.type, **counts},
            subjects[0],
        )
        if gathered.missing:
            failed: Detail = {"request": str(request.request_id), "check": "events", "missing": gathered.missing}
            await leave(vault, taking.connection, Tag.INTEGRITY_CHECK_FAILED, "vault", failed, subjects[0])
        await taking.move(Step.OFFER, state=State.COMPLETED, detail=counts, finished_at=now)


async def expire(vault: Vault, request: Request) -> bool:
    """Ends the offer of an archive that was fetched or whose time is over. True if it ended."""
    async with take(vault, request) as taking:
        ends = await store.archive_ends(taking.connection, request.request_id)
        if ends is not None and vault.clock.now() < ends:
            return False
        await destroy_key(vault, names.archive(request.request_id))
        await store.drop_archives(taking.connection, [request.request_id])
        await taking.move(Step.DONE)
    return True


async def _cancel(vault: Vault, request: Request) -> None:
    async with take(vault, request) as taking:
        await taking.move(Step.DONE, state=State.CANCELLED, finished_at=vault.clock.now())


async def _gathered(vault: Vault, request: Request) -> Gathered | None:
    """Everything of the person, at one moment; None if the person is gone or being erased."""
    assert request.subject_id is not None  # noqa: S101 - the caller looked
    async with vault.database.snapshot() as connection:
        try:
            members = await profile_of(vault, connection, request.subject_id)
        except NotFound:
            return None
        if any(member.state.fenced for member in members):
            return None
        desk = Desk(vault, members, vault.gate.rights(officer_of(request), request.request_id))
        values = list(desk.values())
        parts = [part async for part in desk.parts(connection)]
        stored = await connection.fetchval(_EVENTS, desk.subjects)
        missing = max(sum(member.state.event_count for member in members) - stored, 0)
        choices = await ledgers(connection, {member.state.subject: member for member in members})
    async with vault.database.begin() as transaction:
        sources = await source_names(transaction)
        disclosures = await history(transaction, desk.subjects)
        held = await held_everywhere(transaction, desk.subjects)
    states = [member.state for member in members]
    ids = _account_ids(vault, values)
    return Gathered(
        request, vault.clock.now(), states, values, parts, choices, disclosures, held, sources, missing, ids
    )


def _account_ids(vault: Vault, values: Iterable[Value]) -> dict[str, str]:
    """The ids of the person's accounts, by the tags under which the traits lie."""
    kind = vault.catalogue.account_kind
    if kind is None:
        return {}
    key, field = vault.keyring.key(names.index(kind.name)), identifier_object(kind.number)
    told = [one.value for value in values if value.head.field == field for one in read_sightings(value.plaintext)]
    forms = {one: normal for one in told if (normal := normalise(kind, one)) is not None}
    return {account_tag(key, kind.name, normal).hex(): one for one, normal in forms.items()}


def _packed(vault: Vault, request: Request, gathered: Gathered) -> tuple[bytes, dict[str, int]]:
    """The zip, and how much is in it."""
    counts = {"values": len(gathered.values), "event_parts": len(gathered.parts)}
    if gathered.missing:
        counts["missing_event_parts"] = gathered.missing
    title = TITLES[request.type]
    if request.type == "portability":
        portable, tables = portable_answer(vault.catalogue, gathered)
        return pack(title, portable, tables), counts
    answer: dict[str, Any] = access_answer(vault.catalogue, gathered)
    return pack(title, answer), counts
