"""The key store: a folder with one file a name, each key sealed by the key service. Bytes: docs/formats/keystore.md.

Promises: what `add` answered is on disk; a file is whole or the one before; a key that was made once and is missing is
an error, never a reason to make another; a destroyed version number is not given again. Folder 0700, files 0600, writers
take turns by a lock. It knows no purposes and holds no opened key.

Overwriting before unlinking is done and promises little: file systems that copy on write and disks that spread wear keep
old blocks. What counts is the key service's own key, and that the folder is in no backup of the data.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from vault import durable
from vault.clock import Micros
from vault.crypto.keyservice import FAMILIES, REFUSED, KeyService, lock_of
from vault.errors import NotFound, Unavailable, Unreadable
from vault.ids import random_bytes
from vault.keys import names as named
from vault.keys import shelf
from vault.keys.shelf import FORMAT, INVENTORY, File, Inventory, Made, Sealed, Stamp

KEY_BYTES: Final = 32
MAX_VERSION: Final = 2**16 - 1  # an epoch is stored in two bytes
UNKNOWN: Final = Micros(0)  # a key made by a tool without a clock
NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,119}", re.ASCII)
SUFFIX: Final = ".key"
LOCK: Final = ".lock"
_VERSION_BYTES: Final = 4
_AT_ONCE: Final = 8  # names that are opened at once where each waits for a service: a start asks for some forty
_NONE: Final[Mapping[int, "Held"]] = {}


class Held(msgspec.Struct, frozen=True):
    """One version of a key: its bytes, and when it was made."""

    key: bytes
    made_at: Micros

    def __repr__(self) -> str:
        return "Held(...)"


class KeyStore:
    """A folder of sealed keys. Several processes may use it at once."""

    def __init__(self, folder: Path, service: KeyService) -> None:
        """Makes the folder if need be. Raises `ConfigError` if it is open to others or not ours."""
        self._folder = folder
        self._service = service
        durable.private_folder(folder)
        self._moves = self._inventory().moves

    def names(self) -> list[str]:
        """The names that have a key now, in order."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))

    @property
    def instant(self) -> bool:
        """True if the key service answers from memory."""
        return self._service.instant

    @property
    def whole(self) -> bool:
        """True if this process may make what the key service itself has: it holds the root key, or prepares. Asks the service."""
        return self._service.whole

    @property
    def fault(self) -> str | None:
        """Why the key service did not answer when it was asked last."""
        return self._service.fault

    @property
    def empty(self) -> bool:
        """True if no key was ever made here."""
        return not (self._folder / INVENTORY).exists() and not self.names()

    def lost(self) -> list[str]:
        """The names that had a key once, were never destroyed, and have no file now."""
        present = set(self.names())
        return sorted(n for n, made in self._inventory().made.items() if n not in present and not made.destroyed)

    def read(self, name: str) -> dict[int, bytes]:
        """Version to key. Raises `NotFound` if there is none, `Unreadable` if one does not unseal as itself."""
        return {version: held.key for version, held in self.held(name).items()}

    def held(self, name: str, known: Mapping[int, Held] = _NONE) -> dict[int, Held]:
        """As `read`, with the times of making. Asks the key service for what is not `known`: a number is not given twice."""
        file = self._load(name)
        if file is None:
            raise NotFound
        return {
            one.version: known.get(one.version) or Held(self._unseal(name, one), Micros(one.made_at))
            for one in file.keys
        }

    def opened(self, names: Sequence[str]) -> dict[str, dict[int, Held]]:
        """`held` of those names that the key service opens to this process; several at once, where it is elsewhere."""
        with ThreadPoolExecutor(1 if self._service.instant else _AT_ONCE) as threads:
            found = zip(names, threads.map(self._if_opened, names), strict=True)
            return {name: versions for name, versions in found if versions is not None}

    def _if_opened(self, name: str) -> dict[int, Held] | None:
        try:
            return self.held(name) if self.opens(name) else None
        except Unavailable as error:
            if error.reason != REFUSED:
                raise
            return None

    def made(self, name: str) -> dict[int, Micros]:
        """When each version of a name was made, without opening any."""
        file = self._load(name)
        return {} if file is None else {one.version: Micros(one.made_at) for one in file.keys}

    def versions(self, name: str) -> list[int]:
        """The versions of a name, ascending, without opening any."""
        file = self._load(name)
        return [] if file is None else [one.version for one in file.keys]

    def add(self, name: str, key: bytes, made_at: Micros = UNKNOWN) -> int:
        """Stores `key` as the next version of `name`, durably, and answers the version. The first is 1."""
        with self._locked():
            return self._add({name: key}, made_at)[name]

    def turn_to(self, name: str, key: bytes, made_at: Micros = UNKNOWN, *, at_least: int = 0) -> int:
        """As `add`, and closes every older version of `name` to new wraps: those who write learn of it by `turn`."""
        with self._locked():
            turns = max(1, at_least - self._inventory().turn)
            return self._add({name: key}, made_at, turns=turns)[name]

    def turning(self) -> AbstractContextManager[None]:
        """One rotation at a time begins: the number that it raises must mean what it made."""
        return durable.locked(self._folder / ".turning")

    @property
    def turn(self) -> int:
        """How often `turn_to` was called: who knows this number knows every key that was newest then."""
        return self._inventory().turn

    def oldest(self, name: str) -> int:
        """The first version of a name that takes new wraps; 0 before its first rotation."""
        made = self._inventory().get(name)
        return made.oldest if made is not None else 0

    @property
    def stamp(self) -> Stamp | None:
        """Another value after every change of lasting keys, by whichever process; asked for without opening a file."""
        return shelf.stamp(self._folder, INVENTORY)

    def stamp_of(self, name: str) -> Stamp | None:
        """The same of the keys of one name; None where it has none."""
        return shelf.stamp(self._folder, self._path(name).name)

    def ensure(self, names: Sequence[str], made_at: Micros = UNKNOWN) -> list[str]:
        """Makes a first key for each name that never had one; answers which.

        Raises `Unavailable` if a name had a key once and its file is gone: restore the key store from its backup.
        """
        self._service.prepare(sorted({*map(lock_of, names), *FAMILIES}))
        with self._locked():
            inventory = self._inventory().made
            present = set(self.names())
            lost = [n for n in names if n not in present and n in inventory and not inventory[n].destroyed]
            if lost:
                raise Unavailable(f"keys that were made once are missing from the key store: {', '.join(lost)}")
            wanted = {name: random_bytes(KEY_BYTES) for name in names if name not in present}
            self._add(wanted, made_at)
            return list(wanted)

    def reseal(self, lock: str | None = None) -> list[str]:
        """Seals anew what the key service made in an older form; answers the names. The keys stay what they are.

        With `lock`: only the names that this own key of the service seals.
        """
        with self._locked():
            return [name for name in self.names() if lock in (None, lock_of(name)) and self._resealed(name)]

    def move_to(self, target: KeyService) -> int:
        """Seals every key by another service, all at once; answers of how many names. The keys stay what they are.

        Interrupted, the store opens with this service or with `target`, never with each in part. After it this object writes no
        more. Raises `Unavailable` for a key that this service does not open or that one does not seal, and `Unreadable`.
        """
        with self._locked():
            held = self.names()
            target.prepare(sorted({*map(lock_of, held), *FAMILIES}))
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                files = list(threads.map(lambda name: self._sealed_by(target, name), held))
            inventory = self._inventory()
            moved = msgspec.structs.replace(inventory, moves=inventory.moves + 1)
            contents = {self._path(file.name).name: shelf.encoded(file) for file in files}
            shelf.exchange(self._folder, contents | {INVENTORY: shelf.encoded(moved)})
            return len(files)

    def settle(self) -> None:
        """Finishes a move that was interrupted, for who reads the files themselves."""
        with self._locked():
            pass

    def opens(self, name: str) -> bool:
        """True if the key service unseals keys of this name to this process."""
        return self._service.opens(name)

    def seals(self, name: str) -> bool:
        """True if this process may add keys of this name."""
        return self._service.seals(name)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the names that have no key here."""
        return sorted(set(names) - set(self.names()))

    def retire(self, name: str) -> int | None:
        """Has the key service destroy its older own keys for the lock of `name`, once nothing is sealed under them.

        In how many days they are gone; None if it has none (`KeyService.retire`).
        """
        lock = lock_of(name)
        self.reseal(lock)
        return self._service.retire(lock)

    def renew(self, name: str) -> None:
        """Has the key service make a new own key for the lock of `name`: what is made from now on is sealed under it."""
        self._service.renew(lock_of(name))

    def destroy(self, name: str, version: int | None = None) -> None:
        """Destroys one version of `name`, or all. What is gone already is no error; the file goes with its last key."""
        with self._locked():
            file = self._load(name)
            left = () if file is None or version is None else tuple(k for k in file.keys if k.version != version)
            if file is not None and left:
                self._replace(name, File(FORMAT, name, left))
            elif file is not None:
                self._unlink(name)
            if name.startswith(named.PASSING):
                return
            inventory = self._inventory()
            made = inventory.get(name) or Made(0)
            last = max([made.last, *(k.version for k in file.keys)] if file else [made.last])
            destroyed = made.destroyed if left else True
            made = msgspec.structs.replace(made, last=last, destroyed=destroyed)
            # Written although it may say the same as before: its stamp tells other processes to look.
            self._write(INVENTORY, inventory.with_made({name: made}))

    # --- files ------------------------------------------------------------------------------------------------------

    def _add(self, keys: Mapping[str, bytes], made_at: Micros, *, turns: int = 0) -> dict[str, int]:
        """Key files first, the inventory last: a crash between leaves keys that the next call counts in."""
        inventory = self._inventory()
        versions: dict[str, int] = {}
        for name, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ValueError("a key has 32 bytes")
            file = self._load(name)
            before = file.keys if file else ()
            made = inventory.get(name)
            last = max([k.version for k in before] + ([made.last] if made is not None else []), default=0)
            version = versions[name] = last + 1
            if version > MAX_VERSION:
                raise Unavailable("a key has used up its version numbers")
            entry = self._seal(name, Held(key, made_at), version)
            self._replace(name, File(FORMAT, name, (*before, entry)))
        lasting = {
            name: Made(last, oldest=last if turns else (inventory.get(name) or Made(0)).oldest)
            for name, last in versions.items()
            if not name.startswith(named.PASSING)
        }
        if lasting:
            self._write(INVENTORY, inventory.with_made(lasting, turns=turns))
        return versions

    def _seal(self, name: str, held: Held, version: int) -> Sealed:
        sealed = self._service.seal(name, version.to_bytes(_VERSION_BYTES, "big") + held.key)
        return Sealed(version, held.made_at, base64.b64encode(sealed).decode())

    def _sealed_by(self, target: KeyService, name: str) -> File:
        """A file as `target` seals it, each key opened again before it counts."""
        sealed = []
        for version, held in self.held(name).items():
            plain = version.to_bytes(_VERSION_BYTES, "big") + held.key
            made = target.seal(name, plain)
            if target.unseal(name, made) != plain:
                raise Unreadable
            sealed.append(Sealed(version, held.made_at, base64.b64encode(made).decode()))
        return File(FORMAT, name, tuple(sealed))

    def _resealed(self, name: str) -> bool:
        file = self._load(name)
        if file is None or not any(self._service.outdated(_bytes(one)) for one in file.keys):
            return False
        held = {one.version: Held(self._unseal(name, one), Micros(one.made_at)) for one in file.keys}
        self._replace(name, File(FORMAT, name, tuple(self._seal(name, key, n) for n, key in held.items())))
        return True

    def _unseal(self, name: str, one: Sealed) -> bytes:
        """The version is inside the seal, so that two versions in one file cannot trade places."""
        plain = self._service.unseal(name, _bytes(one))
        head = one.version.to_bytes(_VERSION_BYTES, "big")
        if len(plain) != _VERSION_BYTES + KEY_BYTES or plain[:_VERSION_BYTES] != head:
            raise Unreadable
        return plain[_VERSION_BYTES:]

    def _load(self, name: str) -> File | None:
        path = self._path(name)
        try:
            file = shelf.decoded(self._folder, path.name, File)
        except FileNotFoundError:
            return None
        versions = [one.version for one in file.keys]
        ascending = all(low < high for low, high in zip([0, *versions], versions, strict=False))
        if file.format != FORMAT or file.name != name or not versions or not ascending or versions[-1] > MAX_VERSION:
            raise Unreadable
        return file

    def _inventory(self) -> Inventory:
        try:
            inventory = shelf.decoded(self._folder, INVENTORY, Inventory)
        except FileNotFoundError:
            return Inventory(FORMAT, {})
        if inventory.format != FORMAT:
            raise Unreadable
        return inventory

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError("not the name of a key")
        return self._folder / f"{name}{SUFFIX}"

    def _replace(self, name: str, file: File) -> None:
        """Writes the new file, then overwrites the bytes of the one it replaced."""
        path = self._path(name)
        with durable.overwritten_after(path):
            self._write(path.name, file)

    def _unlink(self, name: str) -> None:
        path = self._path(name)
        with durable.overwritten_after(path):
            path.unlink()
            durable.sync_folder(self._folder)

    def _write(self, filename: str, content: msgspec.Struct) -> None:
        durable.write(self._folder / filename, shelf.encoded(content))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among writers. Raises `Unavailable` where all keys were moved: this service's seals would be strange there."""
        with durable.locked(self._folder / LOCK):
            shelf.settle(self._folder)
            if self._inventory().moves != self._moves:
                raise Unavailable("The keys were moved to another key service; start this process anew.", code=REFUSED)
            yield

    def __repr__(self) -> str:
        return "KeyStore(...)"


def _bytes(one: Sealed) -> bytes:
    try:
        return base64.b64decode(one.sealed, validate=True)
    except binascii.Error:
        raise Unreadable from None
