"""Brings a database to the newest schema: all in one transaction, one process at a time."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from vault.errors import ConfigError
from vault.storage.grants import grant
from vault.storage.session import Database, raw

FOLDER: Final = Path(__file__).parent / "migrations"
# Any number of our own. Held to the end of the transaction, so it is safe behind a pooler.
_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(7082143390617)")
_PATIENCE: Final = text("SET LOCAL statement_timeout = 0")
_CAUTION: Final = text("SET LOCAL lock_timeout = '10s'")  # rather fail than queue every reader behind a waiting ALTER


async def migrate(database: Database) -> str:
    """Runs what is missing; answers the revision that stands then. Nothing stays half done.

    Raises `ConfigError` for a database that a newer version of the vault made.
    """
    async with database.begin() as connection:
        await connection.execute(_PATIENCE)
        await connection.execute(_ONE_AT_A_TIME)
        await connection.execute(_CAUTION)
        stands = await connection.run_sync(_upgrade)
        await grant(await raw(connection))  # new tables, too, before anybody sees them
        return stands


async def revision(database: Database) -> str | None:
    """The revision of the database's schema; None for an empty database."""
    async with database.begin() as connection:
        return await connection.run_sync(_current)


def newest() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigError("this installation has no migrations")
    return head


def _upgrade(connection: Connection) -> str:
    current, wanted = _current(connection), newest()
    if current == wanted:
        return wanted
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError("a newer version of the vault made this database; install that version")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return wanted


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
