"""Reads the archive of keys, which `flows.keys_backup` writes: the key store, and everybody's wraps of one moment.

With the wraps, data from before a rotation opens with the keys of after it: whoever was erased since is not in them.
Bytes: docs/formats/keys-backup.md.
"""

import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from vault.errors import Invalid, Unreadable
from vault.keys.compartments import newest_wraps
from vault.storage.session import Database

STORE: Final = "keyring/"
WRAPS: Final = "wraps.bin"
BATCH: Final = 1000  # people a statement
MAX_ROW: Final = 1 << 20
_RECORD: Final = struct.Struct(">16sII")  # subject, version of the keys row, length of the row
_SOME: Final = "SELECT subject_id, wraps FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[])"
_REPLACE: Final = """
UPDATE keys.subject_key k SET wraps = n.wraps FROM unnest($1::uuid[], $2::bytea[]) AS n(subject_id, wraps)
WHERE k.subject_id = n.subject_id
"""


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


def _records(file: IO[bytes]) -> Iterator[tuple[UUID, bytes]]:
    while head := file.read(_RECORD.size):
        if len(head) != _RECORD.size:
            raise _bad()
        subject, _, length = _RECORD.unpack(head)
        row = file.read(length) if length <= MAX_ROW else b""
        if len(row) != length:
            raise _bad()
        yield UUID(bytes=subject), row


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, mode="r:")
    except (tarfile.TarError, OSError):
        raise _bad() from None


def _bad() -> Invalid:
    return Invalid("The archive of keys cannot be read.", code="bad_backup")
