"""Disclosure rows: appended with a page before its first byte, read by access, walked by erasure. Numbers only, no value.

`write_page` is one statement for the whole page, sorted by subject so that two writers never wait for each other in a
ring; it runs inside the transaction of whoever calls it, beside the page's audit entry.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.disclosures.held import Held
from vault.disclosures.record import Released, pack_objects, parse_detail, parse_objects
from vault.errors import Unreadable
from vault.storage.session import Raw
from vault.storage.tables import disclosure, disclosure_state

_WRITE_PAGE: Final = """
WITH record AS (
  INSERT INTO disclosure (subject_id, destination, page, at, number, policy, detail)
  SELECT u.subject_id, $1, $2, $3, u.number, $4, u.detail
  FROM unnest($5::uuid[], $6::bigint[], $7::bytea[]) AS u(subject_id, number, detail)
  ORDER BY u.subject_id
)
INSERT INTO disclosure_state AS s
  (subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at)
SELECT u.subject_id, $1, u.fields, u.gone, u.gone_number, u.removed_number, u.reason, u.into_root, u.acknowledged_at
FROM unnest($8::uuid[], $9::bytea[], $10::bytea[], $11::bigint[], $12::bigint[], $13::text[], $14::uuid[], $15::bigint[])
  AS u(subject_id, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at)
ORDER BY u.subject_id
ON CONFLICT (subject_id, destination) DO UPDATE SET
  fields = excluded.fields, gone = excluded.gone, gone_number = excluded.gone_number,
  removed_number = excluded.removed_number, reason = excluded.reason, into_root = excluded.into_root,
  acknowledged_at = excluded.acknowledged_at
RETURNING s.subject_id, s.xmax = 0 AS fresh
"""
_HELD: Final = """
SELECT subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at
FROM disclosure_state WHERE subject_id = ANY($1::uuid[]) AND destination = $2
"""
_LOCKED: Final = _HELD + "ORDER BY subject_id FOR UPDATE"
_REMOVED: Final = """
SELECT subject_id, destination, fields, gone, gone_number, removed_number, reason, into_root, acknowledged_at
FROM disclosure_state WHERE destination = $1 AND removed_number > $2 AND ($3 OR acknowledged_at IS NULL)
ORDER BY removed_number LIMIT $4
"""
_READ_ON: Final = """
UPDATE disclosure_state SET acknowledged_at = $3
WHERE destination = $1 AND removed_number <= $2 AND acknowledged_at IS NULL
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


async def write_page(raw: Raw, page: Page, rows: Iterable[Row], held: Iterable[Held]) -> frozenset[UUID]:
    """Append the records and set what the recipient holds now; answers the profiles of which it had no state before.

    `raw` is the asyncpg connection of the transaction.
    """
    records = sorted(rows)
    states = sorted(held, key=_by_subject)
    written = await raw.fetch(
        _WRITE_PAGE,
        page.destination,
        page.page,
        page.at,
        page.policy,
        [row.subject_id for row in records],
        [row.number for row in records],
        [row.detail for row in records],
        [state.subject_id for state in states],
        [pack_objects(state.fields) for state in states],
        [pack_objects(state.gone) for state in states],
        [state.gone_number for state in states],
        [state.removed_number for state in states],
        [state.reason for state in states],
        [state.into_root for state in states],
        [state.acknowledged_at for state in states],
    )
    return frozenset(row[0] for row in written if row[1])


async def held_by(raw: Raw, destination: int, subjects: Sequence[UUID], *, lock: bool = False) -> dict[UUID, Held]:
    """What the destination holds of these roots; one that never got anything is not in the answer.

    With `lock`, nobody else changes it until the end of the transaction. A damaged row says `Held.damaged`.
    """
    found = await raw.fetch(_LOCKED if lock else _HELD, list(subjects), destination)
    return {row["subject_id"]: _held_or_damaged(row) for row in found}


async def removed_after(raw: Raw, destination: int, number: int, limit: int, *, confirmed: bool) -> list[Held]:
    """Profiles that the destination was told to delete by a line with a higher number, in order.

    With `confirmed`, those too of which it said that it did.
    """
    return [_held_or_damaged(row) for row in await raw.fetch(_REMOVED, destination, number, confirmed, limit)]


async def read_on(raw: Raw, destination: int, number: int, at: Micros) -> int:
    """The recipient has stored all lines up to `number`, and says by that that it deleted; counts what was still open."""
    status = await raw.execute(_READ_ON, destination, number, at)
    return int(status.rpartition(" ")[2])


async def held_everywhere(conn: AsyncConnection, subjects: Sequence[UUID]) -> list[Held]:
    """What any recipient holds or held of these roots, in order of subject and destination."""
    query = (
        select(disclosure_state)
        .where(disclosure_state.c.subject_id.in_(subjects))
        .order_by(disclosure_state.c.subject_id, disclosure_state.c.destination)
    )
    return [_held(row) for row in (await conn.execute(query)).mappings()]


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


async def acknowledge(conn: AsyncConnection, destination: int, subjects: Sequence[UUID], at: Micros) -> int:
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
    )
    return done.rowcount


async def erase(conn: AsyncConnection, subjects: Sequence[UUID]) -> int:
    """Delete every record and state of these subjects; counts the rows. The case file keeps what recipients need."""
    gone = 0
    for table in (disclosure, disclosure_state):
        gone += (await conn.execute(delete(table).where(table.c.subject_id.in_(subjects)))).rowcount
    return gone


def _by_subject(held: Held) -> UUID:
    return held.subject_id


def _held_or_damaged(row: Any) -> Held:
    """One row that nobody wrote must not stop the page of all others."""
    try:
        return _held(row)
    except Unreadable:
        return Held(row["subject_id"], row["destination"], damaged=True)


def _held(row: Any) -> Held:
    at = row["acknowledged_at"]
    return Held(
        subject_id=row["subject_id"],
        destination=row["destination"],
        fields=parse_objects(row["fields"]),
        gone=parse_objects(row["gone"]),
        gone_number=row["gone_number"],
        removed_number=row["removed_number"],
        reason=row["reason"],
        into_root=row["into_root"],
        acknowledged_at=None if at is None else Micros(at),
    )
