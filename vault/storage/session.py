"""The engine and its transactions. The one place that turns database errors into errors without values.

Three ways in, and no other:
- `begin()`: a transaction, as a SQLAlchemy connection. `raw(conn)` gives the asyncpg connection of the same transaction.
- `snapshot()`: a read-only transaction that sees one moment, as an asyncpg connection.
- `hot()`: an asyncpg connection for single statements that commit by themselves.

Promises: what leaves as an error is `Conflict` (code `conflict`, or `retry` where the same work may succeed again) or
`Unavailable`, with a SQLSTATE at most: PostgreSQL repeats key values in its messages (threats, ruling 6). A cancelled or
broken transaction never hands its connection to the next (threat H10). Once the server was replaced, nothing goes there
(`pool.Ground`). Knows no table.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, Self, runtime_checkable
from uuid import uuid4

import asyncpg
from sqlalchemy.exc import EmulatedDBAPIException, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from vault.config import Settings
from vault.errors import Conflict, Unavailable, VaultError
from vault.storage import embedded
from vault.storage.fitness import check_server
from vault.storage.pool import Ground, make_pool

CONNECTIONS: Final = 24  # of one process, at most
RESERVED: Final = 10  # of them, for what runs inside `reserved()`
KEPT: Final = 8  # of the others, that stay open when nobody uses them
CONFLICTS: Final = frozenset({"23505", "23503", "23514", "23502", "23P01"})  # constraint violations
RETRIES: Final = frozenset(
    {"40001", "40P01", "55P03"}
)  # serialization, deadlock, lock timeout: the same work may succeed
FULL: Final = "database_full"
FULL_STATES: Final = frozenset({"53100", "58030"})  # no space on its disk, or an error of the disk
REMEMBERED: Final = 30.0  # seconds that health tells of it
DATABASE_ERRORS: Final = (
    SQLAlchemyError,
    EmulatedDBAPIException,  # what its pool lets through when a connection cannot be made
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,  # the server went away in the middle
)

# At DEBUG the engine's logger prints result rows; no level of the application's log may turn that on (threat H16).
logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)

_reserved: ContextVar[bool] = ContextVar("reserved", default=False)


@contextmanager
def reserved() -> Iterator[None]:
    """What runs inside uses connections that nothing else may take: choices, requests of people, staff, health."""
    token = _reserved.set(True)
    try:
        yield
    finally:
        _reserved.reset(token)


@runtime_checkable
class Raw(Protocol):
    """What is used of an asyncpg connection (the package has no types of its own)."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The command's status."""
        ...

    async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None:
        """One command for many sets of arguments."""
        ...

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """The first row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """One value of the first row, or None."""
        ...

    async def copy_from_query(self, query: str, *, output: Callable[[bytes], Awaitable[None]], format: str) -> str:  # noqa: A002 - as the driver names it
        """The rows of a query as the server sends them, block by block."""
        ...

    def transaction(self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False) -> Any:
        """A transaction, not begun yet."""
        ...

    def is_in_transaction(self) -> bool:
        """Whether one is open."""
        ...


Connection = AsyncConnection | Raw


class Standing(NamedTuple):
    """What the role of a connection is and may do, against what the parts of its process need (`storage.grants`)."""

    owner: bool  # a superuser, or who owns tables: may do everything
    excess: tuple[str, ...] = ()  # a phrase each; empty for a role that has what it needs and no more
    missing: tuple[str, ...] = ()  # as `INSERT on change_in`; empty for an owner
    maintains: bool = (
        True  # may vacuum all that erasures delete from: an owner, or the duty `requests` from PostgreSQL 17 on
    )


class Database:
    """A pool of connections to one primary server that was found fit. Shows nothing of its URL."""

    def __init__(
        self,
        engine: AsyncEngine,
        reserve: AsyncEngine,
        fresh: AsyncEngine,
        ground: Ground,
        server: embedded.Server | None = None,
    ) -> None:
        """`server` is the embedded one that this process holds, if any. Use `connect`."""
        self._fresh = fresh
        self.ground = ground
        self.engine = engine
        self.reserve = reserve
        self.holder = uuid4()  # this process's name in leases
        self.standing = Standing(owner=True)  # of the role by which it connects; looked at by `vault.bootstrap`
        self._server = server
        self._full_at: float | None = None

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Start or join the embedded server, or reach the one that `database_url` names. Checks that it is fit.

        Raises `ConfigError` for what a person must change, `Unavailable` for a server that does not answer.
        """
        connections = settings.limits.database_connections
        if settings.database_url is not None:
            return await cls.open(settings.database_url, connections=connections)
        server = await asyncio.to_thread(embedded.start, settings.data_dir)
        try:
            return await cls.open(server.url(), server=server, connections=connections)
        except BaseException:
            await asyncio.to_thread(server.release)
            raise

    @classmethod
    async def open(cls, url: str, *, server: embedded.Server | None = None, connections: int = CONNECTIONS) -> Self:
        """As `connect`, by URL. At most so many connections, and for a moment one more, to look where the address leads."""
        common = max(1, connections - RESERVED)
        ground = Ground()
        sizes = ((min(KEPT, common), common), (1, min(RESERVED, connections)), (1, 1))
        engine, reserve, fresh = (make_pool(url, kept, most, ground) for kept, most in sizes)
        database = cls(engine, reserve, fresh, ground, server)
        try:
            async with database.hot() as connection:
                await check_server(connection)
        except BaseException:
            await database._dispose()
            raise
        return database

    async def close(self) -> None:
        """Give back every connection, and the embedded server if this process was its last holder."""
        await self._dispose()
        if self._server is not None:
            await asyncio.to_thread(self._server.release)

    async def _dispose(self) -> None:
        for engine in (self.engine, self.reserve, self._fresh):
            await engine.dispose()

    @property
    def fault(self) -> str | None:
        """The code of what kept the server from writing lately; None when nothing did. Forgotten after a while."""
        return FULL if self._full_at is not None and time.monotonic() - self._full_at < REMEMBERED else None

    def in_use(self) -> dict[str, int]:
        """How many connections are lent out now, by pool."""
        pools = {"common": self.engine.pool, "reserved": self.reserve.pool}
        return {name: pool.checkedout() for name, pool in pools.items() if isinstance(pool, QueuePool)}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, undone by any error. Its reads see what others commit meanwhile."""
        async with self._checkout() as (connection, driver), _transaction(driver.transaction()):
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Raw]:
        """A read-only transaction in which every statement sees the same moment."""
        async with (
            self._lent() as driver,
            _transaction(driver.transaction(isolation="repeatable_read", readonly=True)),
        ):
            yield driver

    @asynccontextmanager
    async def hot(self) -> AsyncIterator[Raw]:
        """A connection on which every statement is a transaction of its own."""
        async with self._lent() as driver:
            yield driver

    @asynccontextmanager
    async def anew(self) -> AsyncIterator[Raw]:
        """As `hot`, on a connection that is made now and closed afterwards: it shows where the address leads."""
        try:
            async with self._lent(self._fresh) as driver:
                yield driver
        finally:
            await asyncio.shield(self._fresh.dispose())

    @asynccontextmanager
    async def _checkout(self) -> AsyncIterator[tuple[AsyncConnection, Raw]]:
        """A connection for Core, and the driver's own underneath."""
        with self._faults():
            self.ground.check()
            with _unreachable():
                connection = await self._pool.connect()
            try:
                driver = await raw(connection)
                async with _whole(driver, connection.invalidate):
                    yield connection, driver
            finally:
                await asyncio.shield(connection.close())

    @asynccontextmanager
    async def _lent(self, engine: AsyncEngine | None = None) -> AsyncIterator[Raw]:
        """The driver's connection alone: what Core would wrap around it costs more than most statements."""
        with self._faults():
            self.ground.check()
            with _unreachable():
                pooled: Any = await (engine or self._pool).raw_connection()
            try:
                driver: Raw = pooled.driver_connection
                async with _whole(driver, partial(greenlet_spawn, pooled.invalidate)):
                    yield driver
            finally:
                await asyncio.shield(greenlet_spawn(pooled.close))

    @property
    def _pool(self) -> AsyncEngine:
        return self.reserve if _reserved.get() else self.engine

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What the database says leaves without values."""
        failure: VaultError
        try:
            yield
        except DATABASE_ERRORS as error:
            failure = scrubbed(error)
            if failure.reason == FULL:
                self._full_at = time.monotonic()
        else:
            return
        raise failure from None

    def __repr__(self) -> str:
        return "Database()"


async def raw(connection: Connection) -> Raw:
    """The asyncpg connection underneath: the same session, the same transaction."""
    if not isinstance(connection, AsyncConnection):
        return connection
    pooled = await connection.get_raw_connection()
    driver: Raw | None = pooled.driver_connection
    if driver is None:
        raise Unavailable(code="database_unavailable")
    return driver


def scrubbed(error: BaseException) -> VaultError:
    """The error to raise instead. The original loses its text and values too, since tracebacks keep it as context."""
    state = sqlstate(error)
    for one in _chain(error):
        _blank(one)
    if state in RETRIES:
        return Conflict(f"SQLSTATE {state}", code="retry")
    if state in CONFLICTS:
        return Conflict(f"SQLSTATE {state}")
    if state in FULL_STATES:
        return Unavailable(f"SQLSTATE {state}", code=FULL)
    return Unavailable(f"SQLSTATE {state}" if state else "", code="database_unavailable")


def sqlstate(error: BaseException) -> str | None:
    """The five letters of PostgreSQL, wherever in the chain they are."""
    for one in _chain(error):
        state = getattr(one, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    return [one for one in found if isinstance(one, DATABASE_ERRORS) or hasattr(one, "sqlstate")]


def _blank(error: BaseException) -> None:
    state = getattr(error, "sqlstate", None)
    error.args = (f"SQLSTATE {state}" if state else "database error",)
    for name, value in vars(error).items():
        if name != "sqlstate" and isinstance(value, str | bytes | list | tuple | dict):
            setattr(error, name, type(value)())  # of the same kind, so that the error can still print itself


@contextmanager
def _unreachable() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise Unavailable("Every connection to the database is in use.", code="database_busy") from None
    except (OSError, TimeoutError):  # refused, unreachable, too slow: asyncpg lets these through as they are
        raise Unavailable("The database does not answer.", code="database_unavailable") from None


@asynccontextmanager
async def _whole(driver: Raw, invalidate: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Nobody else gets a connection of which it is not known how it stands."""
    unknown = False
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        # A statement may still be on its way. If it is BEGIN, the connection does not know of it yet, and the
        # next borrower's statements, each acknowledged, would end with a transaction that nobody commits.
        unknown = True
        raise
    finally:
        if unknown or driver.is_in_transaction():
            await invalidate()


@asynccontextmanager
async def _transaction(transaction: Any) -> AsyncIterator[None]:
    await transaction.start()
    try:
        yield
    except BaseException:
        # Shielded: a second cancellation must not leave it half undone. What fails here is invalidated at check-in.
        with contextlib.suppress(Exception):
            await asyncio.shield(transaction.rollback())
        raise
    await transaction.commit()
