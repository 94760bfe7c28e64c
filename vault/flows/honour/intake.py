"""Takes requests in, and hands out what they made. The door checks the right; the flow records who asked.

An erasure is carried out up to the destruction of keys before it is answered; a second one for the same person, at the
same time or later, is the same request (threats D8). An archive is handed out once.
"""

from typing import Any
from uuid import UUID

from vault.audit.entry import Tag
from vault.clock import Micros, isoformat
from vault.errors import Conflict, Gone, Invalid, NotFound, VaultError
from vault.flows.find import resolve_ref
from vault.flows.honour.access import expire
from vault.flows.honour.advance import destroy_now
from vault.flows.honour.at_once import erase_at_once
from vault.flows.honour.certify import answers_of, notices_of
from vault.flows.honour.steps import OPENED, Taken, passing_key, read
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.policy.actors import Actor
from vault.rights import certificate, store
from vault.rights.archive import open_archive
from vault.rights.casefile import open_case
from vault.rights.request import FIRST, TYPES, RequestType, State, Step, due
from vault.rights.store import Request
from vault.storage.session import raw

__all__ = ["RequestType", "fetch_archive", "fetch_certificate", "open_request", "read_request"]


async def open_request(vault: Vault, actor: Actor, ref: str, kind: RequestType) -> UUID:
    """Opens a request about the person that the reference finds; answers its id.

    Raises `NotFound` or `Gone` for the reference, `Invalid` for another type.
    """
    if kind not in TYPES:
        raise Invalid("A request is access, portability or erasure.", code="unknown_request_type")
    subject = await resolve_ref(vault, actor, ref)
    opened_by = _staff(actor)
    if kind == "erasure":
        done = await erase_at_once(vault, actor, opened_by, subject)
        if done is not None:
            return done
    request_id = await register(vault, actor, opened_by, subject, kind)
    if kind == "erasure":
        await destroy_now(vault, request_id)
    return request_id


_PROFILE = """
SELECT subject_id FROM subject WHERE root = (SELECT root FROM subject WHERE subject_id = $1)
ORDER BY subject_id FOR NO KEY UPDATE
"""


async def register(vault: Vault, actor: Actor, opened_by: UUID, subject: UUID, kind: RequestType) -> UUID:
    """The new row, or the erasure that the person is under already. The profile's rows are held, so that two are one."""
    now = vault.clock.now()
    request_id, entry_id = uuid7(now), uuid7(now)
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        members = [UUID(bytes=row[0].bytes) for row in await driver.fetch(_PROFILE, subject)]
        under = await store.erasure_of(connection, members or [subject])
        if under is not None and kind == "erasure":
            return under
        if under is not None or not members:
            raise NotFound
        await store.add(
            connection,
            Request(
                request_id=request_id,
                type=kind,
                state=State.IN_PROGRESS,  # the officer who opens it vouches for who asks
                step=FIRST[kind],
                subject_id=subject,
                received_at=now,
                due_at=due(now),
                finished_at=None,
                opened_by=opened_by,
                detail={OPENED: str(entry_id)},
            ),
            vault.keyring.key(names.REQUEST),
        )
        await leave(
            vault,
            connection,
            Tag.RIGHTS_REQUEST_OPENED,
            actor.label,
            {"request": str(request_id), "type": kind},
            subject,
            entry_id,
        )
    return request_id


def _staff(actor: Actor) -> UUID:
    """The random id of who opened it. Raises `Invalid` for an actor that has none."""
    try:
        return UUID(actor.id)
    except ValueError:
        raise Invalid("A request is opened by a member of staff.") from None


