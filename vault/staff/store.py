"""The tables of staff and their tokens. A token is kept as its SHA-256 only, and found by that hash.

Promises: a token is told once; a member who is disabled, and a token that is revoked, are refused from the commit on.
Must not know: what a role may do (that is `vault.policy`).
"""

import hashlib
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.errors import Conflict, NotFound
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


async def add(connection: AsyncConnection, name: str, role: str, *, now: Micros) -> Staff:
    """Make a member of staff; the caller has checked that the role exists.

    Raises:
        Invalid: the name is not fit. Conflict: the name is taken.
    """
    check_name(name)
    if await find(connection, name) is not None:
        raise Conflict("A member of staff of that name exists; choose another.")
    member = Staff(uuid7(now), name, role)
    # two operators at once: the unique name decides, and the session makes a Conflict of it
    await connection.execute(insert(staff).values(staff_id=member.staff_id, name=name, role=role, created_at=now))
    return member


async def add_token(connection: AsyncConnection, staff_id: UUID, *, now: Micros) -> str:
    """Make a token for a program of this member. It is in the answer and nowhere else."""
    token = PREFIX + random_token()
    await connection.execute(
        insert(staff_token).values(token_hash=token_hash(token), staff_id=staff_id, created_at=now)
    )
    return token


_CARRIER: Final = """
SELECT s.staff_id, s.name, s.role FROM staff_token t JOIN staff s USING (staff_id)
WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND s.disabled_at IS NULL
"""


async def by_token(connection: Connection, token: str) -> Staff | None:
    """The enabled member who carries this token; None for an unknown or revoked token and for a disabled member.

    Asked with every call.
    """
    driver = await raw(connection)
    row = await driver.fetchrow(_CARRIER, token_hash(token))
    return None if row is None else Staff(UUID(bytes=row[0].bytes), row[1], row[2])


async def find(connection: AsyncConnection, name: str) -> Staff | None:
    """The member of this name, disabled or not."""
    row = (await connection.execute(select(staff).where(staff.c.name == name))).one_or_none()
    return None if row is None else _member(row)


async def everyone(connection: AsyncConnection) -> list[StaffRow]:
    """All members by name, disabled ones too."""
    rows = (await connection.execute(select(staff).order_by(staff.c.name))).all()
    return [
        StaffRow(_member(row), Micros(row.created_at), None if row.disabled_at is None else Micros(row.disabled_at))
        for row in rows
    ]


async def disable(connection: AsyncConnection, name: str, *, now: Micros) -> None:
    """Refuse this member and all their tokens from the commit on. Raises NotFound; twice changes nothing."""
    found = await find(connection, name)
    if found is None:
        raise NotFound("No such member of staff; `profile-vault staff list` names them.")
    chosen = update(staff).where(staff.c.staff_id == found.staff_id, staff.c.disabled_at.is_(None))
    await connection.execute(chosen.values(disabled_at=now))


async def revoke_tokens(connection: AsyncConnection, staff_id: UUID, *, now: Micros) -> int:
    """Revoke every live token of this member; how many there were."""
    statement = update(staff_token).where(staff_token.c.staff_id == staff_id, staff_token.c.revoked_at.is_(None))
    return (await connection.execute(statement.values(revoked_at=now))).rowcount


def _member(row: Row[Any]) -> Staff:
    return Staff(row.staff_id, str(row.name), str(row.role))
