"""The files of the key store as they lie in its folder: how they are read, and how all of them are exchanged at once.

An exchange is for keys that another key service sealed (`keys move`). Promises: whoever reads finds all files of before or all
of after, wherever it was interrupted; from the rename that decides, finishing needs no key, and whoever writes next does it.
Bytes that were replaced are overwritten. Bytes: docs/formats/keystore.md. Knows forms, and opens nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from vault import durable
from vault.errors import Unreadable

FORMAT: Final = 1
MAX_FILE_BYTES: Final = 1 << 25  # a file of all version numbers; `rights` gets one with each start of a writer
INVENTORY: Final = "made.json"
STAGED: Final = ".moving"  # not decided: nobody reads it, and who writes next throws it away
DECIDED: Final = ".moved"  # decided: what lies here counts, and not what it replaces

_T = TypeVar("_T")

Stamp = tuple[int, int, int]


# Stored for good: fields are added at the end, with defaults; a new meaning needs a new format number.
class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a key, as the key service sealed it."""

    version: int
    made_at: int
    sealed: str


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of one name."""

    format: int
    name: str
    keys: tuple[Sealed, ...]


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a name, whether it has keys now or not."""

    last: int  # highest version ever made
    destroyed: bool = False  # the name as a whole, on purpose
    oldest: int = 0  # versions below this take no new wraps: a rotation opened it


class Inventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every name that ever had a key that lasts."""

    format: int
    made: dict[str, Made]
    turn: int = 0  # how often a rotation opened something
    moves: int = 0  # how often all keys were sealed anew elsewhere

    def get(self, name: str) -> Made | None:
        """What is known of a name."""
        return self.made.get(name)

    def with_made(self, made: Mapping[str, Made], turns: int = 0) -> "Inventory":
        """The same with these names, and so many turns more."""
        return msgspec.structs.replace(self, made={**self.made, **made}, turn=self.turn + turns)


def encoded(content: msgspec.Struct) -> bytes:
    """The bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(content)) + b"\n"


def decoded(folder: Path, filename: str, kind: type[_T]) -> _T:
    """The content of one of our files. Raises FileNotFoundError, `Unreadable`."""
    try:
        data = durable.read_private(folder / DECIDED / filename, MAX_FILE_BYTES)
    except FileNotFoundError:
        data = durable.read_private(folder / filename, MAX_FILE_BYTES)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable from None


def stamp(folder: Path, filename: str) -> Stamp | None:
    """Another value after each change of a file; None where there is none."""
    for path in (folder / DECIDED / filename, folder / filename):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def exchange(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Puts all these files in place, the inventory among them. For who has the lock of the folder."""
    staged = folder / STAGED
    settle(folder)
    durable.private_folder(staged)
    for filename, data in contents.items():
        durable.write(staged / filename, data)
    staged.rename(folder / DECIDED)
    durable.sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Finishes an exchange that was decided, and forgets one that was not. For who has the lock of the folder."""
    _forget(folder / STAGED)
    decided = folder / DECIDED
    if not decided.is_dir():
        return
    for path in sorted(decided.iterdir(), key=lambda one: one.name == INVENTORY):
        with durable.overwritten_after(folder / path.name):
            path.replace(folder / path.name)
            durable.sync_folder(folder)
    decided.rmdir()
    durable.sync_folder(folder)


def _forget(staged: Path) -> None:
    """A copy of sealed keys that no destruction would reach."""
    if not staged.is_dir():
        return
    for path in staged.iterdir():
        with durable.overwritten_after(path):
            path.unlink()
    staged.rmdir()
    durable.sync_folder(staged.parent)
