"""One journey stands still before its k-th statement while another runs to its end, or to a lock: no sleep decides anything.

    names = await turnstile.run(vault, None, main)                  every boundary of `main`, by name
    ended = await turnstile.run(vault, 7, main, other)              `main` stands at boundary 7 while `other` runs

A boundary lies before each statement that goes to the database, commits among them, and before each word to the journal.
`install` puts them in place before the vault opens its connections.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from asyncpg.connection import Connection

from tests.faults.boundary import OWN, _Protocol
from vault.errors import VaultError
from vault.flows.vault import Vault

PATIENCE: Final = 60.0  # seconds until a journey that neither ends nor waits for a lock is a fault
_WAITING: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
_NUMBERS: Final = re.compile(r"[0-9a-f]{8,}|\d+")

Journey = Callable[[], Awaitable[Any]]


class Ended(NamedTuple):
    """How a run went. `main` and `other` are what they answered, or the vault's error that they ended with."""

    names: list[str]
    stood: bool  # the boundary was reached
    waited: bool  # the other had to wait until `main` went on
    main: Any
    other: Any


class Turnstile:
    """What stands between a connection and its server."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.standing = asyncio.Event()
        self._go = asyncio.Event()
        self._at: int | None = None
        self._held: ContextVar[bool] = ContextVar("held", default=False)

    async def around(self, what: str, send: Callable[[], Awaitable[Any]], _backend: Callable[[], int]) -> Any:
        """A statement, as `tests.faults.boundary` asks."""
        if not what.startswith(OWN):
            await self.reach(what)
        return await send()

    async def reach(self, name: str) -> None:
        """One boundary of whoever is held."""
        if not self._held.get():
            return
        self.names.append(_NUMBERS.sub("*", name))
        if len(self.names) - 1 == self._at:
            self.standing.set()
            await self._go.wait()

    async def run(self, vault: Vault, at: int | None, main: Journey, other: Journey | None = None) -> Ended:
        """`main` to boundary `at`; then `other`, to its end or to a lock; then both."""
        self.names, self._at = [], at
        self.standing.clear()
        self._go.clear()
        first = asyncio.create_task(self._main(vault, main))
        reached = asyncio.create_task(self.standing.wait())
        await asyncio.wait({first, reached}, return_when=asyncio.FIRST_COMPLETED)
        stood, waited = self.standing.is_set(), False
        reached.cancel()
        second = None if other is None else asyncio.create_task(_ended(other))
        if second is not None and stood:
            waited = await _to_its_end_or_a_lock(vault, second)
        self._go.set()
        async with asyncio.timeout(PATIENCE):
            return Ended(list(self.names), stood, waited, await first, None if second is None else await second)

    async def _main(self, vault: Vault, main: Journey) -> Any:
        self._held.set(True)
        whole = vault.journal.append

        async def append(entries: Any) -> int:
            await self.reach("journal")
            return await whole(entries)

        vault.journal.append = append  # type: ignore[method-assign]
        try:
            return await _ended(main)
        finally:
            vault.journal.append = whole  # type: ignore[method-assign]


async def _ended(journey: Journey) -> Any:
    try:
        return await journey()
    except VaultError as error:
        return error


async def _to_its_end_or_a_lock(vault: Vault, task: "asyncio.Task[Any]") -> bool:
    deadline = time.monotonic() + PATIENCE
    async with vault.database.hot() as looking:
        while not task.done():
            if await looking.fetchval(_WAITING):
                return True
            assert time.monotonic() < deadline, "it neither ended nor waited for a lock"
    return False


@contextmanager
def install() -> Iterator[Turnstile]:
    """Every connection that is made inside the block goes through it."""
    turnstile = Turnstile()
    made = Connection.__init__

    def connected(self: Any, protocol: Any, *rest: Any, **more: Any) -> None:
        made(self, protocol, *rest, **more)
        self._protocol = _Protocol(protocol, turnstile)  # type: ignore[arg-type]

    Connection.__init__ = connected
    try:
        yield turnstile
    finally:
        Connection.__init__ = made
