"""`keys`: which keys there are and what they protect. Names and versions, never bytes."""

import rich_click as click
from rich.console import Console

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.flows.vault import Vault


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
        rows: list[dict[str, object]] = [
            {"name": name, "versions": sorted(vault.keystore.read(name))} for name in sorted(vault.keystore.names())
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
        cells = [[row["name"], ", ".join(map(str, _list(row["versions"]))), row["protects"]] for row in rows]
        table(["KEY", "VERSIONS", "PROTECTS"], cells, empty="There are no keys yet.")(console)

    emit(ctx, {"rollback_protection": protection, "keys": rows}, draw)


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
}


def _meaning(name: str) -> str:
    kind, _, rest = name.partition("-")
    by_kind = {"index": f"lookup by {rest}", "signing": f"signatures: {rest}", "webhook": f"webhook of {rest}"}
    by_kind |= {"case": "case file of an erasure", "archive": "archive of a request"}
    return _MEANINGS.get(name, by_kind.get(kind, ""))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
