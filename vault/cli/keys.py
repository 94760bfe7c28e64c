"""`keys`: which keys there are and what they protect. Names and versions, never bytes."""

from pathlib import Path
from typing import Final

import rich_click as click
from rich.console import Console

from vault.bootstrap import EVERYTHING
from vault.catalogue.numbers import RIGHTS
from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.cli.roles import role_of
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError
from vault.flows.vault import Vault
from vault.keys.names import purpose_of

MANY: Final = 6  # versions of a key that are listed one by one


@click.group()
def keys() -> None:
    """Which keys there are and what they protect."""


@keys.command()
@json_option
@click.pass_context
def status(ctx: click.Context) -> None:
    """List the keys of this vault by name and version, and say whether putting back old copies would be noticed.

    \b
    Example:
      profile-vault keys status
    """

    async def journey(vault: Vault) -> tuple[str, list[dict[str, object]], dict[str, str]]:
        store = vault.keystore
        rows: list[dict[str, object]] = [
            {"name": name, "versions": store.versions(name), "opens": store.opens(name)} for name in store.names()
        ]
        titles = {f"purpose-{one.number}": one.name for one in vault.catalogue.purposes.values()}
        return vault.keyring.protection, rows, titles

    protection, rows, titles = with_vault(journey, create=False)
    for row in rows:
        row["protects"] = titles.get(str(row["name"]), _meaning(str(row["name"])))

    def draw(console: Console) -> None:
        console.print(f"rollback_protection: {protection}", highlight=False)
        if protection == "none":
            console.print("  Keyring or journal lie beside the database; PROFILE_VAULT_KEYRING and _JOURNAL move them.")
        cells = [
            [row["name"], _spans(_list(row["versions"])), "yes" if row["opens"] else "no", row["protects"]]
            for row in rows
        ]
        table(["KEY", "VERSIONS", "OPENS HERE", "PROTECTS"], cells, empty="There are no keys yet.")(console)

    emit(ctx, {"rollback_protection": protection, "keys": rows}, draw)


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
        return vault.keystore.reseal(), vault.keystore.names()

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
    role = role_of(doors, purposes, duties=duties)
    if role is None:
        raise ConfigError("name --doors or --duties; for everything, use the root key itself")

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


_MEANINGS = {
    "rights": "wraps for access, export and rectification",
    "state": "MAC of every person's state row",
    "dedup": "digests of what was received",
    "event": "names of stored events",
    "tombstone": "traces of erased identifiers",
    "pseudonym": "ids that destinations see",
    "cursor": "cursors of feeds",
    "reference": "references that staff hold",
    "journal": "journal of narrowings",
    "salt": "salts of the audit log",
    "request": "codes of the rows of requests",
    "rows": "codes of sources, tokens, staff, and of whom an identifier finds",
}


def _meaning(name: str) -> str:
    kind, _, rest = name.partition("-")
    by_kind = {"index": f"lookup by {rest}", "signing": f"signatures: {rest}", "webhook": f"webhook of {rest}"}
    by_kind |= {"case": "case file of an erasure", "archive": "archive of a request"}
    return _MEANINGS.get(name, by_kind.get(kind, ""))


def _spans(versions: list[object]) -> str:
    """`1, 2` for a few; the first and the last of many: `rights` gets one with each start of a writer."""
    shown = [str(one) for one in versions]
    return ", ".join(shown) if len(shown) <= MANY else f"{shown[0]} to {shown[-1]} ({len(shown)})"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
