"""`migrate`: the database to the schema of this release."""

import asyncio

import rich_click as click

from vault.cli.output import emit, json_option
from vault.config import load
from vault.storage.migrate import migrate as bring_up
from vault.storage.session import Database


@click.command()
@json_option
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the database to the schema of this release. Doing it twice changes nothing.

    \b
    Example:
      PROFILE_VAULT_DATABASE_URL=postgresql://… profile-vault migrate
    """

    async def journey() -> None:
        database = await Database.connect(load())
        try:
            await bring_up(database)
        finally:
            await database.close()

    asyncio.run(journey())
    emit(ctx, {"migrated": True}, "The database has the schema of this release.")
