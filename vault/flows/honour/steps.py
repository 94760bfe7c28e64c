"""One step of a request: taken by one worker only, in one transaction that ends by moving the request on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.audit.entry import Tag
from vault.audit.store import said
from vault.clock import Micros
from vault.errors import NotFound, Unreadable
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names
from vault.policy.actors import Actor
from vault.rights import store
from vault.rights.request import State, Step
from vault.rights.store import Request, Transaction

OPENED: Final = "opened"
"""In `detail`: the id of the audit entry with which the request began."""
MEMBERS: Final = "members"
"""In `detail`: the subjects that were erased. The table `erased` says so too, and anyone with the database may add to it."""
OWED: Final = "owed"
"""In `detail`: who has to be told, as [destination, root, deadline]: a deleted notice is still owed."""
JOURNAL: Final = Actor("operator", "journal")
"""Who opens an erasure that a restored database has lost (`again`)."""
NOBODY: Final = UUID(int=0)
"""`opened_by` of such a request."""
ACCUSED: Final = 1000  # forged requests that one process names; more of them say nothing more


class Taken(Exception):
    """Another worker has taken this step. Nothing was written."""


class Taking:
    """A step in hand: the transaction, and the request as it is now."""

    def __init__(self, connection: Transaction, request: Request, key: bytes) -> None:
        """Made by `take`."""
        self.connection = connection
        self.request = request
        self._key = key

    async def move(
        self,
        step: Step,
        *,
        state: State | None = None,
        detail: Mapping[str, Any] | None = None,
        finished_at: Micros | None = None,
    ) -> None:
        """The last thing in the transaction: the request goes on to `step`."""
        key = self._key
        await store.move(self.connection, self.request, step, key, state=state, detail=detail, finished_at=finished_at)

    def forgotten(self) -> None:
        """The person was taken out of the request's row in this transaction."""
        self.request = msgspec.structs.replace(self.request, subject_id=None)

    def __repr__(self) -> str:
        return f"Taking({self.request.step})"


@asynccontextmanager
async def take(vault: Vault, before: Request) -> AsyncIterator[Taking]:
    """The transaction of one step. Raises `Taken` if the request is no longer where `before` saw it.

    Raises `Unreadable` for a request that the audit log does not know: nobody acts in an officer's name without a trace.
    """
    key = vault.keyring.key(names.REQUEST)
    async with vault.database.begin() as connection:
        now = await store.get(connection, before.request_id, key, lock=True)
        if now is None or now.step != before.step:
            raise Taken
        await _check_opened(connection, now)
        yield Taking(connection, now, key)


async def _check_opened(connection: Transaction, request: Request) -> None:
    """The entry of its opening is there. Requests from before entries were named so have none to look for."""
    named = request.detail.get(OPENED)
    if named is None:
        return
    entry = await said(connection, UUID(named))
    if (
        entry is None
        or entry.tag is not Tag.RIGHTS_REQUEST_OPENED
        or entry.detail.get("request") != str(request.request_id)
    ):
        raise Unreadable


async def read(vault: Vault, request_id: UUID) -> Request:
    """The request as it stands. Raises `NotFound`; `Unreadable` for one that nobody here wrote, which is audited."""
    try:
        async with vault.database.begin() as connection:
            found = await store.get(connection, request_id, vault.keyring.key(names.REQUEST))
    except Unreadable:
        await accuse(vault, request_id)
        raise
    if found is None:
        raise NotFound
    return found


async def accuse(vault: Vault, request_id: UUID) -> None:
    """Says in the audit log that a request's row is not to be believed; once in the life of a process."""
    if request_id in vault.accused or len(vault.accused) >= ACCUSED:
        return
    vault.accused.add(request_id)
    async with vault.database.begin() as connection:
        await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, "vault", {"request": str(request_id)})


def members_of(request: Request) -> list[UUID] | None:
    """The subjects that an erasure has erased; None for one from before they stood on the request."""
    named = request.detail.get(MEMBERS)
    return None if named is None else [UUID(one) for one in named]


async def key_of(vault: Vault, name: str) -> bytes:
    """The key of one request by its name, made if there is none: a step that is taken again finds its own.

    Call with the step in hand (`take`), so that two workers do not make one each. Raises `Unavailable`.
    """

    def made() -> bytes:  # in a thread, since it waits for the disk and for the key service
        if vault.keystore.stamp_of(name) is None:
            vault.keyring.make(name)
        return vault.keyring.key(name)

    return await asyncio.to_thread(made)


async def passing_key(vault: Vault, name: str) -> bytes:
    """The key of one request, which must be there; asked of the key service each time. Raises `Unavailable`."""
    return await asyncio.to_thread(vault.keyring.key, name)


async def destroy_key(vault: Vault, name: str) -> None:
    """Destroys it; what is gone already is no error."""
    await asyncio.to_thread(vault.keyring.destroy, name)


def officer_of(request: Request) -> str:
    """How the audit log names whoever opened the request."""
    return JOURNAL.label if request.opened_by == NOBODY else f"staff:{request.opened_by}"
