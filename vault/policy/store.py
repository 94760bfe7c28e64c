"""The table of policy versions. Rows are added, never changed."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vault.clock import Micros
from vault.storage.parties import policy_version

Connection = AsyncConnection  # a transaction, from `vault.storage.session`
Row = tuple[int, bytes, bytes]  # number, digest, canonical JSON of {path: text}


async def newest_first(connection: Connection, limit: int | None = None) -> list[Row]:
    """The versions, the live one first."""
    columns = (policy_version.c.number, policy_version.c.digest, policy_version.c.files)
    rows = await connection.execute(select(*columns).order_by(policy_version.c.number.desc()).limit(limit))
    return [(row.number, bytes(row.digest), bytes(row.files)) for row in rows]


async def add(connection: Connection, number: int, digest: bytes, files: bytes, applied_by: str, now: Micros) -> None:
    """One more version. Raises `Conflict` if another took the number meanwhile, or the same files were applied before."""
    await connection.execute(
        insert(policy_version).values(number=number, digest=digest, files=files, applied_at=now, applied_by=applied_by)
    )
