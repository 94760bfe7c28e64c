"""`sources`: the apps that write."""

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.cli.watch import watch
from vault.clock import isoformat
from vault.flows import browse
from vault.flows.vault import Vault
from vault.sources import store


@click.group()
def sources() -> None:
    """The apps that write: add, list, disable, watch, and see what was dropped."""


sources.add_command(watch)


@sources.command()
@click.argument("name")
@click.option(
    "--class",
    "source_class",
    type=click.Choice(["server", "client"]),
    required=True,
    help="server: its key is a secret. client: its key ships in an app or page, and may lower choices but not raise others'.",
)
@json_option
@click.pass_context
def add(ctx: click.Context, name: str, source_class: str) -> None:
    """Add a source and print its write key, once.

    \b
    Example:
      profile-vault sources add shop --class server
      profile-vault --help     shows what to do with the key
    """

    async def journey(vault: Vault) -> tuple[store.Source, str]:
        async with vault.database.begin() as connection:
            return await store.add(
                connection, name, server=source_class == "server", now=vault.clock.now(), key=vault.rows_key
            )

    source, write_key = with_vault(journey)
    emit(
        ctx,
        {"name": source.name, "class": source_class, "write_key": write_key},
        f"Source {source.name} ({source_class}) is ready. Its write key, shown this once:\n\n  {write_key}\n\n"
        "Give it to the Segment SDK as write key, and set the SDK's host to this vault.",
    )


@sources.command(name="list")
@json_option
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the sources.

    \b
    Example:
      profile-vault sources list --json
    """

    async def journey(vault: Vault) -> list[store.SourceRow]:
        async with vault.database.begin() as connection:
            return await store.everyone(connection)

    rows = [
        {
            "name": row.source.name,
            "class": "server" if row.source.server else "client",
            "created_at": isoformat(row.created_at),
            "disabled_at": None if row.disabled_at is None else isoformat(row.disabled_at),
        }
        for row in with_vault(journey, create=False)
    ]
    cells = [[row["name"], row["class"], row["created_at"], row["disabled_at"] or "in use"] for row in rows]
    empty = "There is no source yet: profile-vault sources add shop --class server"
    emit(ctx, {"sources": rows}, table(["NAME", "CLASS", "ADDED", "STATE"], cells, empty=empty))


@sources.command()
@click.argument("name")
@json_option
@click.pass_context
def disable(ctx: click.Context, name: str) -> None:
    """Refuse a source's write key from now on. What it sent stays.

    \b
    Example:
      profile-vault sources disable old-app
    """

    async def journey(vault: Vault) -> None:
        async with vault.database.begin() as connection:
            await store.disable(connection, name, now=vault.clock.now(), key=vault.rows_key)

    with_vault(journey, create=False)
    emit(ctx, {"name": name, "disabled": True}, f"Source {name} is refused from now on.")


@sources.command()
@click.argument("name")
@json_option
@click.pass_context
def dropped(ctx: click.Context, name: str) -> None:
    """Show what a source sent and was not stored: by type, name and reason, never by value.

    \b
    Example:
      profile-vault sources dropped shop
    """

    async def journey(vault: Vault) -> dict[str, object]:
        return await browse.dropped(vault, None, name)

    found = with_vault(journey, create=False)
    lines = found.get("dropped")
    rows = [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []
    cells = [[_type(row), *(row.get(key) for key in ("name", "reason", "count", "remedy"))] for row in rows]
    columns = ["TYPE", "NAME", "REASON", "COUNT", "REMEDY"]
    emit(ctx, found, table(columns, cells, empty=f"Nothing of {name} was dropped."))


def _type(row: dict[str, object]) -> str:
    return f"{row['type']} of {row['event']}" if "event" in row else str(row["type"])
