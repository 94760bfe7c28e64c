"""`keys escrow`: the root key in shares for several people, and back."""

from pathlib import Path
from typing import Final

import rich_click as click

from vault import durable
from vault.cli.output import emit, json_option
from vault.config import Settings, load
from vault.crypto.escrow import join, split
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError, Conflict, Invalid, NotFound, Unreadable
from vault.keys import names
from vault.keys.keystore import KeyStore

MAX_BYTES: Final = 4096  # a share is one line of some 230 letters
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def escrow() -> None:
    """The root key in shares: whoever holds enough of them has the key back, whoever holds fewer has nothing.

    \b
    Example:
      profile-vault keys escrow split --shares 3 --threshold 2 --out /run/shares
      profile-vault keys escrow join /run/a.txt /run/c.txt
    """


@escrow.command("split")
@click.option("--shares", default=3, show_default=True, type=click.IntRange(2, 16), help="How many are made.")
@click.option("--threshold", default=2, show_default=True, type=click.IntRange(2, 16), help="How many are needed.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="An empty folder for them."
)
@json_option
@click.pass_context
def split_(ctx: click.Context, shares: int, threshold: int, out: Path) -> None:
    """Write the root key as shares, one file each: lines of words to be printed, for people who do not share a safe.

    \b
    Example:
      profile-vault keys escrow split --shares 3 --threshold 2 --out /run/shares

    Print each, give each to one person, and delete the folder; best on a file system in memory. Nothing of them is kept.
    Do it again after the root key changes: shares of an old key open nothing new. Rehearse `keys escrow join` once.
    """
    settings = load()
    root = _root(settings)
    folder = out.absolute()
    durable.private_folder(folder)
    if any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty: shares of two sets must not lie together.", code="not_empty")
    files = []
    for number, line in enumerate(split(root, shares, threshold), start=1):
        path = folder / f"share-{number}-of-{shares}.txt"
        durable.create(path, line.encode() + b"\n")
        files.append(str(path))
    human = [*files, f"Any {threshold} of them give the root key back. Print them, hand them out, delete the folder."]
    emit(ctx, {"files": files, "threshold": threshold}, "\n".join(human))


@escrow.command("join")
@click.argument("shares", nargs=-1, required=True, type=_FILE)
@json_option
@click.pass_context
def join_(ctx: click.Context, shares: tuple[Path, ...]) -> None:
    """Make the key file again from shares, one file each. Refuses where there is a key file.

    \b
    Example:
      profile-vault keys escrow join /run/a.txt /run/c.txt

    The key is tried on the key store first: shares of another vault, or of a root key before this one, are refused.
    """
    settings = load()
    if settings.key_file.exists():
        raise Conflict(f"{settings.key_file} is there already; nothing is written over it.", code="not_empty")
    root = join([_line(path) for path in shares])
    _check(settings, root)
    settings.key_file.parent.mkdir(parents=True, exist_ok=True)
    durable.create(settings.key_file, root.hex().encode() + b"\n")
    emit(ctx, {"key_file": str(settings.key_file)}, f"{settings.key_file} is there again, and opens the key store.")


def _root(settings: Settings) -> bytes:
    """The root key of this vault, tried on its key store. Raises `ConfigError`."""
    if settings.service.kind != "local":
        raise ConfigError(
            f"there is no root key here: {settings.service.kind} seals the keys; its own backup does this work"
        )
    if settings.key_file.is_dir() or not settings.key_file.exists():
        raise ConfigError("the root key is needed: KEY_FILE names its file, not a folder of secrets")
    LocalKeyService.check_secret(settings.key_file)
    root = bytes.fromhex(durable.read_private(settings.key_file, MAX_BYTES).decode().strip())
    _check(settings, root)
    return root


def _check(settings: Settings, root: bytes) -> None:
    """Raises `Invalid` (`other_key`) unless this key opens the key store."""
    if not settings.keyring.is_dir():
        raise ConfigError(f"there is no key store in {settings.keyring} to try the key on: put it in place first")
    try:
        KeyStore(settings.keyring, LocalKeyService(root)).held(names.JOURNAL)
    except (Unreadable, NotFound):
        raise Invalid(
            "That key does not open this key store: it is another vault's, or one from before.", code="other_key"
        ) from None


def _line(path: Path) -> str:
    with path.open("rb") as file:
        return " ".join(file.read(MAX_BYTES).decode("utf-8", "replace").split())
