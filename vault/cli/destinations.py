"""`destinations`: the recipients that read."""

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.destinations import store
from vault.flows import hooks
from vault.flows.vault import Vault


@click.group()
def destinations() -> None:
    """The recipients that read: list, tokens and webhooks. What each may see stands in the policies."""


@destinations.command(name="list")
@json_option
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the destinations of the live policy.

    \b
    Example:
      profile-vault destinations list
    """

    async def journey(vault: Vault) -> list[dict[str, object]]:
        async with vault.database.begin() as connection:
            pushed = {hook.destination: hook for hook in await store.webhooks(connection)}
        rows: list[dict[str, object]] = []
        for contract in sorted(vault.catalogue.contracts.values(), key=lambda one: one.name):
            hook = pushed.get(contract.number)
            state = "none" if hook is None else "stopped" if hook.disabled_at is not None else "on"
            rows.append(
                {
                    "name": contract.name,
                    "recipient": contract.recipient,
                    "role": contract.role,
                    "country": contract.country,
                    "purposes": list(vault.catalogue.names(contract.purposes)),
                    "webhook": state,
                }
            )
        return rows

    rows = with_vault(journey, create=False)
    cells = [
        [row["name"], row["recipient"], row["role"], row["country"], _joined(row["purposes"]), row["webhook"]]
        for row in rows
    ]
    columns = ["NAME", "RECIPIENT", "ROLE", "COUNTRY", "PURPOSES", "WEBHOOK"]
    empty = "The live policy has no destination; destinations.toml names them."
    emit(ctx, {"destinations": rows}, table(columns, cells, empty=empty))


@destinations.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Revoke every older token of this destination at the same moment.")
@json_option
@click.pass_context
def token(ctx: click.Context, name: str, *, revoke: bool) -> None:
    """Make a token for a destination and print it, once.

    \b
    Example:
      profile-vault destinations token warehouse
      curl -H "Authorization: Bearer pvd_…" http://127.0.0.1:8000/v1/destinations/warehouse/profiles
    """

    async def journey(vault: Vault) -> str:
        number = hooks.number_of(vault, name)
        now = vault.clock.now()
        async with vault.database.begin() as connection:
            if revoke:
                await store.revoke_tokens(connection, number, now, vault.rows_key)
            return await store.add_token(connection, number, now, vault.rows_key)

    secret = with_vault(journey)
    human = f"The token of {name}, shown this once:\n\n  {secret}\n\nSend it as `Authorization: Bearer …`."
    emit(ctx, {"name": name, "token": secret}, human)


@destinations.command()
@click.argument("name")
@click.argument("url", required=False)
@click.option("--remove", is_flag=True, help="Stop pushing to this destination.")
@json_option
@click.pass_context
def webhook(ctx: click.Context, name: str, url: str | None, *, remove: bool) -> None:
    """Push a destination's feed to URL, and print the secret that verifies it.

    \b
    Example:
      profile-vault destinations webhook email-tool https://hooks.example.com/vault
      profile-vault destinations webhook email-tool --remove

    Deliveries are signed as Standard Webhooks has it. Private addresses are refused unless
    PROFILE_VAULT_WEBHOOK_NETWORKS names them.
    """
    if remove == (url is not None):
        raise click.UsageError("Give a URL, or --remove.")

    async def journey(vault: Vault) -> str | None:
        if url is None:
            await hooks.remove(vault, name)
            return None
        return await hooks.register(vault, name, url)

    secret = with_vault(journey)
    if secret is None:
        emit(ctx, {"name": name, "removed": True}, f"Nothing is pushed to {name} any more.")
        return
    human = f"The feed of {name} is pushed from now on, beginning with a snapshot.\nVerify it with this secret:\n\n  {secret}"
    emit(ctx, {"name": name, "secret": secret}, human)


def _joined(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else ""
