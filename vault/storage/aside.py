"""A second PostgreSQL server, spoken to from threads: for what must not lie in the vault's own database.

One connection, made anew when it is lost, in an event loop of its own; one piece of work at a time. Promises: every call
ends within its patience, whether the server is gone, hangs or holds a lock; afterwards nobody gets a connection of which it
is not known how it stands. The server is found fit as the vault's own is, each time. Errors carry a SQLSTATE at most.
Shows nothing of its URL. Knows no table.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from vault.errors import ConfigError, Unavailable, VaultError
from vault.storage.fitness import check_server
from vault.storage.session import DATABASE_ERRORS, Raw, scrubbed, sqlstate

PATIENCE: Final = 5.0  # seconds for one piece of work, connecting included: an act waits for it
LEAVE: Final = 2.0  # seconds for a connection to be closed in order
# What the server itself ends, so that no lock outlives a process that was stopped in the middle.
SESSION: Final = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "4s",
    "timezone": "UTC",
    "synchronous_commit": "on",  # a statement's answer is its flush, whatever server or role say
}

_Answer = TypeVar("_Answer")
Job = Callable[[Raw], Awaitable[_Answer]]


class Whereabouts(NamedTuple):
    """Which cluster, and which database of it."""

    cluster: int
    database: int


class Aside:
    """The way to one database of a second server. Safe to use from any thread."""

    def __init__(self, url: str, *, name: str, code: str, patience: float = PATIENCE) -> None:
        """`name` is how sessions and errors call it, `code` that of its errors. `patience`: seconds for a piece of work.

        Raises `ConfigError` for what is no URL.
        """
        try:
            dialect: Any = PGDialect_asyncpg  # whose methods have no types
            _, self._arguments = dialect().create_connect_args(make_url(url))
        except (ArgumentError, ValueError):
            raise ConfigError(f"the URL of the {name} is not one") from None
        self.name = name
        self._code = code
        self._patience = patience
        self._connection: Any = None
        self._fit = False  # once it was, a later misfit is an outage: a person must look, and no act may pass
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"aside:{name}", daemon=True)
        self._thread.start()

    def run(self, job: Job[_Answer], patience: float | None = None) -> _Answer:
        """Does the work on the connection, behind what is under way. Raises what it raises, and `Unavailable`.

        A server that is not fit is a `ConfigError` at first and `Unavailable` later.
        """
        return self._do(self._in_turn(job, self._patience if patience is None else patience))

    def once(self, job: Job[_Answer], patience: float) -> _Answer:
        """As `run`, on a connection of its own, beside what else is done: for what takes long."""
        return self._do(self._alone(job, patience))

    def close(self) -> None:
        """Closes the connection and ends the loop. A second call does nothing."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(2 * LEAVE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- within the loop --------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        if self._loop.is_closed():
            work.close()
            raise Unavailable(f"the {self.name} was closed", code=self._code)
        return asyncio.run_coroutine_threadsafe(self._scrubbed(work), self._loop).result()

    async def _scrubbed(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        state = ""
        try:
            return await work
        except DATABASE_ERRORS as error:
            state = sqlstate(error) or ""
            scrubbed(error)  # its text may stay in tracebacks
        except (OSError, TimeoutError):
            pass
        more = f" (SQLSTATE {state})" if state else ""
        raise Unavailable(f"the {self.name} does not answer as it should{more}", code=self._code) from None

    async def _in_turn(self, job: Job[_Answer], patience: float) -> _Answer:
        until = self._loop.time() + patience
        async with asyncio.timeout_at(until):
            await self._turn.acquire()
        try:
            if self._connection is None or self._connection.is_closed():
                async with asyncio.timeout_at(until):
                    self._connection = await self._connect()
            return await self._guarded(self._connection, job, until)
        finally:
            self._turn.release()

    async def _alone(self, job: Job[_Answer], patience: float) -> _Answer:
        until = self._loop.time() + patience
        async with asyncio.timeout_at(until):
            connection = await self._connect()
        try:
            return await self._guarded(connection, job, until)
        finally:
            connection.terminate()

    async def _guarded(self, connection: Any, job: Job[_Answer], until: float) -> _Answer:
        """The job's answer. In doubt the connection goes first: what hangs on it, a ROLLBACK too, then ends at once."""
        task = asyncio.ensure_future(job(connection))
        try:
            await asyncio.wait({task}, timeout=max(0.0, until - self._loop.time()))
        finally:
            if not task.done():
                connection.terminate()
                task.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=LEAVE)
            raise TimeoutError
        error = task.exception()
        if error is not None and (not isinstance(error, VaultError | ValueError) or connection.is_in_transaction()):
            connection.terminate()
        return task.result()

    async def _connect(self) -> Any:
        settings = {**SESSION, "application_name": f"profile-vault {self.name}"}
        try:
            connection = await asyncpg.connect(
                **self._arguments, server_settings=settings, target_session_attrs="primary", statement_cache_size=32
            )
        except (TypeError, ValueError):  # its text repeats what was given
            raise ConfigError(f"the URL of the {self.name} has a part that is not known") from None
        try:
            await check_server(connection)
        except ConfigError as error:
            connection.terminate()
            if self._fit:
                raise Unavailable(f"the {self.name} is not fit any more: {error.hint}", code=self._code) from None
            raise ConfigError(f"the {self.name}: {error.hint}") from None
        except BaseException:
            connection.terminate()
            raise
        self._fit = True
        return connection

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if self._connection is not None:
            try:
                await self._connection.close(timeout=LEAVE)
            except (OSError, TimeoutError, *DATABASE_ERRORS):
                self._connection.terminate()
        await asyncio.gather(*others, return_exceptions=True)

    def __repr__(self) -> str:
        return f"Aside({self.name})"


async def whereabouts(connection: Raw) -> Whereabouts:
    """Where this connection leads, so that two that lead to one place are known as such. A copied cluster counts as the same."""
    row = await connection.fetchrow(
        "SELECT system_identifier AS cluster, (SELECT oid FROM pg_database WHERE datname = current_database()) AS database"
        " FROM pg_control_system()"
    )
    return Whereabouts(int(row["cluster"]), int(row["database"]))
