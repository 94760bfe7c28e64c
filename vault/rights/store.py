"""Rows of requests, archives, case files, recipients' notices and certificates. No personal value in clear.

`detail` of a request is JSON of counts, names of stores and of policies; `move` is how every step ends: it takes the row
on only if nobody else did, so two workers on one request do each step once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.canonical import canonical_json
from vault.clock import Micros
from vault.crypto.mac import same_code
from vault.errors import Unreadable
from vault.rights.codes import answered_code, request_code, told_code
from vault.rights.request import RequestType, State, Step, check_move
from vault.storage.requests import archive, casefile, certificate, recipient_notice, request
from vault.storage.tables import disclosure_state, erased

Transaction = AsyncConnection
"""What every function here works in. The caller begins and ends it."""


class Request(msgspec.Struct, frozen=True):
    """One row."""

    request_id: UUID
    type: RequestType
    state: State
    step: Step
    subject_id: UUID | None  # None once erased
    received_at: Micros
    due_at: Micros
    finished_at: Micros | None
    opened_by: UUID  # staff id
    detail: dict[str, Any]


class Notice(msgspec.Struct, frozen=True):
    """What one recipient still owes, or has said, of one erased root."""

    request_id: UUID
    destination: int
    subject_id: UUID
    told_at: Micros | None
    acknowledged_at: Micros | None
    deadline: Micros


class Revision(msgspec.Struct, frozen=True):
    """One certificate as stored."""

    revision: int
    document: bytes
    entry_id: UUID


# --- requests -------------------------------------------------------------------------------------------------------


def row_of(one: Request, key: bytes) -> dict[str, Any]:
    """The columns of a request, with the code that vouches for them."""
    row = msgspec.structs.asdict(one)
    row |= {"state": str(one.state), "step": str(one.step), "detail": canonical_json(one.detail)}
    return row | {"code": request_code(key, row)}


async def add(conn: Transaction, new: Request, key: bytes) -> None:
    """A new request. `key` here and below: the one named `request`."""
    await conn.execute(insert(request).values(row_of(new, key)))


async def get(conn: Transaction, request_id: UUID, key: bytes, *, lock: bool = False) -> Request | None:
    """One request; `lock` keeps it for this transaction. Raises `Unreadable` for a row that nobody with the key wrote."""
    query = select(request).where(request.c.request_id == request_id)
    row = (await conn.execute(query.with_for_update() if lock else query)).mappings().one_or_none()
    return None if row is None else _request(row, key)


async def after(conn: Transaction, position: UUID | None, limit: int, key: bytes) -> list[tuple[UUID, Request | None]]:
    """Requests by id, which is the order of their making; None for a row that nobody with the key wrote."""
    query = select(request).order_by(request.c.request_id).limit(limit)
    if position is not None:
        query = query.where(request.c.request_id > position)
    found: list[tuple[UUID, Request | None]] = []
    for row in (await conn.execute(query)).mappings():
        try:
            found.append((row["request_id"], _request(row, key)))
        except Unreadable:
            found.append((row["request_id"], None))
    return found


async def adopt(conn: Transaction, key: bytes) -> int:
    """Vouches for the rows as they stand: once, when the key is made, for a database from before it. Counts them."""
    rows = [dict(row) for row in (await conn.execute(select(request).with_for_update())).mappings()]
    for row in rows:
        code = request_code(key, row)
        await conn.execute(update(request).where(request.c.request_id == row["request_id"]).values(code=code))
    return len(rows)


async def ready(conn: Transaction, now: Micros, after: UUID | None, limit: int) -> list[UUID]:
    """Requests for which something can be done now, in order of their ids (which is that of their making), after `after`.

    An archive on offer waits for its end; an erasure waits for a recipient's word or for the end of its case.
    """
    mine = request.c.request_id
    offered = select(archive).where(archive.c.request_id == mine, archive.c.expires_at > now).exists()
    told = and_(
        disclosure_state.c.subject_id == recipient_notice.c.subject_id,
        disclosure_state.c.destination == recipient_notice.c.destination,
        disclosure_state.c.removed_number.is_not(None),
        disclosure_state.c.acknowledged_at.is_not(None),
    )
    open_ = select(recipient_notice).where(
        recipient_notice.c.request_id == mine, recipient_notice.c.acknowledged_at.is_(None)
    )
    case = select(casefile).where(casefile.c.request_id == mine)
    query = select(mine).where(
        or_(
            request.c.step.not_in([str(Step.DONE), str(Step.OFFER), str(Step.ANSWERS)]),
            and_(request.c.step == str(Step.OFFER), ~offered),
            and_(
                request.c.step == str(Step.ANSWERS),
                or_(
                    open_.join_from(recipient_notice, disclosure_state, told).exists(),
                    case.where(casefile.c.expires_at <= now).exists(),
                    and_(~open_.exists(), ~case.exists()),
                ),
            ),
        )
    )
    if after is not None:
        query = query.where(mine > after)
    return list((await conn.execute(query.order_by(mine).limit(limit))).scalars())


async def erasure_of(conn: Transaction, subjects: Sequence[UUID]) -> UUID | None:
    """The erasure that these subjects are under, or that has erased one of them; None if there is none."""
    done = select(erased.c.request_id).where(erased.c.subject_id.in_(subjects)).limit(1)
    found: UUID | None = (await conn.execute(done)).scalar()
    if found is not None:
        return found
    under = (
        select(request.c.request_id)
        .where(request.c.type == "erasure", request.c.subject_id.in_(subjects))
        .order_by(request.c.received_at)
        .limit(1)
    )
    return cast("UUID | None", (await conn.execute(under)).scalar())


async def move(
    conn: Transaction,
    before: Request,
    step: Step,
    key: bytes,
    *,
    state: State | None = None,
    detail: Mapping[str, Any] | None = None,
    finished_at: Micros | None = None,
) -> bool:
    """Takes a request to its next step if it is still where `before` saw it. False: somebody else did; undo and leave.

    The caller holds its row (`get` with `lock`): all of it is written, since all of it is vouched for.

    Raises `Conflict` for a change of state that does not exist.
    """
    then = state if state is not None else before.state
    check_move(before.state, then)
    after = msgspec.structs.replace(
        before,
        step=step,
        state=then,
        detail={**before.detail, **(detail or {})},
        finished_at=before.finished_at if finished_at is None else finished_at,
    )
    done = await conn.execute(
        update(request)
        .where(request.c.request_id == before.request_id, request.c.step == str(before.step))
        .values(row_of(after, key))
    )
    return done.rowcount == 1


async def members_of(conn: Transaction, request_id: UUID) -> list[UUID]:
    """The subjects that an erasure has erased."""
    query = select(erased.c.subject_id).where(erased.c.request_id == request_id).order_by(erased.c.subject_id)
    return list((await conn.execute(query)).scalars())


# --- archives and case files ----------------------------------------------------------------------------------------


async def put_archive(conn: Transaction, request_id: UUID, sealed: bytes, expires_at: Micros) -> None:
    """Keep a sealed archive until it is fetched or expires."""
    await conn.execute(insert(archive).values(request_id=request_id, sealed=sealed, expires_at=expires_at))


async def take_archive(conn: Transaction, request_id: UUID) -> tuple[bytes, Micros] | None:
    """The sealed archive and its end, taken out: there is no second download."""
    taken = delete(archive).where(archive.c.request_id == request_id).returning(archive.c.sealed, archive.c.expires_at)
    row = (await conn.execute(taken)).one_or_none()
    return None if row is None else (row[0], Micros(row[1]))


async def archive_ends(conn: Transaction, request_id: UUID) -> Micros | None:
    """Until when the archive can be fetched; None if there is none."""
    ends = (await conn.execute(select(archive.c.expires_at).where(archive.c.request_id == request_id))).scalar()
    return None if ends is None else Micros(ends)


async def drop_archives(conn: Transaction, requests: Iterable[UUID]) -> int:
    """Delete the archives of these requests; counts them."""
    return (await conn.execute(delete(archive).where(archive.c.request_id.in_(list(requests))))).rowcount


async def requests_about(conn: Transaction, subjects: Sequence[UUID]) -> list[UUID]:
    """Every request that is about one of these subjects."""
    query = select(request.c.request_id).where(request.c.subject_id.in_(subjects)).order_by(request.c.request_id)
    return list((await conn.execute(query)).scalars())


async def forget_subject(conn: Transaction, subjects: Sequence[UUID], key: bytes) -> int:
    """Takes the subject out of the requests that were about it; the requests stay, as numbers. Counts them.

    A row that nobody with the key wrote is emptied too, and stays one.
    """
    about = select(request).where(request.c.subject_id.in_(subjects)).order_by(request.c.request_id).with_for_update()
    rows = [dict(row) for row in (await conn.execute(about)).mappings()]
    for row in rows:
        values: dict[str, Any] = {"subject_id": None}
        if vouched(row, key):
            values["code"] = request_code(key, row | values)
        await conn.execute(update(request).where(request.c.request_id == row["request_id"]).values(values))
    return len(rows)


def vouched(row: Mapping[str, Any], key: bytes) -> bool:
    """Did somebody with the key write this row?"""
    return _same(row["code"], request_code(key, dict(row)))


async def put_case(conn: Transaction, request_id: UUID, sealed: bytes, expires_at: Micros) -> None:
    """Keep a case file."""
    await conn.execute(insert(casefile).values(request_id=request_id, sealed=sealed, expires_at=expires_at))


async def reseal_case(conn: Transaction, request_id: UUID, sealed: bytes) -> None:
    """Put another content into a case file that is there."""
    await conn.execute(update(casefile).where(casefile.c.request_id == request_id).values(sealed=sealed))


async def get_case(conn: Transaction, request_id: UUID) -> bytes | None:
    """The sealed case file, while it lives."""
    sealed: bytes | None = (
        await conn.execute(select(casefile.c.sealed).where(casefile.c.request_id == request_id))
    ).scalar()
    return sealed


async def case_ends(conn: Transaction, request_id: UUID) -> Micros | None:
    """When the case file dies at the latest; None once it is gone."""
    ends = (await conn.execute(select(casefile.c.expires_at).where(casefile.c.request_id == request_id))).scalar()
    return None if ends is None else Micros(ends)


async def end_case(conn: Transaction, request_id: UUID, at: Micros) -> None:
    """Let the case file die at `at`."""
    await conn.execute(update(casefile).where(casefile.c.request_id == request_id).values(expires_at=at))


async def drop_case(conn: Transaction, request_id: UUID) -> int:
    """Delete a case file."""
    return (await conn.execute(delete(casefile).where(casefile.c.request_id == request_id))).rowcount


# --- recipients -----------------------------------------------------------------------------------------------------


async def put_notices(conn: Transaction, notices: Sequence[Notice]) -> None:
    """What each recipient has to be told; told once is enough, however often the step is taken."""
    if notices:
        rows = [msgspec.structs.asdict(one) for one in notices]
        await conn.execute(upsert(recipient_notice).on_conflict_do_nothing(), rows)


async def notices(conn: Transaction, request_id: UUID, key: bytes, state_key: bytes) -> list[Notice]:
    """What the recipients were told and have said, by destination. What no code vouches for was not said."""
    query = (
        select(recipient_notice)
        .where(recipient_notice.c.request_id == request_id)
        .order_by(recipient_notice.c.destination, recipient_notice.c.subject_id)
    )
    return [_notice(row, key, state_key) for row in (await conn.execute(query)).mappings()]


async def answered(conn: Transaction, notice: Notice, key: bytes) -> None:
    """Keep what is known now of one recipient's answer."""
    at, place = notice.acknowledged_at, (notice.request_id, notice.destination, notice.subject_id)
    await conn.execute(
        update(recipient_notice)
        .where(
            recipient_notice.c.request_id == notice.request_id,
            recipient_notice.c.destination == notice.destination,
            recipient_notice.c.subject_id == notice.subject_id,
        )
        .values(acknowledged_at=at, acknowledged_code=None if at is None else answered_code(key, *place, at))
    )


