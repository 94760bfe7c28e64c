"""Which life of the database this is. Part of every cursor: one of an earlier life answers 410 (threat H20).

A new life begins when the database may have lost what it once told: another server, or another timeline (a standby was
promoted, or a backup restored to a point in time). Both are seen by themselves at start. A copy of the files put back
shows neither: then the audit head shows it, and accepting the loss begins a new life too, as does a process that ran
meanwhile and knows that the files were newer (`vault.flows.failover`).
"""

from typing import Final

from vault.errors import ConfigError
from vault.ids import random_bytes
from vault.storage.session import Connection, Raw, raw

NAME: Final = "incarnation"
ORIGIN: Final = "incarnation_origin"  # the server and timeline that it was made on

_READ: Final = "SELECT value FROM instance WHERE name = $1"
_WRITE: Final = """
INSERT INTO instance (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
# The first eight digits of a WAL file's name are the timeline. The database's own id tells a copied database apart.
_ORIGIN: Final = """
SELECT (SELECT system_identifier FROM pg_control_system()) || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def incarnation(connection: Connection, *, owner: bool = True) -> str:
    """32 hex digits. Begins a new life if server, timeline or database differ from those of the last start.

    Call inside a transaction, once at start. Only the `owner` of the database, or its desk, may begin one: raises
    `ConfigError` for others.
    """
    driver = await raw(connection)
    origin: str = await driver.fetchval(_ORIGIN)
    known: str | None = await driver.fetchval(_READ, ORIGIN)
    if known != origin:
        if not owner:
            raise ConfigError(
                "this database is another one since the last start; run `profile-vault keys init` once, first"
            )
        known = await driver.fetchval(_READ + " FOR UPDATE", ORIGIN)
        if known is not None and known != origin:
            await renew(connection)
        await driver.execute(_WRITE, ORIGIN, origin)
    return await current(driver)


async def current(driver: Raw) -> str:
    """The life that the database lives now."""
    name: str = await driver.fetchval(_READ, NAME)
    return name


async def renew_from(connection: Connection, known: str) -> str:
    """The life after `known`: begun here, unless another process began it. Call inside a transaction."""
    driver = await raw(connection)
    now: str = await driver.fetchval(_READ + " FOR UPDATE", NAME)
    return await renew(connection) if now == known else now


async def renew(connection: Connection) -> str:
    """Begins a new life: every cursor given so far is gone."""
    driver = await raw(connection)
    name = random_bytes(16).hex()
    await driver.execute(_WRITE, NAME, name)
    return name
