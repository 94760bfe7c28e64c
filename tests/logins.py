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


async def superuser(url: str) -> asyncpg.Connection:
    """A connection of the test's own, past the vault: as the superuser of the server."""
    parsed = make_url(url)
    return await asyncpg.connect(host=parsed.query["host"], user=parsed.username, database=parsed.database)


async def login_for(url: str, parts: Iterable[str]) -> str:
    """The URL by which a process of these parts connects, its groups granted as `keys init` grants them."""
    mine = sorted(parts)
    name = "t_" + "_".join(mine)
    connection = await superuser(url)
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(logins.groups() + logins.login(name, mine))
    finally:
        await connection.close()
    database = await Database.open(url)
    try:
        await migrate(database)
    finally:
        await database.close()
    return make_url(url).set(username=name).render_as_string(hide_password=False)