async def told(conn: Transaction, destination: int, subjects: Sequence[UUID], at: Micros, state_key: bytes) -> None:
    """These erased roots were on a page of removals at `at`: the first time counts. Others have no notice, and get none."""
    where = (recipient_notice.c.destination == destination, recipient_notice.c.told_at.is_(None))
    query = select(recipient_notice.c.subject_id).where(*where, recipient_notice.c.subject_id.in_(subjects)).distinct()
    for subject in sorted((await conn.execute(query)).scalars()):
        code = told_code(state_key, destination, subject, at)
        change = update(recipient_notice).where(*where, recipient_notice.c.subject_id == subject)
        await conn.execute(change.values(told_at=at, told_code=code))


async def drop_notices(conn: Transaction, request_id: UUID) -> int:
    """Forget the notices once the certificate holds their outcome."""
    return (await conn.execute(delete(recipient_notice).where(recipient_notice.c.request_id == request_id))).rowcount


# --- certificates ---------------------------------------------------------------------------------------------------


async def put_certificate(conn: Transaction, request_id: UUID, new: Revision) -> None:
    """Keep a revision. Raises `Conflict` if that number is taken."""
    await conn.execute(
        insert(certificate).values(
            request_id=request_id, revision=new.revision, document=new.document, entry_id=new.entry_id
        )
    )


