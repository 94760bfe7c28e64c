"""The end of an erasure: the first certificate, a new revision with each answer, and the end of the case file.

A first revision is issued only after the independent reader (`flows.residue`) found nothing left. Each is signed, stored
and a leaf of the audit log in one transaction. A recipient that stays silent until its deadline stands as overdue and the
request stays partly completed.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.clock import Micros
from vault.disclosures.store import held_everywhere
from vault.errors import Conflict
from vault.flows.epochs import backups_unreadable_after
from vault.flows.honour.erase import erased_by, sweep
from vault.flows.honour.steps import MEMBERS, OWED, Taking, destroy_key, officer_of, take
from vault.flows.residue.scan import indexed
from vault.flows.residue.verdict import Report
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.rights import certificate, store
from vault.rights.certificate import Answer, Facts, Kept, Scan, Store
from vault.rights.request import State, Step
from vault.rights.store import Notice, Request, Revision, Transaction
from vault.storage.session import raw

RESIDUE: Final = "residue"
"""In `detail`: where the reader found something before the first revision. It is there from the first find on."""

_FORGET: Final = (
    "DELETE FROM disclosure_state WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM change WHERE subject_id = ANY ($1::uuid[])",
    "DELETE FROM change_in WHERE subject_id = ANY ($1::uuid[])",
)


async def certify(vault: Vault, request: Request) -> None:
    """The first revision, once nothing is left here. Something is: the deletion is taken up again, once; then it waits.

    Raises `Conflict` (code `residue_left`) where taking it up again did not help.
    """
    async with take(vault, request) as taking:
        report = await indexed(vault, await raw(taking.connection), request.request_id, waiting=True)
        left = [one.store for one in report.residue]
        if left:
            again = RESIDUE in taking.request.detail
            await taking.move(Step.ROWS, detail={RESIDUE: left})
        else:
            await _first(vault, taking, report)
            return
    if again:
        raise Conflict("Something of the person is still stored; `erasures scan` names it.", code="residue_left")


async def _first(vault: Vault, taking: Taking, report: Report) -> None:
    members = await erased_by(taking.connection, taking.request)
    notices = await notices_of(vault, taking.connection, taking.request)
    answers = answers_of(vault, notices, await _removed(taking.connection, members))
    await _issue(vault, taking, len(members), answers, report)
    state = State.PARTLY_COMPLETED if _open(notices) else State.COMPLETED
    owed = [[one.destination, str(one.subject_id), one.deadline] for one in notices]
    finished = None if _open(notices) else vault.clock.now()
    await taking.move(Step.ANSWERS, state=state, detail={OWED: owed}, finished_at=finished)


async def gather_answers(vault: Vault, request: Request) -> bool:
    """Takes up what recipients said since; closes the case when nobody is waited for. True if anything moved."""
    async with vault.database.begin() as connection:
        members = await erased_by(connection, request)
    await sweep(vault, request, members)  # what a page decided before the fence may have written after the rows went
    async with take(vault, request) as taking:
        now = vault.clock.now()
        notices = await _heard(vault, taking.connection, taking.request, members)
        revisions = await store.certificates(taking.connection, request.request_id)
        answers = answers_of(vault, notices, await _removed(taking.connection, members))
        last = certificate.parse(revisions[-1].document)
        moved = _standing(last.document) != _standing_of(answers, now)
        if moved:
            report = await indexed(vault, await raw(taking.connection), request.request_id, waiting=True)
            await _issue(vault, taking, len(members), answers, report, revisions[-1])
        closed = await _close_case(vault, taking, notices, now)
        if not _open(notices) and closed:
            await _finish(vault, taking, members, now)
            return True
        if moved and not _open(notices):
            await taking.move(Step.ANSWERS, state=State.COMPLETED, finished_at=now)
        return moved


async def record_scan(vault: Vault, request: Request, report: Report) -> int | None:
    """A revision that carries the scan of everything; its number. None where nothing is certified yet.

    What it found goes into the audit log, too.
    """
    async with take(vault, request) as taking:
        revisions = await store.certificates(taking.connection, request.request_id)
        if not revisions:
            return None
        last = certificate.parse(revisions[-1].document).document
        now = vault.clock.now()
        entry_id = uuid7(now)
        document = certificate.rescanned(last, now, entry_id, report.shown())
        await _put(vault, taking, document, entry_id)
        if report.residue:
            detail: Detail = {"check": "residue", "request": str(request.request_id), "stores": len(report.residue)}
            await leave(vault, taking.connection, Tag.INTEGRITY_CHECK_FAILED, "vault", detail)
    return int(document["revision"])


# --- who has said what ----------------------------------------------------------------------------------------------


def answers_of(
    vault: Vault, notices: Sequence[Notice], removed: Collection[tuple[UUID, int]] = ()
) -> tuple[Answer, ...]:
    """One answer a recipient: it was told, and has acknowledged, when that is so for every root that it knew.

    `removed` names those whose removal was handed out: of some of them it is not on record when.
    """
    by_destination: dict[int, list[Notice]] = {}
    for notice in notices:
        by_destination.setdefault(notice.destination, []).append(notice)
    answers = []
    for number, rows in sorted(by_destination.items()):
        contract = vault.catalogue.contracts_by_number.get(number)
        said = [row.acknowledged_at for row in rows if row.acknowledged_at is not None]
        told = [row.told_at for row in rows if row.told_at is not None]
        answers.append(
            Answer(
                name=contract.name if contract is not None else f"destination {number}",
                recipient=contract.recipient if contract is not None else "no longer in the policies",
                country=contract.country if contract is not None else "",
                deadline=max(row.deadline for row in rows),
                told=all(
                    row.told_at is not None
                    or row.acknowledged_at is not None
                    or (row.subject_id, row.destination) in removed
                    for row in rows
                ),
                told_at=max(told) if len(told) == len(rows) else None,
                acknowledged_at=max(said) if len(said) == len(rows) else None,
            )
        )
    return tuple(answers)


async def notices_of(vault: Vault, connection: Transaction, request: Request) -> list[Notice]:
    """The notices of an erasure, with those whose rows somebody deleted: the request itself says who is owed one."""
    keys = vault.keyring.key(names.REQUEST), vault.keyring.key(names.STATE)
    found = await store.notices(connection, request.request_id, *keys)
    known = {(one.destination, one.subject_id) for one in found}
    owed = [] if request.step == Step.DONE else request.detail.get(OWED, [])
    for number, root, deadline in owed:
        if (number, UUID(root)) not in known:
            found.append(Notice(request.request_id, number, UUID(root), None, None, Micros(deadline)))
    return sorted(found, key=lambda one: (one.destination, one.subject_id.int))


async def _heard(vault: Vault, connection: Transaction, request: Request, members: Sequence[UUID]) -> list[Notice]:
    """The notices, with the recipients' own words as they are on record. What nobody observed stays open.

    When a recipient was told is written with the page that told it (`flows.release.record`).
    """
    state_key = vault.keyring.key(names.STATE)
    held = {(one.subject_id, one.destination): one for one in await held_everywhere(connection, members, state_key)}
    found = []
    for notice in await notices_of(vault, connection, request):
        state = held.get((notice.subject_id, notice.destination))
        then = notice
        if notice.acknowledged_at is None and state is not None and state.removed_number is not None:
            then = msgspec.structs.replace(notice, acknowledged_at=state.acknowledged_at)
        if then != notice:
            await store.answered(connection, then, vault.keyring.key(names.REQUEST))
        found.append(then)
    return found


async def _removed(connection: Transaction, members: Sequence[UUID]) -> frozenset[tuple[UUID, int]]:
    """Who was handed a removal: (root, destination)."""
    held = await held_everywhere(connection, members)
    return frozenset((one.subject_id, one.destination) for one in held if one.removed_number is not None)


def _open(notices: Sequence[Notice]) -> bool:
    return any(notice.acknowledged_at is None for notice in notices)


def _standing(document: dict[str, Any]) -> tuple[frozenset[str], frozenset[tuple[str, bool]]]:
    """What a revision says of recipients: who has answered, and who is overdue."""
    stated = frozenset(one["destination"] for one in document["stated"])
    return stated, frozenset((one["destination"], one["overdue"]) for one in document["due"])


def _standing_of(answers: Sequence[Answer], now: Micros) -> tuple[frozenset[str], frozenset[tuple[str, bool]]]:
    stated = frozenset(one.name for one in answers if one.acknowledged_at is not None)
    return stated, frozenset((one.name, now >= one.deadline) for one in answers if one.acknowledged_at is None)


# --- issuing and closing --------------------------------------------------------------------------------------------


async def _issue(
    vault: Vault,
    taking: Taking,
    members: int,
    answers: Sequence[Answer],
    report: Report,
    before: Revision | None = None,
) -> None:
    """Signs and stores the next revision, with its leaf."""
    request, now = taking.request, vault.clock.now()
    detail = request.detail
    entry_id = uuid7(now)
    facts = Facts(
        request_id=request.request_id,
        revision=1 if before is None else before.revision + 1,
        issued_at=now,
        received_at=request.received_at,
        destroyed_at=Micros(detail["destroyed_at"]),
        entry_id=entry_id,
        previous=None if before is None else certificate.digest_of(certificate.parse(before.document).document),
        persons=tuple(detail["persons"]),
        members=members,
        stores=tuple(Store(name, rows) for name, rows in detail["stores"].items()),
        answers=tuple(answers),
        kept=tuple(msgspec.convert(detail["kept"], tuple[Kept, ...])),
        tombstones=detail["tombstones"],
        late_until=Micros(detail["late_until"]),
        rollback_protection=vault.keyring.protection,
        backups_unreadable_after=backups_unreadable_after(vault, Micros(detail["destroyed_at"])),
        scan=Scan(report.word, report.shown()),
        whole_scan=None if before is None else certificate.parse(before.document).document.get("whole_scan"),
    )
    await _put(vault, taking, certificate.document_of(facts), entry_id)


async def _put(vault: Vault, taking: Taking, document: dict[str, Any], entry_id: UUID) -> None:
    request = taking.request
    stored = certificate.sign(vault.keyring.signer(certificate.USE), document)
    await store.put_certificate(taking.connection, request.request_id, Revision(document["revision"], stored, entry_id))
    await leave(
        vault,
        taking.connection,
        Tag.RIGHTS_CERTIFICATE_ISSUED,
        officer_of(request),
        {
            "request": str(request.request_id),
            "revision": document["revision"],
            "document": certificate.digest_of(document).hex(),
            "signed": hashlib.sha256(stored).hexdigest(),
            "due": len(document["due"]),
        },
        entry_id=entry_id,
    )


async def _close_case(vault: Vault, taking: Taking, notices: Sequence[Notice], now: Micros) -> bool:
    """Destroys the case file when nobody needs it any more, its key first. True once it is gone."""
    ends = await store.case_ends(taking.connection, taking.request.request_id)
    if ends is None:
        return True
    answered = not _open(notices) and bool(taking.request.detail.get("salt_given"))
    if now < ends and not answered:
        return False
    await destroy_key(vault, names.case(taking.request.request_id))
    await store.drop_case(taking.connection, taking.request.request_id)
    return True


async def _finish(vault: Vault, taking: Taking, members: Sequence[UUID], now: Micros) -> None:
    """Everybody has answered: the last rows that named the erased subjects go."""
    driver = await raw(taking.connection)
    for statement in _FORGET:
        await driver.execute(statement, list(members))
    await store.drop_notices(taking.connection, taking.request.request_id)
    await leave(
        vault, taking.connection, Tag.RIGHTS_REQUEST_COMPLETED, "vault", {"request": str(taking.request.request_id)}
    )
    await taking.move(
        Step.DONE, state=State.COMPLETED, detail={MEMBERS: [], OWED: []}, finished_at=taking.request.finished_at or now
    )
