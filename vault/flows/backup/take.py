"""Takes a backup: data first, keys and journal after it, so that they know at least what the data knows.

Runs beside whatever serves. Promises: each archive is private, whole and flushed before its manifest is there, and an
archive without a manifest is none; no value is in clear in any, and no root key in any. ADR 0111.
"""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vault import durable
from vault.audit.store import latest_checkpoint
from vault.clock import Micros, isoformat, to_datetime
from vault.config import Settings
from vault.errors import Conflict
from vault.flows import keys_backup
from vault.flows.backup.archive import (
    KINDS,
    Kind,
    Manifest,
    digest_of,
    end_of,
    manifest_of,
    name_of,
    pack,
    write_manifest,
)
from vault.flows.vault import Vault
from vault.keys import names
from vault.storage.dump import Progress, dump, server_major
from vault.storage.migrate import newest


def keep_of(settings: Settings, kind: Kind) -> int | None:
    """Days that an archive is kept; None: as long as the vault. The journal must outlive every backup of the data."""
    return {"data": settings.data_backup_days, "keys": settings.keyring_backup_days, "journal": None}[kind]


async def back_up(vault: Vault, folder: Path, only: tuple[Kind, ...], progress: Progress) -> list[Manifest]:
    """Writes the archives into `folder`/data, /keys and /journal.

    Raises `ConfigError`, `Conflict` for a name that is taken, `Invalid` for a disk that is full: archives that were finished
    before stay, the one in the making does not.
    """
    now = vault.clock.now()
    name = to_datetime(now).strftime("%Y%m%dT%H%M%SZ")
    durable.private_folder(folder)
    made = []
    for kind in KINDS:
        if kind not in only:
            continue
        durable.private_folder(folder / kind)
        target = folder / kind / name_of(kind, name)
        if target.exists() or manifest_of(target).exists():
            raise Conflict(f"{target} is there already; backups are named by the second.", code="not_empty")
        about = await _about(vault, kind)  # before the copy: the copy holds at least as much
        try:
            size, digest = await _copy(vault, kind, target, now, progress)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise durable.unwritable(error) from None
        manifest = Manifest(
            1,
            kind,
            name,
            isoformat(now),
            end_of(now, keep_of(vault.settings, kind)),
            version("profile-vault"),
            target.name,
            size,
            digest,
            about,
        )
        made.append(write_manifest(target, manifest, vault.keyring.key(names.JOURNAL)))
    return made


async def _copy(vault: Vault, kind: Kind, target: Path, now: Micros, progress: Progress) -> tuple[int, str]:
    if kind == "data":
        return await dump(vault.database, target, progress)
    if kind == "keys":
        await keys_backup.back_up(vault, target)
        return await asyncio.to_thread(digest_of, target)
    return await asyncio.to_thread(lambda: pack(target, vault.journal.copied(), now))


async def _about(vault: Vault, kind: Kind) -> dict[str, Any]:
    """What a restore must know before it begins, and a person who looks for the right backup."""
    if kind == "keys":
        store = vault.keystore
        lasting = [name for name in store.names() if not name.startswith(names.PASSING)]
        return {"keys": {name: store.versions(name) for name in lasting}}
    if kind == "journal":
        head = await asyncio.to_thread(vault.journal.verify)
        kept = await asyncio.to_thread(vault.journal.read_head)
        return {"entries": head.number, "audit": 0 if kept is None else kept.size}
    async with vault.database.hot() as connection:
        latest = await latest_checkpoint(connection)
    needed = vault.keystore.names()
    return {
        "server": await server_major(vault.database),
        "schema": newest(),
        "incarnation": vault.incarnation,
        "audit": 0 if latest is None else latest[0],
        "policy": vault.policy.number,
        "keys": {name: vault.keystore.versions(name) for name in needed if not name.startswith(names.PASSING)},
    }
