"""A running process whose database was replaced: by a promoted standby, by an older copy, by a restart of its server.

Promises: from the first connection to another server on, nothing is asked of it, and the vault is opened anew within the
same process, as a start is: the journal is compared, what was lost is taken away again, and only then it serves (threats
C9, D14, H11). Where the database may have forgotten what it told, a new life of it begins, and cursors are gone (H20).
The first connection is the next that anybody needs, or the one that is made each `LOOKING` seconds. ADR 0143.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from vault.changes.incarnation import current, renew_from
from vault.errors import ConfigError, VaultError
from vault.flows.vault import Vault
from vault.keys.roles import DESK, REQUESTS
from vault.storage.pool import REPLACED, Place, replaced

__all__ = ["REPLACED", "Known", "begin_life", "known_of", "look_on", "renews", "replaced", "while_whole"]

LOOKING: Final = 2.0  # seconds; a pooler may lead elsewhere without any connection of ours that ends

_Answer = TypeVar("_Answer")


class Known(NamedTuple):
    """What a process knew of its database before it was replaced."""

    place: Place
    incarnation: str


def known_of(vault: Vault) -> Known | None:
    """To be kept for the next `open_vault` of this process."""
    place = vault.database.ground.place
    return None if place is None else Known(place, vault.incarnation)


def renews(vault: Vault) -> bool:
    """Whether this process may begin a new life of the database."""
    return vault.database.standing.owner or not vault.role.parts.isdisjoint((DESK, REQUESTS))


async def begin_life(vault: Vault, known: Known) -> None:
    """Begins a new life if the files are older than those that were known, or the journal knew more than they did.

    One of several processes does it, the others take it over. Raises `ConfigError` in one that may not, until it is done.
    """
    place = vault.database.ground.place
    lost = vault.replayed is not None and vault.replayed.anything
    if place is None or not (lost or place.before(known.place)):
        return
    async with vault.database.begin() as connection:
        if renews(vault):
            vault.incarnation = await renew_from(connection, known.incarnation)
        elif vault.incarnation == known.incarnation:
            raise ConfigError(
                "an older copy of the database was put back, and this process may not begin its new life: a process with"
                " the door `desk`, or with every key, does that; restart this one if none was running"
            )


async def look_on(vault: Vault) -> None:
    """Looks, until cancelled, whether the address still leads to the same database, and whether that lives the same life."""
    while True:
        await asyncio.sleep(LOOKING)
        with suppress(VaultError):  # it does not answer; or it was replaced, and everybody is told
            async with vault.database.anew() as driver:
                if await current(driver) != vault.incarnation:
                    vault.database.ground.replaced.set()


async def while_whole(vault: Vault, journey: Awaitable[_Answer]) -> _Answer:
    """The answer of `journey`. Raises `Unavailable` (code `database_replaced`) once that is so: then open the vault anew."""
    working = asyncio.ensure_future(journey)
    watching = asyncio.create_task(vault.database.ground.replaced.wait())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise replaced()
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
