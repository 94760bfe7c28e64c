"""Disclosure rows: appended with a page before its first byte, read by access, walked by erasure. Numbers only, no value.

`write_page` is one statement for the whole page, in order of subject so that two writers never wait for each other in a
ring; it runs inside the transaction of whoever calls it, beside the page's audit entry. The salt of a record stands in its
row, so the erasure of the person takes both.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.crypto.mac import mac, same_code
from vault.disclosures.held import Held
from vault.disclosures.record import Released, pack_objects, parse_detail, parse_objects
from vault.errors import Unreadable
from vault.storage.session import Connection, Raw, raw
from vault.storage.tables import disclosure, disclosure_state

_WRITE_PAGE: Final = """
WITH record AS (
  INSERT INTO disclosure (subject_id, destination, page, at, number, policy, salt, detail)
  SELECT u.subject_id, $1, $2, $3, u.number, $4, u.salt, u.detail
  FROM unnest($5::uuid[], $6::bigint[], $7::bytea[], $8::bytea[]) AS u(subject_id, number, salt, detail)
)
INSERT INTO disclosure_state (subject_id, destination, fields, gone)
SELECT u.subject_id, $1, u.fields, ''::bytea FROM unnest($9::uuid[], $10::bytea[]) AS u(subject_id, fields)
ORDER BY u.subject_id
ON CONFLICT (subject_id, destination) DO NOTHING
"""
_CHANGE_HELD: Final = """
WITH u AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::text[], $8::uuid[], $9::bigint[])
    AS u(subject_id, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at)
)
UPDATE disclosure_state AS s SET
  fields = u.fields, gone = u.gone, gone_number = u.gone_number, removed_number = u.removed_number,
  reason = u.reason, into_root = u.into_root, acknowledged_at = u.acknowledged_at
FROM u WHERE s.subject_id = u.subject_id AND s.destination = $1
"""
_HELD: Final = """
SELECT subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at
FROM disclosure_state WHERE subject_id = ANY($1::uuid[]) AND destination = $2
"""
_EVERYWHERE: Final = """
SELECT subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at,
    acknowledged_code
