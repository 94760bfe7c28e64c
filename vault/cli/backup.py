"""`backup` and `restore`: three archives, and the way back with the keys and the journal of later."""

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec
import rich_click as click
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vault.audit.log import Loss
from vault.bootstrap import EVERYTHING, open_vault
from vault.cli.audit import sentence, told
from vault.cli.doctor import secrets
from vault.cli.doctor.command import examine
from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, progress_console, wants_json
from vault.clock import SystemClock
from vault.config import Settings, load
from vault.errors import ConfigError, Conflict, VaultError
from vault.flows.backup.archive import KINDS, Manifest, expired
from vault.flows.backup.restore import Archives, Placed, put_back
from vault.flows.backup.take import back_up
from vault.flows.losses import Accepted
from vault.flows.replay import Replayed
from vault.flows.vault import Vault
from vault.keys import names

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_PORT: Final = 8000  # of `serve`, for the doctor's look


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", default=",".join(KINDS), metavar="LIST", show_default=True, help="Archives to write.")
@json_option
@click.pass_context
def backup(ctx: click.Context, folder: Path, only: str) -> None:
    """Write data, keys and journal as three archives under FOLDER, each with a manifest. Runs beside whatever serves.

    \b
    Example:
      profile-vault backup /mnt/backups
      profile-vault backup /mnt/journal-only --only journal

    Keep them in three places, as long as `data_backup_days` and `keyring_backup_days` say. Archives whose time is over are
    named, and it is yours to delete them. The root key is in none: see `keys escrow`. No archive holds a value in clear. To
    go back: docs/how-to/restore.md.
    """
    wanted = tuple(kind for kind in KINDS if kind in only.replace(",", " ").split())
    if set(only.replace(",", " ").split()) != set(wanted) or not wanted:
        raise click.UsageError(f"`--only` lists some of {', '.join(KINDS)}")
    target = folder.absolute()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console(), disable=wants_json(ctx)) as progress:
        bar = progress.add_task("Dumping", total=None)

        async def journey(vault: Vault) -> list[Manifest]:
            return await back_up(vault, target, wanted, lambda size: progress.update(bar, completed=size))

        made = with_vault(journey, create=False, role=EVERYTHING)
    over = expired([target / kind for kind in KINDS], SystemClock().now())
    answer = {
        "archives": [_described(target, one) for one in made],
        "over": [str(path) for path in over],
    }
    emit(ctx, answer, _sentences(target, made, over))


def _described(folder: Path, one: Manifest) -> dict[str, Any]:
    path = folder / one.kind / one.file
    return {"kind": one.kind, "file": str(path), "bytes": one.bytes, "sha256": one.sha256, "keep_until": one.keep_until}


def _sentences(folder: Path, made: list[Manifest], over: list[Path]) -> str:
    lines = []
    for one in made:
        until = f"keep until {one.keep_until[:10]}" if one.keep_until else "keep as long as the vault"
        lines.append(f"{one.kind:<8} {folder / one.kind / one.file}  {one.bytes:,} bytes, {until}")
    lines += [f"over     {path}: delete it" for path in over]
    return "\n".join(lines)


@click.command()
@click.option("--data", required=True, type=_FILE, help="The archive of data.")
@click.option("--keys", type=_FILE, help="An archive of keys: its key store, if none is here, and later wraps.")
@click.option("--journal", type=_FILE, help="The newest archive of the journal; left out, the journal that is here.")
@click.option("--here", type=click.IntRange(0), metavar="N", help="As for `audit accept-loss`, if both are known.")
@click.option("--head", type=click.IntRange(0), metavar="N", help="As for `audit accept-loss`.")
@json_option
@click.pass_context
def restore(
    ctx: click.Context, data: Path, keys: Path | None, journal: Path | None, here: int | None, head: int | None
) -> None:
    """Restore data of some time into an empty database, with the keys and the journal of later.

    \b
    Example:
      profile-vault restore --data /mnt/backups/data/20260101T030000Z-data.dump

    What is here stays: a key store is never written over, a journal only by one that continues it. After a rotation whose
    old keys were destroyed, `--keys` names an archive of keys from after it: its wraps open what the data holds. Then the
    journal is replayed, so that nobody comes back who was erased or withdrew since, and `doctor` looks. Data that is older
    than the audit head stays closed until an officer accepts the loss; the last line says how.
    """
    if (here is None) != (head is None):
        raise click.UsageError("`--here` and `--head` go together")
    settings = load()
    archives = Archives(data, keys, journal)
    placed = asyncio.run(put_back(settings, archives, lambda folder: _journal_key(settings, folder)))
    entries = None if here is None or head is None else Loss(here, head)
    try:
        done = asyncio.run(_opened(settings, Accepted(entries)))
    except Conflict as conflict:
        if conflict.reason not in {"audit_behind_head", "loss_differs"}:
            raise
        answer = _answer(placed, None, conflict)
        emit(ctx, answer, f"The data is in place, and closed: {conflict.hint}")
        return
    findings = examine("127.0.0.1", _PORT, start=True)
    bad = [f"{one.check}: {one.found}. {one.remedy}" for one in findings if one.state == "failed"]
    answer = _answer(placed, done, None) | {"doctor": bad}
    emit(ctx, answer, "\n".join([f"Restored. {sentence(done)}", *bad]))
    if bad:
        ctx.exit(EXIT_FAILED)


async def _opened(settings: Settings, accepted: Accepted) -> Replayed:
    async with open_vault(settings, role=EVERYTHING, accepted=accepted) as vault:
        found: Replayed = vault.replayed
        return found


def _answer(placed: Placed, done: Replayed | None, closed: VaultError | None) -> dict[str, Any]:
    return {
        "made_at": placed.data.made_at,
        "keys": "archive" if placed.keys else "here",
        "journal": "archive" if placed.journal else "here",
        "wraps": placed.wraps,
        "open": done is not None,
        "replayed": None if done is None else told(done),
        "closed": None if closed is None else {"code": closed.reason, "hint": closed.hint},
    }


def _journal_key(settings: Settings, folder: Path) -> bytes:
    """The key `journal`, from a key store in `folder`. Raises `ConfigError` if it cannot be opened."""
    opened = secrets.key_store(msgspec.structs.replace(settings, keyring=folder))
    if opened.keyring is None:
        raise ConfigError(f"the key store cannot be opened: {opened.finding.found}. {opened.finding.remedy}")
    return opened.keyring.key(names.JOURNAL)
