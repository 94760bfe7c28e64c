"""`staff`: the people who work here."""

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.clock import isoformat
from vault.errors import Conflict, Invalid
from vault.flows.trail import accusing
from vault.flows.vault import Vault
from vault.staff import store


@click.group()
def staff() -> None:
    """The people who work here: add, list, disable."""


@staff.command()
@click.argument("name")
@click.option("--role", required=True, help="A role of staff.toml: officer, support, marketer, operator or auditor.")
@click.option("--token", "with_token", is_flag=True, help="Also make a token for programs, and print it once.")
@json_option
@click.pass_context
def add(ctx: click.Context, name: str, role: str, *, with_token: bool) -> None:
    """Add someone, in a role.

    \b
    Example:
      profile-vault staff add ada --role officer --token
      curl -H "Authorization: Bearer pvs_…" http://127.0.0.1:8000/v1/audit/checkpoint

    Add someone who exists once more, with --token and the same role, for another token.
    """

    async def journey(vault: Vault) -> tuple[store.Staff, str | None]:
        if role not in vault.catalogue.roles:
            raise Invalid(f"Roles are: {', '.join(sorted(vault.catalogue.roles))} (staff.toml).", code="unknown_role")
        now = vault.clock.now()
        async with accusing(vault), vault.database.begin() as connection:
            member = await store.find(connection, name, vault.rows_key) if with_token else None
            if member is None:
                member = await store.add(connection, name, role, now=now, key=vault.rows_key)
            elif member.role != role:
                raise Conflict(f"{name} has another role: {member.role}.")
            return member, await store.add_token(
                connection, member.staff_id, now=now, key=vault.rows_key
            ) if with_token else None

    member, token = with_vault(journey)
    data = {"name": member.name, "role": member.role, "staff_id": str(member.staff_id)}
    human = f"{member.name} may act as {member.role}."
    if token is not None:
        data["token"] = token
        human += f" The token, shown this once:\n\n  {token}\n\nSend it as `Authorization: Bearer …`."
    emit(ctx, data, human)


@staff.command(name="list")
@json_option
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the people who work here.

    \b
    Example:
      profile-vault staff list
    """

    async def journey(vault: Vault) -> list[store.StaffRow]:
        async with vault.database.begin() as connection:
            return await store.everyone(connection)

    rows = [
        {
            "name": row.member.name,
            "role": row.member.role,
            "staff_id": str(row.member.staff_id),
            "created_at": isoformat(row.created_at),
            "disabled_at": None if row.disabled_at is None else isoformat(row.disabled_at),
        }
        for row in with_vault(journey, create=False)
    ]
    cells = [[row["name"], row["role"], row["created_at"], row["disabled_at"] or "in use"] for row in rows]
    empty = "There is nobody yet: profile-vault staff add ada --role officer --token"
    emit(ctx, {"staff": rows}, table(["NAME", "ROLE", "ADDED", "STATE"], cells, empty=empty))


@staff.command()
@click.argument("name")
@json_option
@click.pass_context
def disable(ctx: click.Context, name: str) -> None:
    """Refuse someone and all their tokens from now on.

    \b
    Example:
      profile-vault staff disable ada
    """

    async def journey(vault: Vault) -> None:
        async with vault.database.begin() as connection:
            await store.disable(connection, name, now=vault.clock.now(), key=vault.rows_key)

    with_vault(journey, create=False)
    emit(ctx, {"name": name, "disabled": True}, f"{name} is refused from now on.")
