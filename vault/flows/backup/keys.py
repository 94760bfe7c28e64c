"""The archive of keys: the key store, sealed, and everybody's wraps of one moment. Bytes: docs/formats/backup.md.

With the wraps, data from before a rotation opens with the keys of after it: whoever was erased since is not in them.
"""

import asyncio
import io
import os
import struct
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Final
from uuid import UUID

import msgspec

from vault import durable
from vault.clock import Micros, isoformat
from vault.errors import Invalid, Unreadable
from vault.flows.backup.archive import digest_of
from vault.flows.vault import Vault
from vault.keys.compartments import newest_wraps
from vault.storage.session import Database, Raw

FORMAT: Final = 1
STORE: Final = "keyring/"
WRAPS: Final = "wraps.bin"
MANIFEST: Final = "manifest.json"
BATCH: Final = 1000  # people a statement
MAX_ROW: Final = 1 << 20
_RECORD: Final = struct.Struct(">16sII")  # subject, version of the keys row, length of the row
_EVERYBODY: Final = """
SELECT subject_id, version, wraps FROM keys.subject_key WHERE subject_id > $1 ORDER BY subject_id LIMIT $2
"""
_SOME: Final = "SELECT subject_id, wraps FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
_REPLACE: Final = """
UPDATE keys.subject_key k SET wraps = n.wraps FROM unnest($1::uuid[], $2::bytea[]) AS n(subject_id, wraps)
WHERE k.subject_id = n.subject_id
"""


async def write_keys(vault: Vault, target: Path, at: Micros) -> tuple[int, str]:
    """The archive, private and flushed; answers bytes and SHA-256. The wraps first: the store then has every epoch of theirs."""
    wraps = target.with_name(f".{target.name}.wraps")
    try:
        with _private(wraps) as file:
            async with vault.database.snapshot() as connection:
                async for row in _everybody(connection):
                    file.write(row)
        await asyncio.to_thread(_pack, vault, target, wraps, at)
    finally:
        wraps.unlink(missing_ok=True)
    return await asyncio.to_thread(digest_of, target)


def read_store(archive: Path) -> dict[str, bytes]:
    """The files of the key store by name. Raises `Invalid` (`bad_backup`)."""
    found: dict[str, bytes] = {}
    with _opened(archive) as tar:
        for entry in tar:
            name = entry.name.removeprefix(STORE)
            content = tar.extractfile(entry) if entry.isreg() and name != entry.name and "/" not in name else None
            if content is not None:
                found[name] = content.read()
    return found


async def bring_up(database: Database, archive: Path) -> int:
    """Gives everybody in the database those wraps of the archive that are of later epochs; answers how many rows changed.

    Only for compartments that are there, and for purposes that they have there: nothing is widened.
    """
    changed = 0
    with _opened(archive) as tar:
        try:
            stored = tar.extractfile(WRAPS)
        except KeyError:
            stored = None
        if stored is None:
            return 0
        batch: dict[UUID, bytes] = {}
        for subject, row in _records(stored):
            batch[subject] = row
            if len(batch) >= BATCH:
                changed += await _bring_up(database, batch)
                batch = {}
        if batch:
            changed += await _bring_up(database, batch)
    return changed


async def _bring_up(database: Database, newer: dict[UUID, bytes]) -> int:
    async with database.hot() as connection:
        replaced: dict[UUID, bytes] = {}
        for row in await connection.fetch(_SOME, list(newer)):
            subject = UUID(bytes=row[0].bytes)
            try:
                made = newest_wraps(row[1], newer[subject])
            except Unreadable:
                continue  # nobody reads it as it is, either
            if made != row[1]:
                replaced[subject] = made
        if replaced:
            await connection.execute(_REPLACE, list(replaced), list(replaced.values()))
    return len(replaced)


async def _everybody(connection: Raw) -> AsyncIterator[bytes]:
    after = UUID(int=0)
    while rows := await connection.fetch(_EVERYBODY, after, BATCH):
        after = UUID(bytes=rows[-1][0].bytes)
        yield b"".join(_RECORD.pack(row[0].bytes, row[1], len(row[2])) + row[2] for row in rows)


def _records(file: IO[bytes]) -> Iterator[tuple[UUID, bytes]]:
    while head := file.read(_RECORD.size):
        if len(head) != _RECORD.size:
            raise _bad()
        subject, _, length = _RECORD.unpack(head)
        row = file.read(length) if length <= MAX_ROW else b""
        if len(row) != length:
            raise _bad()
        yield UUID(bytes=subject), row


def _pack(vault: Vault, target: Path, wraps: Path, at: Micros) -> None:
    manifest = msgspec.json.encode({"format": FORMAT, "made_at": isoformat(at)})
    with _private(target) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in {MANIFEST: manifest, **vault.keystore.copied()}.items():
                path = name if name == MANIFEST else f"{STORE}{name}"
                tar.addfile(_entry(path, len(content), at), io.BytesIO(content))
            with wraps.open("rb") as stored:
                tar.addfile(_entry(WRAPS, wraps.stat().st_size, at), stored)
        file.flush()
        os.fsync(file.fileno())
    durable.sync_folder(target.parent)


def _entry(name: str, size: int, at: Micros) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, durable.FILE_MODE, at // 1_000_000
    return entry


def _private(path: Path) -> IO[bytes]:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, durable.FILE_MODE)
    return os.fdopen(descriptor, "wb")


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, mode="r:")
    except (tarfile.TarError, OSError):
        raise _bad() from None


def _bad() -> Invalid:
    return Invalid("The archive of keys cannot be read.", code="bad_backup")
