"""`policy`: what may be stored, for what, and who gets it. Check and test need the folder only; apply opens the vault."""

from pathlib import Path
from typing import Any

import rich_click as click

from vault.bootstrap import policies_folder
from vault.catalogue.load import read_folder
from vault.cli.opening import EXAMPLE, with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, table
from vault.cli.policy_new import init, print_schemas
from vault.cli.policy_suggest import suggest
from vault.config import load
from vault.flows.enact import enact
from vault.flows.vault import Vault
from vault.policy import version

_folder = click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))


@click.group()
def policy() -> None:
    """Begin, check, test and apply the policies folder. All that decides stands in it; docs/reference/policies.md explains it.

    \b
    A day with it:
      profile-vault policy init         a folder to begin with
      profile-vault policy suggest      the lines that would keep what was dropped
      profile-vault policy check        every problem, with file, line and remedy
      profile-vault policy test         the examples in tests/*.toml
      profile-vault policy apply        make it the live version
    """


policy.add_command(init)


@policy.command()
@_folder
@json_option
@click.pass_context
def check(ctx: click.Context, folder: Path | None) -> None:
    """Read FOLDER (by default the one of the settings) and list every problem. Needs no database.

    \b
    Example:
      profile-vault policy check ./policies
    """
    catalogue = version.check(read_folder(_place(folder))).catalogue
    counts = {
        "purposes": len(catalogue.purposes),
        "traits": len(catalogue.traits),
        "events": len(catalogue.events),
        "identifiers": len(catalogue.identifiers),
        "computed": len(catalogue.computed),
        "audiences": len(catalogue.audiences),
        "destinations": len(catalogue.contracts),
        "roles": len(catalogue.roles),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    emit(ctx, {"digest": catalogue.digest.hex(), **counts}, f"The policies hold together: {said}.")


@policy.command()
@_folder
@json_option
@click.pass_context
def test(ctx: click.Context, folder: Path | None) -> None:
    """Run the examples in FOLDER/tests. Ends with 1 if one does not hold. Needs no database.

    \b
    Example:
      profile-vault policy test ./policies --json
    """
    results = version.run_tests(version.check(read_folder(_place(folder))))
    failed = [result for result in results if result.fault is not None]
    rows = [(result.place, result.claim, result.fault) for result in failed]
    data: dict[str, Any] = {
        "examples": len(results),
        "failed": [{"place": place, "claim": claim, "instead": fault} for place, claim, fault in rows],
    }
    emit(ctx, data, table(("where", "claim", "but"), rows, empty=f"All {len(results)} examples hold."))
    if failed:
        ctx.exit(EXIT_FAILED)


@policy.command()
@_folder
@json_option
@click.pass_context
def apply(ctx: click.Context, folder: Path | None) -> None:
    """Make FOLDER the live version, if it checks and its examples hold. The same files again change nothing.

    \b
    Example:
      profile-vault policy apply

    Processes that are running go on with the version they started with: restart them.
    """
    files = read_folder(_place(folder))
    version.check(files)  # say what is wrong before anything is opened

    async def journey(vault: Vault) -> version.Version:
        return await _apply(vault, files)

    applied = with_vault(journey)
    data = {"number": applied.number, "digest": applied.digest.hex()}
    emit(ctx, data, f"Policy version {applied.number} is live ({applied.digest.hex()[:16]}). Restart what is running.")


policy.add_command(suggest)
policy.add_command(print_schemas)


async def _apply(vault: Vault, files: dict[str, str]) -> version.Version:
    """Applied, journaled and audited together."""
    return await enact(vault.database, vault.journal, files, "operator", vault.clock.now(), vault.policy)


def _place(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    settings = load()
    if settings.policies is None:
        click.echo(EXAMPLE, err=True)
    return policies_folder(settings)