FROM disclosure_state WHERE subject_id = ANY($1::uuid[]) ORDER BY subject_id, destination
"""
_LOCKS: Final = {
    None: _HELD,
    "read": _HELD + "ORDER BY subject_id FOR SHARE",
    "write": _HELD + "ORDER BY subject_id FOR UPDATE",
}
Lock = Literal["read", "write"]
_REMOVED: Final = """
SELECT subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at
FROM disclosure_state WHERE destination = $1 AND removed_number > $2 AND ($3 OR acknowledged_at IS NULL)
ORDER BY removed_number LIMIT $4
"""
_READ_ON: Final = """
UPDATE disclosure_state SET acknowledged_at = $3
WHERE destination = $1 AND removed_number <= $2 AND acknowledged_at IS NULL
RETURNING subject_id, removed_number
"""


_CODES: Final = """
UPDATE disclosure_state s SET acknowledged_code = u.code FROM unnest($2::uuid[], $3::bytea[]) AS u(subject_id, code)
WHERE s.destination = $1 AND s.subject_id = u.subject_id
"""


class Page(NamedTuple):
    """What all rows of a page share."""

    destination: int
    page: UUID
    at: Micros
    policy: int  # policy_version.number


class Row(NamedTuple):
    """One profile on a page that got values."""

    subject_id: UUID
    number: int  # change number
    salt: bytes  # 16 random bytes: without them the leaf under the page's entry tells nothing
    detail: bytes  # record.pack_detail


class Disclosure(msgspec.Struct, frozen=True):
    """One record, read back."""

    subject_id: UUID
    destination: int
    page: UUID
    at: Micros
    number: int
    policy: int
    released: tuple[Released, ...]


async def write_page(raw: Raw, page: Page, rows: Sequence[Row], new: Sequence[Held]) -> int:
    """Append the records, and what the recipient holds now of those of whom it held nothing before.

    Answers how many of `new` were: another number than theirs means that somebody else wrote one first. `raw` is the
    asyncpg connection of the transaction; `rows` come in order of subject.
    """
    status = await raw.execute(
        _WRITE_PAGE,
        page.destination,
        page.page,
        page.at,
        page.policy,
        [row.subject_id for row in rows],
        [row.number for row in rows],
        [row.salt for row in rows],
        [row.detail for row in rows],
        [state.subject_id for state in new],
        [pack_objects(state.fields) for state in new],
    )
    return int(status.rpartition(" ")[2])


async def change_held(raw: Raw, destination: int, changed: Sequence[Held]) -> None:
    """Set what the recipient holds of roots whose rows the caller has locked (`held_by`)."""
    if not changed:
        return
    await raw.execute(
        _CHANGE_HELD,
        destination,
        [state.subject_id for state in changed],
        [pack_objects(state.fields) for state in changed],
        [pack_objects(state.gone) for state in changed],
        [state.gone_number for state in changed],
        [state.removed_number for state in changed],
        [state.reason for state in changed],
        [state.into_root for state in changed],
        [state.acknowledged_at for state in changed],
    )


async def held_by(
    raw: Raw, destination: int, subjects: Sequence[UUID], *, lock: Lock | None = None
) -> dict[UUID, Held]:
    """What the destination holds of these roots; one that never got anything is not in the answer.

    With a lock nobody else changes it until the end of the transaction; `write` for whoever will. A damaged row says
    `Held.damaged`.
    """
    found = await raw.fetch(_LOCKS[lock], list(subjects), destination)
    return {row[0]: held_of(row) for row in found}


async def removed_after(raw: Raw, destination: int, number: int, limit: int, *, confirmed: bool) -> list[Held]:
    """Profiles that the destination was told to delete by a line with a higher number, in order.

    With `confirmed`, those too of which it said that it did.
    """
    return [held_of(row) for row in await raw.fetch(_REMOVED, destination, number, confirmed, limit)]


async def read_on(raw: Raw, destination: int, number: int, at: Micros, key: bytes) -> int:
    """The recipient has stored all lines up to `number`, and says by that that it deleted; counts what was still open.

    `key` is `state`: an erasure's certificate states only what a code vouches for.
    """
    return await _vouch(raw, destination, await raw.fetch(_READ_ON, destination, number, at), at, key)


async def held_everywhere(connection: Connection, subjects: Sequence[UUID], key: bytes | None = None) -> list[Held]:
    """What any recipient holds or held of these roots, in order of subject and destination.

    With `key` (`state`) a recipient has acknowledged only what a code vouches for.
    """
    driver = await raw(connection)
    found = []
    for *row, code in await driver.fetch(_EVERYWHERE, list(subjects)):
        one = _held(row)
        if key is not None and one.acknowledged_at is not None and not _said(code, key, one):
            one = msgspec.structs.replace(one, acknowledged_at=None)
        found.append(one)
    return found


async def history(conn: AsyncConnection, subjects: Sequence[UUID]) -> list[Disclosure]:
    """Every disclosure of these subjects, the oldest first. Raises `Unreadable` for a damaged record."""
    query = (
        select(disclosure)
        .where(disclosure.c.subject_id.in_(subjects))
        .order_by(disclosure.c.at, disclosure.c.destination, disclosure.c.subject_id, disclosure.c.page)
    )
    return [
        Disclosure(
            row["subject_id"],
            row["destination"],
            row["page"],
            Micros(row["at"]),
            row["number"],
            row["policy"],
            parse_detail(row["detail"]),
        )
        for row in (await conn.execute(query)).mappings()
    ]


async def acknowledge(conn: AsyncConnection, destination: int, subjects: Sequence[UUID], at: Micros, key: bytes) -> int:
    """The recipient says that it deleted what it was told to. Counts the profiles for which that was still open."""
    done = await conn.execute(
        update(disclosure_state)
        .where(
            disclosure_state.c.subject_id.in_(sorted(subjects)),
            disclosure_state.c.destination == destination,
            disclosure_state.c.acknowledged_at.is_(None),
            disclosure_state.c.gone_number.is_not(None) | disclosure_state.c.removed_number.is_not(None),
        )
        .values(acknowledged_at=at)
        .returning(disclosure_state.c.subject_id, disclosure_state.c.removed_number)
    )
    return await _vouch(await raw(conn), destination, done.all(), at, key)


async def _vouch(driver: Raw, destination: int, rows: Sequence[Any], at: Micros, key: bytes) -> int:
    """Puts a code beside each acknowledgement that was just written; counts them."""
    if rows:
        codes = [_code(key, destination, row[0], row[1], at) for row in rows]
        await driver.execute(_CODES, destination, [row[0] for row in rows], codes)
    return len(rows)


def _said(stored: bytes | None, key: bytes, one: Held) -> bool:
    at = one.acknowledged_at
    if stored is None or at is None:
        return False
    return same_code(stored, _code(key, one.destination, one.subject_id, one.removed_number, at))


def _code(key: bytes, destination: int, subject: UUID, removed: int | None, at: int) -> bytes:
    """Bound to the removal that it is about: what was said of a retraction before says nothing of it."""
    numbers = (destination, -1 if removed is None else removed, at)
    return mac(key, "acknowledged/1", subject.bytes, *(number.to_bytes(8, "big", signed=True) for number in numbers))


async def erase(conn: AsyncConnection, subjects: Sequence[UUID]) -> int:
    """Delete every record and state of these subjects; counts the rows. The case file keeps what recipients need."""
    gone = 0
    for table in (disclosure, disclosure_state):
        gone += (await conn.execute(delete(table).where(table.c.subject_id.in_(subjects)))).rowcount
    return gone


def held_of(row: Any) -> Held:
    """One row, its columns in their order. A row that nobody wrote must not stop the page of all others: it is damaged."""
    try:
        return _held(row)
    except Unreadable:
        return Held(row[0], row[1], damaged=True)


def _held(row: Any) -> Held:
    subject, destination, fields, gone, gone_number, removed_number, reason, into_root, at = row
    return Held(
        subject, destination, parse_objects(fields), parse_objects(gone), gone_number, removed_number, reason, into_root,
        None if at is None else Micros(at),
    )  # fmt: skip
