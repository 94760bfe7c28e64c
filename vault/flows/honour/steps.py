"""One step of a request: taken by one worker only, in one transaction that ends by moving the request on."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from vault.clock import Micros
from vault.errors import NotFound, Unavailable
from vault.flows.vault import Vault
from vault.rights import store
from vault.rights.request import State, Step
from vault.rights.store import Request, Transaction


class Taken(Exception):
    """Another worker has taken this step. Nothing was written."""


class Taking:
    """A step in hand: the transaction, and the request as it is now."""

    def __init__(self, connection: Transaction, request: Request) -> None:
        """Made by `take`."""
        self.connection = connection
        self.request = request

    async def move(
        self,
        step: Step,
        *,
        state: State | None = None,
        detail: Mapping[str, Any] | None = None,
        finished_at: Micros | None = None,
    ) -> None:
        """The last thing in the transaction: the request goes on to `step`."""
        await store.move(self.connection, self.request, step, state=state, detail=detail, finished_at=finished_at)

    def __repr__(self) -> str:
        return f"Taking({self.request.step})"


@asynccontextmanager
async def take(vault: Vault, before: Request) -> AsyncIterator[Taking]:
    """The transaction of one step. Raises `Taken` if the request is no longer where `before` saw it."""
    async with vault.database.begin() as connection:
        now = await store.get(connection, before.request_id, lock=True)
        if now is None or now.step != before.step:
            raise Taken
        yield Taking(connection, now)


async def read(vault: Vault, request_id: UUID) -> Request:
    """The request as it stands. Raises `NotFound`."""
    async with vault.database.begin() as connection:
        found = await store.get(connection, request_id)
    if found is None:
        raise NotFound
    return found


def key_of(vault: Vault, name: str) -> bytes:
    """The key of one request by its name, made if there is none: a step that is taken again finds its own.

    Call with the step in hand (`take`), so that two workers do not make one each.
    """
    with suppress(Unavailable):
        return vault.keyring.key(name)
    vault.keyring.make(name)
    return vault.keyring.key(name)


def officer_of(request: Request) -> str:
    """How the audit log names whoever opened the request."""
    return f"staff:{request.opened_by}"
