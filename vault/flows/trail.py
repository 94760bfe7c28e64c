"""One audit entry, left in the transaction of what it speaks of. A person stands in it as a salted digest only."""

from uuid import UUID

from vault.audit.entry import Detail, Entry, Tag
from vault.audit.store import append
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.storage.session import Connection


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
