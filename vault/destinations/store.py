"""Tokens and webhooks of destinations. No personal value stands in these rows.

A token is kept as its SHA-256 only: it has 256 random bits, so nothing slower is needed, and none can be read back.
"""

import hashlib
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, RowMapping, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.crypto.rowcode import DESTINATION_TOKEN, row_code, vouched
from vault.errors import Forged
from vault.ids import random_token
from vault.storage.parties import destination_token, webhook
from vault.storage.session import Connection, raw

TOKEN_PREFIX: Final = "pvd_"  # noqa: S105 - lets secret scanners and people see what was leaked


class Webhook(msgspec.Struct, frozen=True):
    """One recipient's push door. Times in microseconds since 1970 UTC."""

    destination: int
    url: str
    cursor: str | None  # of the feed; what comes after it was not delivered yet
    failures: int  # in a row
    next_at: Micros
    disabled_at: Micros | None
    delivered_at: Micros | None
    code: bytes | None = None  # webhook.address_code

    def __repr__(self) -> str:
        return f"Webhook(destination={self.destination}, ...)"  # a URL may hold the recipient's secret


async def add_token(conn: AsyncConnection, destination: int, now: Micros, key: bytes) -> str:
    """A new token for the destination, shown here and never again. Older ones stay valid until revoked.

    `key` here and below: the one named `rows`.
    """
    token = TOKEN_PREFIX + random_token()
    hashed = _hash(token)
    code = row_code(key, DESTINATION_TOKEN, hashed, destination, now, None)
    row = {"token_hash": hashed, "destination": destination, "created_at": now, "code": code}
    await conn.execute(insert(destination_token).values(row))
    return token


_ROW: Final = "SELECT token_hash, destination, created_at, revoked_at, code FROM destination_token"
_CARRIER: Final = _ROW + " WHERE token_hash = $1"
_LIVE: Final = _ROW + " WHERE destination = $1 AND revoked_at IS NULL FOR UPDATE"
_EVERY: Final = _ROW + " FOR UPDATE"
_WRITE: Final = "UPDATE destination_token SET revoked_at = $2, code = $3 WHERE token_hash = $1"


async def find_destination(connection: Connection, token: str, key: bytes) -> int | None:
    """The destination that a token belongs to; None when it is unknown or revoked. Asked with every call.

    Raises `Forged` for a row that nobody with the key wrote.
    """
    driver = await raw(connection)
    row = await driver.fetchrow(_CARRIER, _hash(token))
    if row is None:
        return None
    if not vouched(row[4], key, DESTINATION_TOKEN, *row[:4]):
        raise Forged("destination_token", row[0])
    return None if row[3] is not None else int(row[1])


async def revoke_tokens(conn: AsyncConnection, destination: int, now: Micros, key: bytes) -> int:
    """Every token of the destination ends now; counts them."""
    driver = await raw(conn)
    rows = await driver.fetch(_LIVE, destination)
    for row in rows:
        await driver.execute(_WRITE, row[0], now, row_code(key, DESTINATION_TOKEN, *row[:3], now))
    return len(rows)


async def adopt(connection: Connection, key: bytes) -> int:
    """Vouches for every token as it stands: once, for a database from before there were codes. Counts them."""
    driver = await raw(connection)
    rows = await driver.fetch(_EVERY)
    for row in rows:
        await driver.execute(_WRITE, row[0], row[3], row_code(key, DESTINATION_TOKEN, *row[:4]))
    return len(rows)


async def set_webhook(conn: AsyncConnection, destination: int, url: str, now: Micros, code: bytes) -> None:
    """Push to this URL from now on, beginning with a snapshot: whoever answers there holds nothing of ours yet."""
    row = {
        "url": url, "cursor": None, "failures": 0, "next_at": now, "disabled_at": None, "delivered_at": None,
        "code": code,
    }  # fmt: skip
    statement = upsert(webhook).values(destination=destination, **row)
    await conn.execute(statement.on_conflict_do_update(index_elements=[webhook.c.destination], set_=row))


async def vouch_webhook(conn: AsyncConnection, hook: Webhook, code: bytes) -> None:
    """Puts the code beside an address from before there were codes."""
    await conn.execute(update(webhook).where(webhook.c.destination == hook.destination).values(code=code))


async def remove_webhook(conn: AsyncConnection, destination: int) -> bool:
    """False when there was none."""
    return (await conn.execute(delete(webhook).where(webhook.c.destination == destination))).rowcount > 0


async def webhooks(conn: AsyncConnection) -> list[Webhook]:
    """All of them, disabled ones too, by destination."""
    return [_webhook(row) for row in (await conn.execute(select(webhook).order_by(webhook.c.destination))).mappings()]


async def due_webhooks(conn: AsyncConnection, now: Micros) -> list[Webhook]:
    """Those that may be tried now, the longest waiting first."""
    query = select(webhook).where(webhook.c.disabled_at.is_(None), webhook.c.next_at <= now)
    return [_webhook(row) for row in (await conn.execute(query.order_by(webhook.c.next_at))).mappings()]


async def delivered(conn: AsyncConnection, hook: Webhook, cursor: str, now: Micros) -> bool:
    """The lines after `hook.cursor` arrived. False, and no change, when somebody else moved on meanwhile."""
    done = await conn.execute(
        update(webhook).where(_unmoved(hook)).values(cursor=cursor, failures=0, next_at=now, delivered_at=now)
    )
    return done.rowcount > 0


async def failed(conn: AsyncConnection, hook: Webhook, next_at: Micros, *, disabled_at: Micros | None = None) -> bool:
    """One more failure in a row. `disabled_at` ends it until somebody sets it anew (the recipient said 410)."""
    done = await conn.execute(
        update(webhook)
        .where(_unmoved(hook))
        .values(failures=hook.failures + 1, next_at=next_at, disabled_at=disabled_at)
    )
    return done.rowcount > 0


def _unmoved(hook: Webhook) -> ColumnElement[bool]:
    return (
        (webhook.c.destination == hook.destination)
        & (webhook.c.url == hook.url)
        & webhook.c.cursor.is_not_distinct_from(hook.cursor)
        & webhook.c.disabled_at.is_(None)
    )


def _webhook(row: RowMapping) -> Webhook:
    return Webhook(**row)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
