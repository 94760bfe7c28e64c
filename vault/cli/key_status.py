"""`keys status`: which keys there are, what is wrapped under what, and from when old backups open no more."""

import asyncio
from typing import Any, Final

import rich_click as click
from rich.console import Console

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.clock import Micros, isoformat
from vault.flows.epochs import Standing, standing
from vault.flows.returned import returned
from vault.flows.vault import Vault
from vault.keys.history import Destroyed

MANY: Final = 6  # versions of a key that are listed one by one

Json = dict[str, Any]


@click.command()
@click.option("--scan/--no-scan", default=True, help="Count the wraps of everybody: some 50,000 people a second.")
@json_option
@click.pass_context
def status(ctx: click.Context, scan: bool) -> None:  # noqa: FBT001 (click's)
    """List the keys of this vault, what is wrapped under which, and from when old backups of the data open no more.

    \b
    Example:
      profile-vault keys status

    Also says whether putting back old copies of the database would be noticed.
    """

    async def journey(vault: Vault) -> Json:
        found = await standing(vault, scan=scan)
        return await asyncio.to_thread(_told, vault, found)  # some key services are asked for what they open

    answer = with_vault(journey, create=False)
    emit(ctx, answer, lambda console: _draw(console, answer))


def _told(vault: Vault, found: Standing) -> Json:
    """What `--json` prints: docs/reference/keys.md."""
    store = vault.keystore
    titles = {f"purpose-{one.number}": one.name for one in vault.catalogue.purposes.values()}
    rows: list[Json] = []
    for name in store.names():
        row: Json = {"name": name, "versions": store.versions(name), "opens": store.opens(name)}
        row["protects"] = titles.get(name) or _meaning(name)
        if found.wraps is not None and (name in found.wraps or name in titles or name == "rights"):
            row["wraps"] = {str(epoch): count for epoch, count in found.wraps.get(name, {}).items()}
        rows.append(row)
    rotations = [
        {
            "name": one.name,
            "epoch": one.epoch,
            "opened_at": isoformat(one.opened_at),
            "wraps": one.wraps,
            "done_at": None if one.done_at is None else isoformat(one.done_at),
        }
        for one in found.rotations
    ]
    return {
        "rollback_protection": vault.keyring.protection,
        "keys": rows,
        "unreadable_rows": found.unreadable_rows,
        "rotations": rotations,
        "backups": [
            {
                "backup": str(one.backup_id),
                "made_at": isoformat(Micros(one.made_at)),
                "until": isoformat(Micros(one.until)),
            }
            for one in found.backups
        ],
        "destroyed": [destroyed(one) for one in found.destroyed],
        "returned": [{"name": name, "epoch": epoch} for name, epoch in returned(store, vault.gone_epochs)],
    }


def destroyed(one: Destroyed) -> Json:
    """A destroyed epoch, as commands tell it."""
    return {
        "name": one.name,
        "epoch": one.version,
        "left_at": isoformat(Micros(one.left_at)),
        "destroyed_at": isoformat(Micros(one.destroyed_at)),
        "key_service_days": one.service_days,
        "unreadable_after": None if one.asking else isoformat(one.unreadable_after),
    }


def _draw(console: Console, answer: Json) -> None:
    console.print(f"rollback_protection: {answer['rollback_protection']}", highlight=False)
    if answer["rollback_protection"] == "none":
        console.print("  Keyring or journal lie beside the database; PROFILE_VAULT_KEYRING and _JOURNAL move them.")
    cells = [
        [
            row["name"],
            _spans(row["versions"]),
            _wraps(row.get("wraps")),
            "yes" if row["opens"] else "no",
            row["protects"],
        ]
        for row in answer["keys"]
    ]
    table(["KEY", "VERSIONS", "WRAPS BY EPOCH", "OPENS HERE", "PROTECTS"], cells, empty="There are no keys yet.")(
        console
    )
    if answer["unreadable_rows"]:
        console.print(f"{answer['unreadable_rows']} rows of wraps are no such rows: see `audit verify --state`.")
    for one in answer["rotations"]:
        if one["done_at"] is None:
            console.print(
                f"{one['name']} rotates to epoch {one['epoch']}; go on with: profile-vault keys rotate {one['name']}"
            )
    for one in answer["backups"]:
        console.print(f"A backup of the keys of {one['made_at']} is kept until {one['until']}.", highlight=False)
    for one in answer["returned"]:
        console.print(
            f"Epoch {one['epoch']} of {one['name']} was destroyed and is there again: the key store is an older copy. Put back"
            f" the newest; or run: profile-vault keys rotate {one['name']}, and then keys destroy {one['name']} {one['epoch']}",
            highlight=False,
        )
    for one in answer["destroyed"]:
        if one["unreadable_after"] is None:
            again = f"profile-vault keys destroy {one['name']} {one['epoch']}"
            console.print(f"The key service was not told yet that an epoch is gone; run: {again}", highlight=False)
            continue
        console.print(
            f"Backups of {one['name']} from before {one['left_at']} (epoch {one['epoch']}) become unreadable on"
            f" {one['unreadable_after']}.",
            highlight=False,
        )


MEANINGS: Final = {
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
    return MEANINGS.get(name, by_kind.get(kind, ""))


def _spans(versions: list[int]) -> str:
    """`1, 2` for a few; the first and the last of many: `rights` gets one with each start of a writer."""
    shown = [str(one) for one in versions]
    return ", ".join(shown) if len(shown) <= MANY else f"{shown[0]} to {shown[-1]} ({len(shown)})"


def _wraps(wraps: dict[str, int] | None) -> str:
    if wraps is None:
        return ""
    shown = [f"{epoch}: {count:,}" for epoch, count in wraps.items()]
    return ", ".join(shown) if len(shown) <= MANY else f"{sum(wraps.values()):,} in {len(wraps)} epochs"
