"""A backup of the keys: the key store as it is, sealed, and everybody's wraps of one moment. Bytes: docs/formats/keys-backup.md.

With it a backup of the data from before a rotation opens with the keys of after, but for who was erased since: their wraps are
in no later one. Promises: the file is whole or not there, private, and registered in the key store before this answers;
keys of archives are left out, since an archive is gone after a week everywhere. Needs no key of its own: nothing is opened.
"""

import asyncio
import io
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final
from uuid import UUID

import msgspec

from vault import durable
from vault.audit.entry import Tag
from vault.clock import DAY, Micros, isoformat
from vault.flows.epochs import everybody
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys.history import FILE as HISTORY
from vault.keys.history import Backup, History
from vault.keys.keystore import SUFFIX
from vault.keys.shelf import INVENTORY, MAX_FILE_BYTES

FORMAT: Final = 1
_RECORD: Final = struct.Struct(">16sII")  # subject, version of the keys row, length
_LEFT_OUT: Final = "archive-"
_FILE_MODE: Final = 0o600

Progress = Callable[[int], None]


class Made(msgspec.Struct, frozen=True):
    """A backup of the keys that was made."""

    backup_id: UUID
    made_at: Micros
    until: Micros
    keys: int
    people: int


async def back_up(vault: Vault, target: Path, actor: str = "operator", progress: Progress = lambda _: None) -> Made:
    """Writes the backup to `target`, which must not exist. Raises `Invalid` if it does, or cannot be written."""
    made_at = vault.clock.now()
    one = Backup(uuid7(made_at), made_at, made_at + vault.settings.keyring_backup_days * DAY)
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    wraps = target.with_name(f".{target.name}.{os.getpid()}.wraps")
    try:
        with _private(wraps) as file:
            people = await _wraps(vault, file, progress)
        await asyncio.to_thread(vault.keystore.settle)
        keys = await asyncio.to_thread(_archive, vault.settings.keyring, beside, wraps, one)
        await asyncio.to_thread(_place, beside, target)
    except OSError as error:
        raise durable.unwritable(error) from None
    finally:
        for left in (wraps, beside):
            left.unlink(missing_ok=True)
    async with vault.database.begin() as connection:
        detail: dict[str, str | int | list[str | int]] = {"backup": str(one.backup_id), "keys": keys, "people": people}
        await leave(vault, connection, Tag.KEY_BACKUP_MADE, actor, detail)
    await asyncio.to_thread(History(vault.settings.keyring).add_backup, one)
    return Made(one.backup_id, made_at, Micros(one.until), keys, people)


def _place(beside: Path, target: Path) -> None:
    """Raises FileExistsError: a backup is never written over another."""
    os.link(beside, target)
    durable.sync_folder(target.absolute().parent)


def _private(path: Path) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    return os.fdopen(descriptor, "wb")


async def _wraps(vault: Vault, file: IO[bytes], progress: Progress) -> int:
    people = 0
    async with vault.database.snapshot() as connection:
        async for rows in everybody(connection):
            file.write(b"".join(_RECORD.pack(row[0].bytes, row[2], len(row[1])) + row[1] for row in rows))
            people += len(rows)
            progress(people)
    return people


def _archive(keyring: Path, target: Path, wraps: Path, one: Backup) -> int:
    """The key store is read after the wraps were: it has every epoch that they name."""
    names = sorted(path for path in keyring.glob(f"*{SUFFIX}") if not path.name.startswith(_LEFT_OUT))
    files = [*names, *(keyring / name for name in (INVENTORY, HISTORY))]
    manifest = {
        "format": FORMAT,
        "backup": str(one.backup_id),
        "made_at": isoformat(Micros(one.made_at)),
        "until": isoformat(Micros(one.until)),
    }
    with _private(target) as file, tarfile.open(fileobj=file, mode="w") as archive:
        _add(archive, "manifest.json", msgspec.json.encode(manifest), one.made_at)
        for path in files:
            try:
                content = durable.read_private(path, MAX_FILE_BYTES)
            except FileNotFoundError:  # a key of one request, destroyed just now; or nothing was ever destroyed here
                continue
            _add(archive, f"keyring/{path.name}", content, one.made_at)
        with wraps.open("rb") as stored:
            entry = _entry("wraps.bin", wraps.stat().st_size, one.made_at)
            archive.addfile(entry, stored)
        archive.close()
        file.flush()
        os.fsync(file.fileno())
    return len(names)


def _add(archive: tarfile.TarFile, name: str, content: bytes, at: int) -> None:
    archive.addfile(_entry(name, len(content), at), io.BytesIO(content))


def _entry(name: str, size: int, at: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, _FILE_MODE, at // 1_000_000
    return entry
