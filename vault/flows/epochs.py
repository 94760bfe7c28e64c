"""The end of an epoch: what depends on it, when it may go, its destruction, and from when old backups open no more.

Promises (threats H8): a key goes only after a rotation has ended that closed it, while a full scan in the transaction of its
audit entry finds no wrap that needs it, and when every backup that needs it has expired or has a newer backup of the keys
beside it, one that is still kept. What only says that it is of the epoch, and does not open, holds nothing up: else whoever
writes to the database could keep a key alive. Nor does anything there say when a rotation ended: the key store does.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Tag
from vault.clock import DAY, Micros, isoformat
from vault.errors import Conflict, Invalid, VaultError
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.flows.vouched import Vouched
from vault.journal.narrowing import EpochDestroyed
from vault.keys import names as named
from vault.keys.history import Backup, Destroyed, History, last_copy
from vault.keys.rotation import Named, count_wraps, depending
from vault.storage.session import Raw, raw

WAITS: Final = frozenset(("epoch_in_use", "epoch_in_backups"))  # codes: it may go later
CHUNK: Final = 2000  # rows a statement of a scan
_FIRST: Final = UUID(int=0)

_RANGE: Final = """
SELECT subject_id, wraps, version FROM keys.subject_key WHERE subject_id > $1 ORDER BY subject_id LIMIT $2
"""
_THERE: Final = "SELECT subject_id FROM subject WHERE subject_id = ANY ($1::uuid[])"
_ALL: Final = """
SELECT name, version, turn, opened_at, moved, done_at FROM keys.epoch ORDER BY opened_at, name, version
"""


class Opened(msgspec.Struct, frozen=True):
    """A rotation, as it stands."""

    name: str
    epoch: int
    opened_at: Micros
    wraps: int  # moved so far
    done_at: Micros | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrapped under what."""

    wraps: dict[str, dict[int, int]] | None  # by name and epoch; None where nobody counted
    unreadable_rows: int
    rotations: tuple[Opened, ...]
    destroyed: tuple[Destroyed, ...]
    backups: tuple[Backup, ...]


async def standing(vault: Vault, *, scan: bool = True) -> Standing:
    """Looks at every row of wraps, unless told not to: some 50,000 people a second."""
    async with vault.database.snapshot() as connection:
        rotations = tuple(
            Opened(row["name"], row["version"], Micros(row["opened_at"]), row["moved"], row["done_at"])
            for row in await connection.fetch(_ALL)
        )
        found: Counter[tuple[int, int]] = Counter()
        if scan:
            async for rows in everybody(connection):
                found += count_wraps(row[1] for row in rows)
    broken = found.pop((-1, 0), 0)
    wraps: dict[str, dict[int, int]] = {}
    for (purpose, epoch), count in sorted(found.items()):
        wraps.setdefault(named.epochs(purpose), {})[epoch] = count
    return Standing(
        wraps=wraps if scan else None,
        unreadable_rows=broken,
        rotations=rotations,
        destroyed=tuple(
            one
            for one in History(vault.settings.keyring).destroyed()
            if one.version not in vault.keystore.versions(one.name)
        ),
        backups=History(vault.settings.keyring).backups(),
    )


def backups_unreadable_after(vault: Vault, erased_at: Micros) -> Micros | None:
    """From when nothing of a person opens in any backup who was erased then; None while an epoch of then is still there.

    None, too, while the key service was not told yet that one is gone. Which purposes somebody had, nobody knows any more:
    so it is when the last epoch of any purpose is gone that there was.
    """
    store, ends = vault.keystore, [0]
    for name in store.names():
        if named.purpose_of(name) is not None and any(at <= erased_at for at in store.made(name).values()):
            return None
    for one in History(vault.settings.keyring).destroyed():
        if one.made_at <= erased_at:
            if one.asking or one.version in store.versions(one.name):
                return None
            ends.append(one.unreadable_after)
    return Micros(max(ends)) if max(ends) else None


async def destroy_epoch(vault: Vault, name: str, version: int, actor: str = "operator") -> Destroyed:
    """Destroys one epoch for good; answers from when nothing that was wrapped under it opens anywhere.

    Raises `Invalid` for what is no older epoch, and `Conflict` (codes `epoch_open`, `epoch_in_use`, `epoch_in_backups`) while
    one of the conditions is not met. Twice is harmless: what a crash left half done is finished.
    """
    history = History(vault.settings.keyring)
    vault.keyring.refresh()
    purpose = named.purpose_of(name)
    known = next((one for one in history.destroyed() if (one.name, one.version) == (name, version)), None)
    known = known or Destroyed(name, version, 0, 0)
    if purpose is None or (version not in vault.keystore.versions(name) and not known.destroyed_at):
        raise Invalid("There is no such epoch; `profile-vault keys status` lists them.", code="no_such_key")
    if version in vault.keystore.versions(name):
        left_at = _left(vault, history, name, version)
        _check_backups(vault, history, name, version, left_at)
        await _record(vault, name, purpose, version, actor)
        # Before the key goes: what is interrupted here, the next start finishes (`flows.returned`).
        await vault.journal.append([EpochDestroyed(vault.clock.now(), purpose, version)])
        vault.gone_epochs[purpose, version] = vault.clock.now()
        known = await asyncio.to_thread(destroy_key, vault, history, name, version, left_at)
    return await asyncio.to_thread(retire_service, vault, history, known)


class Kept(msgspec.Struct, frozen=True):
    """A closed epoch that is still there, and why."""

    name: str
    epoch: int
    code: str
    hint: str
    until: Micros | None = None  # when no backup needs it any more; None where something else holds it

    @property
    def waits(self) -> bool:
        """True if a condition is not met yet; False if something failed."""
        return self.code in WAITS


