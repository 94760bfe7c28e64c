"""`keys`: which keys there are, what they protect, and how they are made, handed out, rotated and destroyed. Never bytes."""

import asyncio
from pathlib import Path

import rich_click as click

from vault.bootstrap import EVERYTHING, policies_folder
from vault.catalogue.load import load as load_catalogue
from vault.catalogue.load import read_folder
from vault.catalogue.numbers import RIGHTS
from vault.cli.epochs import backup, destroy, rotate
from vault.cli.escrow import escrow
from vault.cli.key_status import status
from vault.cli.moving import move
from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option
from vault.cli.roles import as_usage, role_of
from vault.config import load
from vault.crypto.services.local import LocalKeyService
from vault.crypto.services.rules import rules_for
from vault.errors import ConfigError
from vault.flows.vault import Vault
from vault.keys.names import purpose_of


@click.group()
def keys() -> None:
    """Which keys there are and what they protect."""


@keys.command()
@json_option
@click.pass_context
def init(ctx: click.Context) -> None:
    """Make what is missing: schema, keys, journal, first policies. For the one who holds the root key; twice is harmless.

    \b
    Example:
      PROFILE_VAULT_KEY_FILE=/secure/root-key profile-vault keys init

    Run it before processes with key folders of their own start, at an upgrade, and after a new purpose or identifier
    kind: they make no keys. It also seals anew what an older release sealed in a form that no key folder opens.
    """

    async def journey(vault: Vault) -> tuple[list[str], list[str]]:
        return await asyncio.to_thread(vault.keystore.reseal), vault.keystore.names()

    resealed, names = with_vault(journey, role=EVERYTHING)
    answer = {"keys": names, "resealed": resealed}
    emit(ctx, answer, f"{len(names)} keys are there; {len(resealed)} were sealed anew.")


@keys.command("hand-out")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--doors", default="", metavar="LIST", help="As for `serve`.")
@click.option("--duties", default="", metavar="LIST", help="As for `worker`.")
@click.option("--purposes", default="", metavar="LIST", help="As for both.")
@json_option
@click.pass_context
def hand_out(ctx: click.Context, folder: Path, doors: str, duties: str, purposes: str) -> None:
    """Write into FOLDER the secrets that one kind of process needs, and no others. Needs the root key.

    \b
    Example:
      profile-vault keys hand-out /secure/feed --doors feed --purposes marketing
      PROFILE_VAULT_KEY_FILE=/secure/feed profile-vault serve --doors feed --purposes marketing

    The process is then started with KEY_FILE naming the folder. What is in it stays as it is; anything that the process
    may not have is an error. Do it again after a new purpose, and after `keys init` of a new release.
    """
    with as_usage():
        role = role_of(doors, purposes, duties=duties)
    if role is None:
        raise click.UsageError("name --doors or --duties; for everything, use the root key itself")

    if load().service.kind != "local":
        raise ConfigError(
            "`keys hand-out` is for the local key service; with another one give each process an identity of its own, and"
            " that the rules which `keys access` prints"
        )
    target = folder.absolute()

    async def journey(vault: Vault) -> list[str]:
        numbers = {one.name: one.number for one in vault.catalogue.purposes.values()}
        stored = [number for name in vault.keystore.names() if (number := purpose_of(name)) not in (None, RIGHTS)]
        wanted = {*role.numbers(numbers), *(stored if role.all_purposes else ())}
        opened, sealed = role.locks(number for number in wanted if number is not None)
        LocalKeyService.from_path(vault.settings.key_file).hand_out(target, opened, sealed)
        return [*sorted(opened), *(f"{lock} (to seal only)" for lock in sorted(sealed))]

    locks = with_vault(journey, role=EVERYTHING)
    emit(ctx, {"folder": str(folder), "secrets": locks}, f"{folder} holds: {', '.join(locks)}.")


@keys.command()
@click.option("--doors", default="", metavar="LIST", help="As for `serve`.")
@click.option("--duties", default="", metavar="LIST", help="As for `worker`.")
@click.option("--purposes", default="", metavar="LIST", help="As for both.")
@json_option
@click.pass_context
def access(ctx: click.Context, doors: str, duties: str, purposes: str) -> None:
    """Print the rules that a key service elsewhere needs for one kind of process: a policy for OpenBao, Vault or AWS.

    \b
    Example:
      profile-vault keys access --doors feed --purposes marketing | bao policy write feed-marketing -
      profile-vault keys access                     for the one who prepares, and for one-process mode

    Asks no service and opens no vault. Without options: everything, and making the service's own keys. Give each kind of
    process an identity of its own. The policies folder of the settings says which purposes there are.
    """
    settings = load()
    with as_usage():
        role = role_of(doors, purposes, duties=duties) or EVERYTHING
    catalogue = load_catalogue(read_folder(policies_folder(settings)))
    opened, sealed = role.locks(role.numbers({one.name: one.number for one in catalogue.purposes.values()}))
    rules = rules_for(settings.service, opened, sealed, prepares=role.whole)
    emit(ctx, {"opens": sorted(opened), "seals": sorted(sealed), "rules": rules}, rules)


keys.add_command(status)
keys.add_command(rotate)
keys.add_command(backup)
keys.add_command(destroy)
keys.add_command(escrow)
keys.add_command(move)
