"""Says in the audit log that a person's rows do not agree, for doors that then answer nothing of them (promise 3).

Pages and lookups say it in the entry of what they did release (`flows.release.record`); what opens nothing says it here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from vault.audit.entry import Tag
from vault.errors import Unreadable
from vault.flows.trail import leave
from vault.flows.vault import Vault


@asynccontextmanager
async def accusing(vault: Vault, actor: str, subject: UUID) -> AsyncIterator[None]:
    """What runs inside reads this person: if their rows do not agree, that is on record before the error goes on."""
    try:
        yield
    except Unreadable:
        await accuse(vault, actor, subject)
        raise


async def accuse(vault: Vault, actor: str, subject: UUID) -> None:
    """One entry."""
    async with vault.database.begin() as connection:
        await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, actor, {"check": "profile"}, subject)
