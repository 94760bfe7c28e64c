"""Pools of connections to one server, each of them looked at when it is made: is it still the server that was found at first?

A standby that was promoted, another database behind the same address, a copy of the files put back: the server was started
since, or is another one. Promises: what was made on another server than the first is given to nobody, and from then on no
connection at all (`Ground.check`): a process that ran on would decide on a database that forgot (threats D14, H20). Costs a
statement for each connection, and nothing for those that use it. Knows no table. ADR 0143.
"""

import asyncio
import math
import time
from typing import Any, Final, NamedTuple, Protocol

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from vault.errors import ConfigError, Unavailable

RESTED: Final = 1.0  # seconds after which a connection is asked whether it still lives
POOL_WAIT: Final = 10  # seconds until a caller is told that the vault is busy
CONNECT_TIMEOUT: Final = 15  # seconds
REPLACED: Final = "database_replaced"
SESSION: Final = {
    "application_name": "profile-vault",
    "idle_in_transaction_session_timeout": "60s",  # a stopped process must not hold row locks for ever (threat H21)
    "statement_timeout": "300s",
    "lock_timeout": "30s",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",  # compiling costs more than any statement here takes
    "timezone": "UTC",
}
_SINCE: Final = "since"
# The first eight digits of a WAL file's name are the timeline. A standby fails here: it has no place to write at.
_PLACE: Final = """
SELECT (SELECT system_identifier FROM pg_control_system())::text, left(pg_walfile_name(pg_current_wal_flush_lsn()), 8),
    (SELECT oid FROM pg_database WHERE datname = current_database())::bigint,
    (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
    (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
"""


class Place(NamedTuple):
    """A server by its files, its timeline, the database there and its start; and how far its log was durable."""

    server: str
    timeline: str
    database: int
    started: int
    written: int

    def same(self, other: "Place") -> bool:
        """True for one run of one server: what was acknowledged is there."""
        return self[:4] == other[:4]

    def before(self, other: "Place") -> bool:
        """True if these are files of the same life as `other`, and older: somebody put back a copy."""
        return self[:3] == other[:3] and self.written < other.written


class _Asks(Protocol):
    async def fetchrow(self, query: str) -> Any: ...


class Ground:
    """The server under the pools of a process, as the first connection found it."""

    def __init__(self) -> None:
        """Nothing was found yet."""
        self.place: Place | None = None
        self.replaced = asyncio.Event()

    @property
    def started(self) -> int | None:
        """When the server was started, as it says itself."""
        return None if self.place is None else self.place.started

    def check(self) -> None:
        """Raises `Unavailable` once a connection came to another server."""
        if self.replaced.is_set():
            raise replaced()

    async def look(self, driver: _Asks) -> None:
        """Compares the server of this connection with the first one. Raises as `check`."""
        found = Place(*await driver.fetchrow(_PLACE))
        known = self.place
        if known is not None and not found.same(known):
            self.replaced.set()
        self.check()
        if known is None or found.written > known.written:
            self.place = found

    async def connect(self, *args: Any, **options: Any) -> Any:
        """A connection of the driver, looked at."""
        driver = await asyncpg.connect(*args, **options)
        try:
            await self.look(driver)
        except BaseException:
            driver.terminate()
            raise
        return driver

    def __repr__(self) -> str:
        return "Ground()"


def replaced() -> Unavailable:
    """What is told to who asks meanwhile."""
    return Unavailable(
        "the database was restarted or replaced: nothing is served on it until the journal was compared with it",
        code=REPLACED,
    )


def make_pool(url: str, kept: int, most: int, ground: Ground | None = None) -> AsyncEngine:
    """Connections by this URL, `kept` of them open when nobody uses them. Raises `ConfigError` for what is no URL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("database_url is not a URL") from None
    engine = create_async_engine(
        parsed.set(drivername="postgresql+asyncpg"),
        # Transactions are begun and ended here, on the asyncpg connection, so that Core and raw statements share them.
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_size=kept,
        max_overflow=most - kept,
        pool_timeout=POOL_WAIT,
        connect_args={
            "server_settings": SESSION,
            "timeout": CONNECT_TIMEOUT,
            "target_session_attrs": "read-write",
            "async_creator_fn": (ground or Ground()).connect,
        },
    )
    event.listen(engine.sync_engine, "checkin", _rests)
    event.listen(engine.sync_engine, "checkout", _still_there)
    return engine


def _rests(_dbapi_connection: Any, record: Any) -> None:
    record.info[_SINCE] = time.monotonic()


def _still_there(dbapi_connection: Any, record: Any, _fairy: Any) -> None:
    """A connection that is known to be gone, or that rested and does not answer, is replaced by the pool.

    Asking each time would be a round trip before every statement; a server that went away closes what it had open, and
    that is seen without asking.
    """
    if record.driver_connection.is_closed():
        raise DisconnectionError
    if time.monotonic() - record.info.get(_SINCE, math.inf) > RESTED:
        try:
            dbapi_connection.ping()
        except Exception:  # noqa: BLE001 (whatever it is, the connection is not to be used)
            raise DisconnectionError from None
