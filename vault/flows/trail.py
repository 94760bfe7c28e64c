"""One audit entry, left in the transaction of what it speaks of. A person stands in it as a salted digest only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from vault.audit.entry import Detail, Entry, Tag
from vault.audit.store import append
from vault.errors import Forged
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.storage.session import Connection

ACCUSED: Final = 1000  # forged rows that one process remembers; more are refused all the same, and not told of


async def leave(
    vault: Vault,
    connection: Connection,
    tag: Tag,
    actor: str,
    detail: Detail,
    subject: UUID | None = None,
    entry_id: UUID | None = None,
) -> UUID:
    """Puts the entry beside the other rows of the transaction; answers its id. With `subject`, its salt is kept with the person."""
    now = vault.clock.now()
    entry = Entry(
        entry_id=entry_id or uuid7(now), at=now, tag=tag, actor=actor, policy=vault.policy.number, detail=detail
    )
    await append(connection, entry, vault.keyring.key(names.JOURNAL), subject)
    return entry.entry_id


@asynccontextmanager
async def accusing(vault: Vault) -> AsyncIterator[None]:
    """A forged row found inside is told of in the audit log, once a process and row; the error goes on."""
    try:
        yield
    except Forged as error:
        if (error.what, error.row) not in vault.forged and len(vault.forged) < ACCUSED:
            vault.forged.add((error.what, error.row))
            vault.log.warning("integrity.failed", check=error.what)
            async with vault.database.begin() as connection:
                await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, "vault", {"check": error.what})
        raise
