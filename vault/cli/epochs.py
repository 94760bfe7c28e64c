"""`keys rotate`, `keys backup`, `keys destroy`: the end of an epoch, in the steps that an operator takes."""

import time
from pathlib import Path
from typing import Any, Final

import rich_click as click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vault.cli.key_status import destroyed
from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, progress_console, wants_json
from vault.clock import isoformat
from vault.errors import Invalid
from vault.flows.epochs import Kept, destroy_epoch, destroy_outdated
from vault.flows.keys_backup import Made, back_up
from vault.flows.retag import renew_tags
from vault.flows.rotate import Rotation, renew_signing
from vault.flows.rotate import rotate as rotate_all
from vault.flows.vault import Vault
from vault.keys import names as named
from vault.keys.history import Destroyed

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
    lines.append("The older epochs are still there; when backups allow it: profile-vault keys destroy --outdated")
    return "\n".join([*signs, *lines])


@click.command()
@click.argument("name", required=False)
@click.argument("epoch", type=click.IntRange(1, 65_535), required=False)
@click.option("--outdated", is_flag=True, help="Every epoch that a rotation has closed, of every key.")
@json_option
@click.pass_context
def destroy(ctx: click.Context, name: str | None, epoch: int | None, *, outdated: bool) -> None:
    """Destroy an older epoch of a key for good, once nothing needs it; or all such.

    \b
    Example:
      profile-vault keys destroy marketing 1
      profile-vault keys destroy --outdated

    Refused while anybody's wraps need it, and while a backup of the data needs it that has neither expired (the setting
    `data_backup_days`) nor a newer backup of the keys beside it (`keys backup`). What was erased before then opens nowhere,
    from the date that this answers.

    `--outdated` destroys what may go, and names what may not yet, with the code of the reason and the date: run it again then. It
    ends with 1 only if something failed.
    """
    if outdated == (name is not None) or (name is None) != (epoch is None):
        raise click.UsageError("name a key and an epoch, or --outdated")
    if name is None or epoch is None:
        _destroy_outdated(ctx)
        return

    async def journey(vault: Vault) -> Destroyed:
        return await destroy_epoch(vault, key_name(vault, name), epoch)

    one = with_vault(journey, create=False)
    emit(ctx, destroyed(one), _fate(one))


def _destroy_outdated(ctx: click.Context) -> None:
    quiet = wants_json(ctx)

    def tell(one: Destroyed | Kept) -> None:
        if not quiet:
            click.echo(_fate(one))

    found = with_vault(lambda vault: destroy_outdated(vault, tell), create=False)
    kept = [one for one in found if isinstance(one, Kept)]
    gone = [one for one in found if isinstance(one, Destroyed)]
    waiting, failed = [one for one in kept if one.waits], [one for one in kept if not one.waits]
    answer = {
        "destroyed": [destroyed(one) for one in gone],
        "waiting": [_kept(one) for one in waiting],
        "failed": [_kept(one) for one in failed],
    }
    emit(ctx, answer, f"Epochs destroyed: {len(gone)}, waiting: {len(waiting)}, failed: {len(failed)}.")
    if failed:
        ctx.exit(EXIT_FAILED)


def _kept(one: Kept) -> dict[str, Any]:
    until = None if one.until is None else isoformat(one.until)
    return {"name": one.name, "epoch": one.epoch, "code": one.code, "hint": one.hint, "until": until}


def _fate(one: Destroyed | Kept) -> str:
    """What became of an epoch, in a line."""
    if isinstance(one, Kept):
        return f"Epoch {one.epoch} of {one.name} {'waits' if one.waits else 'FAILED'} ({one.code}): {one.hint}"
    after = destroyed(one)["unreadable_after"]
    return (
        f"Epoch {one.version} of {one.name} is destroyed. What only it opened is unreadable everywhere, backups too, after"
        f" {after}."
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
