"""The tables of staff and their tokens. A token is kept as its SHA-256 only, and found by that hash.

Promises: a token is told once; a member who is disabled, and a token that is revoked, are refused from the commit on.
Must not know: what a role may do (that is `vault.policy`).
"""

import hashlib
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.crypto.rowcode import STAFF, STAFF_TOKEN, Value, row_code, vouched
from vault.errors import Conflict, Forged, NotFound
from vault.ids import random_token, uuid7
from vault.naming import check_name
from vault.storage.parties import staff, staff_token
from vault.storage.session import Connection, raw

PREFIX: Final = "pvs_"  # lets secret scanners and people see what was leaked


class Staff(msgspec.Struct, frozen=True):
    """Someone who may log in. `staff_id` is random and stands for them in the audit log; `role` is one of staff.toml."""

    staff_id: UUID
    name: str
    role: str


class StaffRow(msgspec.Struct, frozen=True):
    """A member of staff as operators see them in a list. Times are microseconds since 1970 UTC."""

    member: Staff
    created_at: Micros
    disabled_at: Micros | None


def token_hash(token: str) -> bytes:
    """SHA-256 of a token: the only form in which it is stored. Tokens have 256 random bits, so no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def add(connection: AsyncConnection, name: str, role: str, *, now: Micros, key: bytes) -> Staff:
    """Make a member of staff; the caller has checked that the role exists. `key` here and below: the one named `rows`.

    Raises:
        Invalid: the name is not fit. Conflict: the name is taken.
    """
    check_name(name)
    if (await connection.execute(select(staff.c.staff_id).where(staff.c.name == name))).one_or_none() is not None:
        raise Conflict("A member of staff of that name exists; choose another.")
    member = Staff(uuid7(now), name, role)
    # two operators at once: the unique name decides, and the session makes a Conflict of it
    code = row_code(key, STAFF, member.staff_id, name, role, now, None)
    row = {"staff_id": member.staff_id, "name": name, "role": role, "created_at": now, "code": code}
    await connection.execute(insert(staff).values(row))
    return member


async def add_token(connection: AsyncConnection, staff_id: UUID, *, now: Micros, key: bytes) -> str:
    """Make a token for a program of this member. It is in the answer and nowhere else."""
    token = PREFIX + random_token()
    code = row_code(key, STAFF_TOKEN, token_hash(token), staff_id, now, None)
    row = {"token_hash": token_hash(token), "staff_id": staff_id, "created_at": now, "code": code}
    await connection.execute(insert(staff_token).values(row))
    return token


_MEMBER: Final = "s.staff_id, s.name, s.role, s.created_at, s.disabled_at, s.code"
_TOKEN: Final = "t.token_hash, t.staff_id, t.created_at, t.revoked_at, t.code"  # noqa: S105 (columns)
_CARRIER: Final = f"SELECT {_MEMBER}, {_TOKEN} FROM staff_token t JOIN staff s USING (staff_id) WHERE t.token_hash = $1"  # noqa: S608 (constants)
_MEMBERS: Final = f"SELECT {_MEMBER} FROM staff s WHERE $1::uuid IS NULL OR staff_id = $1 FOR UPDATE"  # noqa: S608
_TOKENS: Final = f"SELECT {_TOKEN} FROM staff_token t WHERE $1::uuid IS NULL OR staff_id = $1 FOR UPDATE"  # noqa: S608
_END_TOKEN: Final = "UPDATE staff_token SET revoked_at = $2, code = $3 WHERE token_hash = $1"  # noqa: S105 (a statement)
_END_MEMBER: Final = "UPDATE staff SET disabled_at = $2, code = $3 WHERE staff_id = $1"


async def by_token(connection: Connection, token: str, key: bytes) -> Staff | None:
    """The enabled member who carries this token; None for an unknown or revoked token and for a disabled member.

    Asked with every call. Raises `Forged` where nobody with the key wrote the token or the member.
    """
    driver = await raw(connection)
    row = await driver.fetchrow(_CARRIER, token_hash(token))
    if row is None:
        return None
    member, carried = row[:6], row[6:]
    if not vouched(carried[4], key, STAFF_TOKEN, *_plain(carried[:4])):
        raise Forged("staff_token", carried[0])
    if not vouched(member[5], key, STAFF, *_plain(member[:5])):
        raise Forged("staff", member[0].bytes)
    gone = carried[3] is not None or member[4] is not None
    return None if gone else Staff(UUID(bytes=member[0].bytes), member[1], member[2])


async def find(connection: AsyncConnection, name: str, key: bytes) -> Staff | None:
    """The member of this name, disabled or not. Raises `Forged`."""
    row = (await connection.execute(select(staff).where(staff.c.name == name))).one_or_none()
    if row is not None and not vouched(row.code, key, STAFF, *row[:5]):
        raise Forged("staff", row.staff_id.bytes)
    return None if row is None else _member(row)


async def adopt(connection: Connection, key: bytes) -> int:
    """Vouches for every member and token as they stand: once, for a database from before there were codes. Counts them."""
    driver = await raw(connection)
    members, tokens = await driver.fetch(_MEMBERS, None), await driver.fetch(_TOKENS, None)
    for row in members:
        await driver.execute(_END_MEMBER, row[0], row[4], row_code(key, STAFF, *_plain(row[:5])))
    for row in tokens:
        await driver.execute(_END_TOKEN, row[0], row[3], row_code(key, STAFF_TOKEN, *_plain(row[:4])))
    return len(members) + len(tokens)


async def everyone(connection: AsyncConnection) -> list[StaffRow]:
    """All members by name, disabled ones too."""
    rows = (await connection.execute(select(staff).order_by(staff.c.name))).all()
    return [
        StaffRow(_member(row), Micros(row.created_at), None if row.disabled_at is None else Micros(row.disabled_at))
        for row in rows
    ]


async def disable(connection: AsyncConnection, name: str, *, now: Micros, key: bytes) -> None:
    """Refuse this member and all their tokens from the commit on. Raises NotFound; twice changes nothing."""
    row = (await connection.execute(select(staff).where(staff.c.name == name))).one_or_none()
    if row is None:
        raise NotFound("No such member of staff; `profile-vault staff list` names them.")
    driver = await raw(connection)
    for found in await driver.fetch(_MEMBERS, row.staff_id):
        ends = now if found[4] is None else found[4]
        await driver.execute(_END_MEMBER, found[0], ends, row_code(key, STAFF, *_plain(found[:4]), ends))


async def revoke_tokens(connection: AsyncConnection, staff_id: UUID, *, now: Micros, key: bytes) -> int:
    """Revoke every live token of this member; how many there were."""
    driver = await raw(connection)
    live = [row for row in await driver.fetch(_TOKENS, staff_id) if row[3] is None]
    for row in live:
        await driver.execute(_END_TOKEN, row[0], now, row_code(key, STAFF_TOKEN, *_plain(row[:3]), now))
    return len(live)


def _plain(columns: Any) -> list[Value]:
    """As the driver gives them, but ids as ours: its own kind of UUID compares, and is another class."""
    return [UUID(bytes=column.bytes) if hasattr(column, "bytes") else column for column in columns]


def _member(row: Row[Any]) -> Staff:
    return Staff(row.staff_id, str(row.name), str(row.role))
