"""What became of the keys of a store: epochs left and destroyed, and copies that were made of it. In `history.json`.

It lies in the key store and not in the database, so that who writes to the database cannot make a date of it earlier. Bytes:
docs/formats/keystore.md. Promises: a file is whole or the one before; what it says is never earlier than what is true, as
far as the vault was told of copies.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from vault import durable
from vault.clock import DAY, Micros
from vault.errors import Unreadable
from vault.keys.keystore import LOCK

FORMAT: Final = 1
FILE: Final = "history.json"
MAX_BYTES: Final = 1 << 25


# Stored for good: fields are added at the end, with defaults; a new meaning needs a new format number.
class Destroyed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One version of a key that is no more."""

    name: str
    version: int
    left_at: int  # when nothing live needed it any more
    destroyed_at: int
    service_days: int | None = None  # until the key service's own key is gone; None: it has none of its own
    copies_until: int = 0  # when the last copy of the key store that has it is gone
    made_at: int = 0  # when the key was made
    asking: bool = False  # the key service was not told yet, and may add days to the date

    @property
    def unreadable_after(self) -> Micros:
        """From then on nothing opens what was wrapped under it, wherever it lies."""
        service = self.destroyed_at + (self.service_days or 0) * DAY
        return Micros(max(self.left_at, service, self.copies_until))


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A copy of the key store, and of everybody's wraps, that was made by a command."""

    backup_id: UUID
    made_at: int
    until: int  # when it is destroyed, as its owner says


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rotation to one version of a key, through for the first time: nothing live was left under an older one."""

    name: str
    version: int
    at: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    destroyed: tuple[Destroyed, ...] = ()
    backups: tuple[Backup, ...] = ()
    ended: tuple[Ended, ...] = ()


class History:
    """The file of one key store."""

    def __init__(self, folder: Path) -> None:
        """The key store's folder. Reads nothing yet."""
        self._path = folder / FILE

    def destroyed(self) -> tuple[Destroyed, ...]:
        """Every version that was destroyed by command, oldest first. Raises `Unreadable`."""
        return self._load().destroyed

    def backups(self) -> tuple[Backup, ...]:
        """Every registered copy, oldest first. Raises `Unreadable`."""
        return self._load().backups

    def left_at(self, name: str, version: int) -> Micros | None:
        """When the first rotation ended that left this version; None before that. Raises `Unreadable`."""
        return min(
            (Micros(one.at) for one in self._load().ended if one.name == name and one.version > version), default=None
        )

    def add_ended(self, some: Iterable[Ended]) -> None:
        """Durably. The first end of a rotation counts: a pass that was through stays so."""
        with durable.locked(self._path.with_name(LOCK)):
            file = self._load()
            known = {(one.name, one.version) for one in file.ended}
            fresh = tuple(one for one in some if (one.name, one.version) not in known)
            if fresh:
                self._save(msgspec.structs.replace(file, ended=(*file.ended, *fresh)))

    def add_destroyed(self, one: Destroyed) -> None:
        """Durably. A version that is in it already is replaced by what is said now, and never to an earlier date."""
        with durable.locked(self._path.with_name(LOCK)):
            self._add_destroyed(one)

    def _add_destroyed(self, one: Destroyed) -> None:
        file = self._load()
        others = tuple(old for old in file.destroyed if (old.name, old.version) != (one.name, one.version))
        before = [old for old in file.destroyed if (old.name, old.version) == (one.name, one.version)]
        for old in before:
            one = msgspec.structs.replace(
                one, left_at=max(one.left_at, old.left_at), copies_until=max(one.copies_until, old.copies_until)
            )
        self._save(msgspec.structs.replace(file, destroyed=(*others, one)))

    def add_backup(self, one: Backup) -> None:
        """Durably."""
        with durable.locked(self._path.with_name(LOCK)):
            file = self._load()
            self._save(msgspec.structs.replace(file, backups=(*file.backups, one)))

    def _load(self) -> _File:
        try:
            file = msgspec.json.decode(durable.read_private(self._path, MAX_BYTES), type=_File)
        except FileNotFoundError:
            return _File(FORMAT)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Unreadable from None
        if file.format != FORMAT:
            raise Unreadable
        return file

    def _save(self, file: _File) -> None:
        durable.write(self._path, msgspec.json.format(msgspec.json.encode(file)) + b"\n")

    def __repr__(self) -> str:
        return "History()"


def last_copy(backups: Iterable[Backup], made_before: Micros) -> int:
    """When the last of the copies that were made before a moment is gone; 0 for none."""
    return max((one.until for one in backups if one.made_at <= made_before), default=0)
