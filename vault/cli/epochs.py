"""`keys rotate`, `keys backup`, `keys destroy`: the end of an epoch, in the steps that an operator takes."""

import time
from pathlib import Path
from typing import Any, Final

import rich_click as click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vault.cli.key_status import destroyed
from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, progress_console, wants_json
from vault.clock import isoformat
from vault.errors import Invalid
from vault.flows.epochs import destroy_epoch
from vault.flows.keys_backup import Made, back_up
from vault.flows.retag import renew_tags
from vault.flows.rotate import Rotation, renew_signing
from vault.flows.rotate import rotate as rotate_all
from vault.flows.vault import Vault
from vault.keys import names as named

SIGNING: Final = frozenset(named.signing(use) for use in named.SIGNING_USES)
FASTEST: Final = 1_000_000  # people a second, far above what any machine does


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every purpose, and rights, in one pass.")
@click.option(
    "--rate", type=click.IntRange(0, FASTEST), default=0, help="At most so many people a second; 0: all it can."
)
@json_option
@click.pass_context
def rotate(ctx: click.Context, names: tuple[str, ...], everything: bool, rate: int) -> None:  # noqa: FBT001 (click's)
    """Open a new epoch of a key and wrap everybody's data keys anew under it.

    \b
    Example:
      profile-vault keys rotate marketing
      profile-vault keys rotate --all --rate 5000

    NAME is a purpose, or a key as `keys status` lists it. Run it beside the living vault, with the root key or the desk's
    key folder. If it was stopped, run it again: it goes on where it was. The old epoch stays until `keys destroy`.
    A signing key (`signing-…`) gets a new version, and its older public keys stay listed. Of `tombstone` and `index-KIND` all
    tags are made anew at once, while whoever writes people waits.
    """
    started = time.monotonic()

    async def journey(vault: Vault) -> tuple[Rotation, dict[str, int]]:
        wanted = _wanted(vault, names, everything=everything)
        signing = [name for name in wanted if name in SIGNING]
        made = {name: await renew_signing(vault, name) for name in signing}
        tagging = [name for name in wanted if named.tagging(name)]
        made |= {name: (await renew_tags(vault, name))[0] for name in tagging}
        wanted = [name for name in wanted if name not in made]
        if made and not wanted:
            return Rotation(epochs={}), made
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=progress_console(), disable=wants_json(ctx)) as bar:
            task = bar.add_task("Re-wrapping", total=None)

            def progress(told: Rotation) -> None:
                word = "Done" if told.done else "Looking again" if told.passes else "Re-wrapping"
                bar.update(task, description=word, total=max(1, told.total, told.subjects), completed=told.subjects)

            return await rotate_all(vault, wanted, rate=rate, progress=progress), made

    told, made = with_vault(journey, create=False)
    seconds = round(time.monotonic() - started, 2)
    data: dict[str, Any] = {
        "epochs": told.epochs,
        "people": told.rewrapped,
        "wraps": told.wraps,
        "unreadable_wraps": told.shut,
        "passes": told.passes,
        "renewed": made,
        "seconds": seconds,
    }
    emit(ctx, data, _sentence(told, made, seconds))


def _wanted(vault: Vault, names: tuple[str, ...], *, everything: bool) -> list[str]:
    if everything == bool(names):
        raise Invalid("Give the names of keys, or --all.", code="no_such_key")
    if everything:
        return [name for name in vault.keystore.names() if named.purpose_of(name) is not None]
    return list(dict.fromkeys(key_name(vault, name) for name in names))


def key_name(vault: Vault, name: str) -> str:
    """The name in the key store, of a purpose or of a key."""
    purpose = vault.catalogue.purposes.get(name)
    return name if purpose is None else named.epochs(purpose.number)


def _sentence(told: Rotation, made: dict[str, int], seconds: float) -> str:
    signs = [
        f"{name} is at version {version}: everything is made with it from now on." for name, version in made.items()
    ]
    if not told.epochs:
        return "\n".join(signs)
    epochs = ", ".join(f"{name} to epoch {epoch}" for name, epoch in told.epochs.items())
    lines = [f"Rotated {epochs}: {told.wraps:,} wraps of {told.rewrapped:,} people in {seconds:,.1f} s."]
    if told.shut:
        lines.append(f"  {told.shut:,} older wraps do not open and stay as they are: see `audit verify --state`.")
    lines.append("The older epochs are still there; when backups allow it: profile-vault keys destroy NAME EPOCH")
    return "\n".join([*signs, *lines])


@click.command()
@click.argument("name")
@click.argument("epoch", type=click.IntRange(1, 65_535))
@json_option
@click.pass_context
def destroy(ctx: click.Context, name: str, epoch: int) -> None:
    """Destroy an older epoch of a key for good, once nothing needs it.

    \b
    Example:
      profile-vault keys destroy marketing 1

    Refused while anybody's wraps need it, and while a backup of the data needs it that has neither expired (the setting
    `data_backup_days`) nor a newer backup of the keys beside it (`keys backup`). What was erased before then opens nowhere,
    from the date that this answers.
    """

    async def journey(vault: Vault) -> dict[str, Any]:
        return destroyed(await destroy_epoch(vault, key_name(vault, name), epoch))

    answer = with_vault(journey, create=False)
    emit(
        ctx,
        answer,
        f"Epoch {epoch} of {answer['name']} is destroyed. What only it opened is unreadable everywhere, backups too, after"
        f" {answer['unreadable_after']}.",
    )


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def backup(ctx: click.Context, file: Path) -> None:
    """Write the keys, sealed as they are, and everybody's wraps to FILE, and remember that there is such a copy.

    \b
    Example:
      profile-vault keys backup /backups/keys-2026-11-25.tar

    It opens nothing without the key service. Keep it apart from backups of the data, and destroy it when its time is over
    (the setting `keyring_backup_days`): until then what was erased since can be opened with it and an older backup of the data.
    """

    async def journey(vault: Vault) -> Made:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} people"))
        with Progress(*columns, console=progress_console(), disable=wants_json(ctx)) as bar:
            task = bar.add_task("Copying wraps", total=None)
            return await back_up(vault, file, progress=lambda people: bar.update(task, completed=people))

    made = with_vault(journey, create=False)
    data = {
        "backup": str(made.backup_id),
        "file": str(file),
        "made_at": isoformat(made.made_at),
        "until": isoformat(made.until),
        "keys": made.keys,
        "people": made.people,
    }
    emit(
        ctx,
        data,
        f"{file} holds {made.keys} keys and the wraps of {made.people:,} people. Destroy it by {data['until']}.",
    )
