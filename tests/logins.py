"""Roles of PostgreSQL for tests: each process connects as the login that `profile-vault database login` would make for it.

    url = await login_for(database_url, {"feed"})

Roles belong to the whole server, which the tests of a run share: they are made if they are not there, and never dropped.
"""

from collections.abc import Iterable
from typing import Final

import asyncpg
from sqlalchemy.engine import make_url

from vault.storage import logins
from vault.storage.migrate import migrate
from vault.storage.session import Database

_LOCK: Final = "SELECT pg_advisory_xact_lock(4711)"  # tests of other processes make the same roles
_made: Final[set[tuple[str, str]]] = set()  # server and login: none is ever dropped


async def superuser(url: str) -> asyncpg.Connection:
    """A connection of the test's own, past the vault: as the superuser of the server."""
    parsed = make_url(url)
    return await asyncpg.connect(host=parsed.query["host"], user=parsed.username, database=parsed.database)


async def login_for(url: str, parts: Iterable[str]) -> str:
    """The URL by which a process of these parts connects, its groups granted as `keys init` grants them."""
    known = await made_for(url, parts)
    database = await Database.open(url)
    try:
        await migrate(database)
    finally:
        await database.close()
    return known


async def made_for(url: str, parts: Iterable[str]) -> str:
    """As `login_for`, where whoever opens the database grants: only the login is made."""
    mine = sorted(parts)
    name = "t_" + "_".join(mine)
    parsed = make_url(url)
    if (known := (str(parsed.query["host"]), name)) not in _made:
        connection = await superuser(url)
        try:
            async with connection.transaction():
                await connection.execute(_LOCK)
                if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name):
                    await connection.execute(logins.groups() + logins.login(name, mine))
        finally:
            await connection.close()
        _made.add(known)
    return parsed.set(username=name).render_as_string(hide_password=False)
