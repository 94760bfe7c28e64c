"""The way back: data of some time with the keys and the journal of later. Nothing that is newer is written over.

Promises: the archives are those of their manifests, and this vault's, before anything is touched; a key store or a journal
that is there stays; a journal is replaced only by one that continues it, byte for byte; data goes into an empty database,
whole or not at all. What opens afterwards is the business of the start: head compared, journal replayed (`replay`).
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from vault import durable
from vault.config import Settings
from vault.errors import ConfigError, Conflict, VaultError
from vault.flows.backup.archive import Kind, Manifest, check_code, place, read_manifest, unpack
from vault.flows.backup.keys import bring_up, read_store
from vault.journal.file import FILE as JOURNAL_FILE
from vault.journal.head import FILE as HEAD_FILE
from vault.journal.head import newer_head
from vault.journal.journal import MAX_POLICY_BYTES
from vault.journal.opening import open_journal
from vault.keys import names
from vault.keys.keystore import SUFFIX
from vault.keys.shelf import INVENTORY
from vault.storage.dump import is_empty, load
from vault.storage.session import Database

LAID_OUT: Final = (
    ".restored"  # in the key store's folder, which may be the root of a volume: nothing else is surely beside it
)
JOURNAL_KEY: Final = f"{names.JOURNAL}{SUFFIX}"


class Archives(msgspec.Struct, frozen=True):
    """What to restore from. Without keys or journal: those that are there."""

    data: Path
    keys: Path | None = None
    journal: Path | None = None


class Placed(msgspec.Struct, frozen=True):
    """What was put where, and the manifest of the data."""

    data: Manifest
    keys: bool
    journal: bool
    wraps: int  # people whose wraps are of later epochs than in the data


async def put_back(settings: Settings, archives: Archives, journal_key: Callable[[Path], bytes]) -> Placed:
    """Puts the archives in place, keys first. `journal_key` reads it from a folder that holds a key store.

    Raises `Invalid` (`bad_backup`), `ConfigError`, or `Conflict`: `not_empty` for what is there already, `journal_newer` for a
    journal that the archive does not continue.
    """
    data = await asyncio.to_thread(read_manifest, archives.data, "data")
    others = [await asyncio.to_thread(read_manifest, path, kind) for kind, path in _given(archives) if path is not None]
    database = await Database.connect(settings)
    try:
        if not await is_empty(database):
            raise Conflict("The database has tables already: a backup goes into an empty one only.", code="not_empty")
        keys, key = await asyncio.to_thread(_place_keys, settings.keyring, archives.keys, (data, *others), journal_key)
        journal = archives.journal is not None and await asyncio.to_thread(
            _place_journal, settings.journal_folder, archives.journal, key
        )
        if settings.journal is None:  # `Unavailable` if there is none
            await asyncio.to_thread(lambda: open_journal(settings.journal_place, key, begin=False).close())
        elif not (settings.journal / JOURNAL_FILE).exists():
            raise ConfigError(
                "there is no journal here: give `--journal` the newest archive of it. Without one, who was erased since"
                " the backup would come back"
            )
        await load(database, archives.data, int(data.about["server"]))
        wraps = 0 if archives.keys is None else await bring_up(database, archives.keys)
    finally:
        await database.close()
    return Placed(data, keys, journal, wraps)


def _given(archives: Archives) -> tuple[tuple[Kind, Path | None], ...]:
    return ("keys", archives.keys), ("journal", archives.journal)


def _place_keys(
    folder: Path, archive: Path | None, manifests: Iterable[Manifest], journal_key: Callable[[Path], bytes]
) -> tuple[bool, bytes]:
    """(whether the archive's were placed, the key `journal`). A key store that is here stays: it knows what was destroyed since.

    They are laid out whole in a folder of their own, and taken up from there once the manifests are known for this vault's.
    So whoever was stopped in the middle goes on, and never takes some of the keys for all of them. Raises `Conflict`
    (`not_empty`) for a folder that holds something else.
    """
    laid_out = folder / LAID_OUT
    taking = laid_out.exists() and (folder / INVENTORY).exists()  # the inventory is taken up first
    if not taking and laid_out.exists():
        shutil.rmtree(laid_out)
    if not taking and archive is not None and not (folder.exists() and any(folder.glob("*.key"))):
        files = read_store(archive)
        if taken := sorted(name for name in files if (folder / name).exists()):
            raise Conflict(f"{folder / taken[0]} is there already: nothing is written over it.", code="not_empty")
        durable.private_folder(folder)
        place(laid_out, files)
        taking = True
    try:
        key = journal_key(laid_out if (laid_out / JOURNAL_KEY).exists() else folder)
        for manifest in manifests:
            check_code(manifest, key)
    except ConfigError:  # no root key yet: `keys escrow join` tries the shares on the key store that lies here
        if taking:
            _take_up(laid_out, folder)
        raise
    except VaultError:
        if taking and not (folder / INVENTORY).exists():
            shutil.rmtree(laid_out)
        raise
    if taking:
        _take_up(laid_out, folder)
    return taking, key


def _take_up(laid_out: Path, folder: Path) -> None:
    """The inventory first: with it, a key that is missing is missed."""
    for path in sorted(laid_out.iterdir(), key=lambda path: (path.name != INVENTORY, path.name)):
        path.rename(folder / path.name)
        durable.sync_folder(folder)
    laid_out.rmdir()
    durable.sync_folder(folder)


def _place_journal(folder: Path, archive: Path, key: bytes) -> bool:
    """True if the archive's was placed: into an empty folder, or over a journal that it continues."""
    files = unpack(archive)
    if JOURNAL_FILE not in files:
        raise Conflict("The archive holds no journal.", code="bad_backup")
    path = folder / JOURNAL_FILE
    if not path.exists():
        place(folder, files)
        return True
    here, there = path.read_bytes(), files[JOURNAL_FILE]
    if here == there or here.startswith(there):
        return False  # the one that is here is as new, or newer: it stays
    if not there.startswith(here):
        raise Conflict(
            "The journal that is here and the one of the archive went different ways; keep the one that is here: leave out"
            " `--journal`.",
            code="journal_newer",
        )
    for name, content in _others(files, folder, key).items():
        target = folder / name
        if target.parent != folder:
            durable.private_folder(target.parent)
        durable.write(target, content)
    durable.write(path, there)
    return True


def _others(files: Mapping[str, bytes], folder: Path, key: bytes) -> dict[str, bytes]:
    """What goes with a newer journal: policies, and the head if it is ahead of the one here."""
    found = {name: content for name, content in files.items() if name.startswith("policies/")}
    found = {name: content for name, content in found.items() if len(content) <= MAX_POLICY_BYTES}
    head = files.get(HEAD_FILE)
    if head is not None and newer_head(folder, key, head):
        found[HEAD_FILE] = head
    return found