async def read_request(vault: Vault, actor: Actor, request_id: UUID) -> dict[str, Any]:
    """Where a request stands: no personal value. Raises `NotFound`."""
    request = await read(vault, request_id)
    async with vault.database.begin() as connection:
        offered = await store.archive_ends(connection, request_id)
        notices = await notices_of(vault, connection, request)
        revisions = await store.certificates(connection, request_id)
        await leave(vault, connection, Tag.RIGHTS_REQUEST_READ, actor.label, {"request": str(request_id)})
    answer: dict[str, Any] = {
        "request": str(request_id),
        "type": request.type,
        "state": str(request.state),
        "step": str(request.step),
        "received_at": isoformat(request.received_at),
        "due_at": isoformat(request.due_at),
        "failed": request.detail.get("failed") if request.step != Step.DONE else None,
        "finished_at": None if request.finished_at is None else isoformat(request.finished_at),
    }
    if request.type != "erasure":
        answer["archive_until"] = None if offered is None else isoformat(offered)
        return answer
    answer["certificate_revisions"] = len(revisions)
    answer["recipients"] = [
        {
            "destination": one.name,
            "due_on": isoformat(one.deadline),
            "acknowledged_at": None if one.acknowledged_at is None else isoformat(one.acknowledged_at),
        }
        for one in answers_of(vault, notices)
    ]
    answer["kept"] = [
        {**one, "until": None if one["until"] is None else isoformat(Micros(one["until"]))}
        for one in request.detail.get("kept", [])
    ]
    return answer


async def fetch_archive(vault: Vault, actor: Actor, request_id: UUID) -> bytes:
    """The zip, once; then it is gone. Raises `NotFound`, `Conflict` while it is made, `Gone` afterwards."""
    request = await read(vault, request_id)
    if request.type == "erasure":
        raise NotFound
    if request.step == Step.GATHER:
        raise Conflict("The archive is being made; ask again.", code="not_ready")
    async with vault.database.begin() as connection:
        taken = await store.take_archive(connection, request_id)
        if taken is None or vault.clock.now() >= taken[1]:
            raise Gone("The archive was fetched, or its seven days are over; open a new request.", code="archive_gone")
        content = open_archive(await passing_key(vault, names.archive(request_id)), request_id, taken[0])
        await leave(
            vault, connection, Tag.RIGHTS_ARCHIVE_FETCHED, actor.label, {"request": str(request_id)}, request.subject_id
        )
    # The step stays `offer` until the key is gone: if this process ends here, the worker finds an offer without archive.
    try:
        await expire(vault, request)
    except Taken:
        pass
    except VaultError as error:
        vault.log.warning("request.failed", request=str(request_id), code=error.reason)
    return content


async def fetch_certificate(vault: Vault, actor: Actor, request_id: UUID) -> dict[str, Any]:
    """The newest revision: {document, signature, revisions, salt?}.

    `salt` is there while the case file lives, to be given to the person and to nobody else: with it they can check whom
    the certificate is about. Raises `NotFound`, `Conflict` before the first revision.
    """
    await read(vault, request_id)
    key = vault.keyring.key(names.REQUEST)
    async with vault.database.begin() as connection:
        request = await store.get(connection, request_id, key, lock=True)  # so that the case is not closed meanwhile
        if request is None or request.type != "erasure":
            raise NotFound
        revisions = await store.certificates(connection, request_id)
        if not revisions:
            raise Conflict("The rows are still being deleted; ask again.", code="not_ready")
        signed = certificate.parse(revisions[-1].document)
        answer: dict[str, Any] = {
            "document": signed.document,
            "signature": signed.signature,
            "revisions": len(revisions),
        }
        sealed = await store.get_case(connection, request_id)
        if sealed is not None:
            case = open_case(await passing_key(vault, names.case(request_id)), request_id, sealed)
            answer["salt"] = case.salt.hex()
            await store.move(connection, request, request.step, key, detail={"salt_given": True})
            if request.state == State.COMPLETED:  # everybody has answered: nothing needs the case any more
                await store.end_case(connection, request_id, vault.clock.now())
        await leave(
            vault,
            connection,
            Tag.RIGHTS_CERTIFICATE_READ,
            actor.label,
            {"request": str(request_id), "revision": revisions[-1].revision},
        )
    return answer