async def certificates(conn: Transaction, request_id: UUID) -> list[Revision]:
    """All revisions, the first first."""
    query = select(certificate).where(certificate.c.request_id == request_id).order_by(certificate.c.revision)
    rows = (await conn.execute(query)).mappings()
    return [Revision(row["revision"], row["document"], row["entry_id"]) for row in rows]


def _same(stored: bytes | None, code: bytes) -> bool:
    return stored is not None and same_code(stored, code)


def _notice(row: Mapping[Any, Any], key: bytes, state_key: bytes) -> Notice:
    values = dict(row)
    told_by, said_by = values.pop("told_code"), values.pop("acknowledged_code")
    one = Notice(**values)
    at, said = one.told_at, one.acknowledged_at
    if at is None or not _same(told_by, told_code(state_key, one.destination, one.subject_id, at)):
        one = msgspec.structs.replace(one, told_at=None)
    if said is None or not _same(said_by, answered_code(key, one.request_id, one.destination, one.subject_id, said)):
        one = msgspec.structs.replace(one, acknowledged_at=None)
    return one


def _request(row: Mapping[Any, Any], key: bytes) -> Request:
    if not vouched(row, key):
        raise Unreadable
    row = {name: value for name, value in row.items() if name != "code"}
    try:
        detail = msgspec.json.decode(row["detail"], type=dict[str, Any])
        return Request(**{**row, "state": State(row["state"]), "step": Step(row["step"]), "detail": detail})
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None