async def destroy_outdated(vault: Vault, tell: Callable[[Destroyed | Kept], None]) -> list[Destroyed | Kept]:
    """Destroys every epoch that a rotation has closed, as far as it may go; tells each as it comes. What holds one holds no other.

    What a crash left half done is finished. Each is looked for in a scan of its own, as by `destroy_epoch`.
    """
    vault.keyring.refresh()
    history, store = History(vault.settings.keyring), vault.keystore
    closed = {
        (name, version)
        for name in store.names()
        if named.purpose_of(name) is not None
        for version in store.versions(name)
        if version < vault.keyring.oldest(name)
    }
    closed |= {(one.name, one.version) for one in history.destroyed() if one.asking}
    outcome: list[Destroyed | Kept] = []
    for name, version in sorted(closed):
        try:
            one: Destroyed | Kept = await destroy_epoch(vault, name, version)
        except VaultError as error:
            one = _kept(vault, history, name, version, error)
        tell(one)
        outcome.append(one)
    return outcome


def _kept(vault: Vault, history: History, name: str, version: int, error: VaultError) -> Kept:
    left_at = history.left_at(name, version) if error.reason == "epoch_in_backups" else None
    until = None if left_at is None else Micros(left_at + vault.settings.data_backup_days * DAY)
    return Kept(name, version, error.reason, error.hint, until)


def _left(vault: Vault, history: History, name: str, version: int) -> Micros:
    """When a rotation ended that left this epoch. Raises `Conflict`."""
    if version >= vault.keyring.oldest(name):
        raise Conflict(
            f"New values are wrapped under it; first run: profile-vault keys rotate {name}", code="epoch_open"
        )
    left_at = history.left_at(name, version)
    if left_at is None:
        raise Conflict(f"A rotation has not ended; finish it: profile-vault keys rotate {name}", code="epoch_in_use")
    return left_at


def _check_backups(vault: Vault, history: History, name: str, version: int, left_at: Micros) -> None:
    """Raises `Conflict` while a backup needs the epoch that has no newer backup of the keys beside it."""
    days = vault.settings.data_backup_days
    ends = Micros(left_at + days * DAY)
    now = vault.clock.now()
    beside = any(
        one.made_at >= left_at and one.until > now for one in history.backups()
    )  # one that is gone helps nobody
    if not days or now >= ends or beside:
        return
    raise Conflict(
        f"Backups of the data from before {isoformat(left_at)} need epoch {version} of {name}, until {isoformat(ends)}. Wait,"
        " or make a backup of the keys as they are now: profile-vault keys backup FILE",
        code="epoch_in_backups",
    )


async def _record(vault: Vault, name: str, purpose: int, version: int, actor: str) -> None:
    """Looks at every row once more; the entry of the log is in the same transaction. Raises `Conflict`."""
    async with vault.database.begin() as connection:
        found = await still_named(vault, await raw(connection), purpose, version)
        if found.opening:
            raise Conflict(
                f"{found.opening} wraps need it; run: profile-vault keys rotate {name}",
                code="epoch_in_use",
            )
        detail: dict[str, str | int | list[str | int]] = {"name": name, "epoch": version, "shut": found.shut}
        await leave(vault, connection, Tag.KEY_EPOCH_DESTROYED, actor, detail)


def destroy_key(vault: Vault, history: History, name: str, version: int, left_at: Micros) -> Destroyed:
    """Written down first: a crash between leaves the key to the next try, and no destroyed key without its date."""
    now = vault.clock.now()
    copies = max(now + vault.settings.keyring_backup_days * DAY, last_copy(history.backups(), now))
    made_at = vault.keystore.made(name).get(version, Micros(0))  # 0: another process destroyed it just now
    one = Destroyed(name, version, left_at, now, None, copies, made_at, asking=True)
    history.add_destroyed(one)
    vault.keyring.destroy(name, version)
    vault.keyring.refresh()
    return one


def retire_service(vault: Vault, history: History, one: Destroyed) -> Destroyed:
    """The own keys of the key service that sealed it go too, where it has such."""
    days = vault.keystore.retire(one.name)
    if one.asking or (days is not None and one.service_days is None):
        one = msgspec.structs.replace(one, service_days=days, asking=False)
        history.add_destroyed(one)
    return one


async def still_named(vault: Vault, connection: Raw, purpose: int, version: int) -> Named:
    """How many wraps of everybody's rows name an epoch, and how many of them it opens."""
    opening = shut = 0
    vouched = Vouched(vault)
    await vouched.learn()
    async for rows in everybody(connection):
        left = await _left_over(connection, [row[0] for row in rows if vouched.erased(row[0])])
        found = depending(vault.keyring, [row[:2] for row in rows if row[0] not in left], purpose, version)
        opening, shut = opening + found.opening, shut + found.shut + len(left)
    return Named(opening, shut)


async def _left_over(connection: Raw, erased: list[UUID]) -> set[UUID]:
    """Those of whom nothing is there but wraps: put back, since both go in one transaction. They keep no key alive."""
    there = await connection.fetch(_THERE, erased) if erased else []
    return set(erased) - {UUID(bytes=row[0].bytes) for row in there}


async def everybody(connection: Raw) -> AsyncIterator[list[tuple[UUID, bytes, int]]]:
    """(subject, wraps, version) of every row of wraps, in order."""
    position = _FIRST
    while True:
        rows = [(UUID(bytes=row[0].bytes), row[1], row[2]) for row in await connection.fetch(_RANGE, position, CHUNK)]
        if not rows:
            return
        yield rows
        position = rows[-1][0]
