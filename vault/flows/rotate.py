"""Rotation: opens an epoch, moves everybody's wraps to it in key ranges, and tells how far it came. Resumable at any row.

Promises (threats D9, H8): rows are read without locks and replaced only if they are still the ones that were read, so a wrap
that a withdrawal took, or a row that an erasure took, does not come back; nothing is ever inserted. From the commit that
opens an epoch nobody makes a wrap under an older one: whoever writes states the turn that they know (ADR 0105). A row that was
put back is not carried on: only wraps move that the person's state and the journal vouch for. How far a
pass came is written down after each range; a pass that began with the first row and replaced all that was older ends the rotation.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from vault.audit.entry import Tag
from vault.catalogue.numbers import RIGHTS
from vault.errors import Conflict, Invalid, Unavailable
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.flows.vouched import Vouched
from vault.keys import names as named
from vault.keys.history import Ended, History
from vault.keys.rotation import Moved, Mover
from vault.storage.session import Raw, raw

CHUNK: Final = 500  # people a statement: some 400 KB, and an eighth of a second at most between two looks at a signal
TRIES: Final = 20  # of a person who is written to all the time; the next pass sees to those that are left
_FIRST: Final = UUID(int=0)

# Whoever is about to write wraps has this table in use: they end first, under the epochs that they knew, and who comes
# after sees the row.
_ALONE: Final = "LOCK TABLE keys.subject_key IN SHARE MODE"
_OPEN: Final = """
INSERT INTO keys.epoch (name, version, turn, opened_at, moved) VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING
"""
_NEWEST: Final = """
SELECT DISTINCT ON (name) name, version, position, done_at FROM keys.epoch WHERE name = ANY ($1::text[])
ORDER BY name, version DESC
"""
# With the state row of the same moment, which says whether these are the person's wraps (`vouched`).
_RANGE: Final = """
SELECT k.subject_id, k.wraps, s.state FROM keys.subject_key k LEFT JOIN subject s USING (subject_id)
WHERE k.subject_id > $1 ORDER BY k.subject_id LIMIT $2
"""
_SOME: Final = """
SELECT k.subject_id, k.wraps, s.state FROM keys.subject_key k LEFT JOIN subject s USING (subject_id)
WHERE k.subject_id = ANY ($1::uuid[]) ORDER BY k.subject_id
"""
# Nothing moves to an epoch that another rotation has closed meanwhile. Sorted by subject, as whoever writes people locks them.
_REPLACE: Final = """
UPDATE keys.subject_key k SET wraps = n.wraps
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n(subject_id, digest, wraps)
WHERE k.subject_id = n.subject_id AND sha256(k.wraps) = n.digest AND $4 >= (SELECT max(turn) FROM keys.epoch)
RETURNING k.subject_id
"""
_POSITION: Final = """
UPDATE keys.epoch e SET position = $3, moved = moved + $4 FROM unnest($1::text[], $2::int[]) AS n(name, version)
WHERE e.name = n.name AND e.version = n.version
"""
_DONE: Final = """
UPDATE keys.epoch e SET done_at = $3, position = NULL FROM unnest($1::text[], $2::int[]) AS n(name, version)
WHERE e.name = n.name AND e.version = n.version
"""


_Row = tuple[UUID, bytes, bytes | None]  # subject, wraps, state


class Rotation(msgspec.Struct, kw_only=True):
    """How far it came: told after every step, and at the end."""

    epochs: dict[str, int]  # name of the key to the epoch that everything moves to
    subjects: int = 0  # rows looked at in this pass
    total: int = 0  # about as many there are
    rewrapped: int = 0  # rows replaced
    wraps: int = 0  # wraps moved in them
    shut: int = 0  # older wraps that do not open, and rows that nobody vouches for: they stay, `audit verify --state` names them
    passes: int = 0
    done: bool = False
    turn: int = 0


Progress = Callable[[Rotation], None]


def _quiet(_: Rotation) -> None:
    """Nobody looks."""


async def rotate(
    vault: Vault, names: Sequence[str], actor: str = "operator", *, rate: int = 0, progress: Progress = _quiet
) -> Rotation:
    """Moves every wrap for these purposes (`purpose-N`, `rights`) to a new epoch; goes on with one that was begun.

    `rate`: at most so many people a second, 0 for as many as there are. Raises `Invalid` for a name that is no epoch key, and
    `Unavailable` for one that this process does not open.
    """
    purposes = await asyncio.to_thread(_purposes, vault, names)
    epochs = await _open(vault, purposes, actor)
    told = Rotation(epochs=epochs)
    pace, vouched = _Pace(rate), Vouched(vault)
    async with vault.database.hot() as connection:
        told.total = await connection.fetchval("SELECT count(*) FROM keys.subject_key")
        newest = await connection.fetch(_NEWEST, list(epochs))
    start = min((UUID(bytes=row["position"].bytes) if row["position"] else _FIRST for row in newest), default=_FIRST)
    while not told.done:
        aims, shut = dict(told.epochs), told.shut
        await vouched.learn()
        left = await _pass(vault, told, _Pass(purposes, start, pace, vouched), progress)
        told.passes += 1
        # Nobody makes wraps under older epochs any more: one pass over everybody is the last, if all of it was done.
        told.done = start == _FIRST and not left and told.epochs == aims
        if not told.done:
            told.shut = shut
        start = _FIRST
    await _finish(vault, told, actor)
    progress(told)
    return told


def _purposes(vault: Vault, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        purpose = named.purpose_of(name)
        if purpose is None or name not in vault.keystore.names():
            raise Invalid(
                "That is no key that rotates here. A purpose by its name or as purpose-N, rights, signing-USE, index-KIND and"
                " tombstone do; `profile-vault keys status` lists them.",
                code="no_such_key",
            )
        if not (vault.keystore.opens(name) and vault.keystore.opens(named.epochs(RIGHTS))):  # the desk's, or the root
            raise Unavailable(
                "Re-wrapping needs every key that it re-wraps: run it with the root key, or with the desk's key folder.",
                code="key_refused",
            )
        found[name] = purpose
    return found


# --- opening --------------------------------------------------------------------------------------------------------


async def _open(vault: Vault, purposes: dict[str, int], actor: str) -> dict[str, int]:
    """The epoch that each name rotates to: the one whose rotation did not end, or a new one."""
    vault.keyring.refresh()
    async with vault.database.hot() as connection:
        rows = {row["name"]: row for row in await connection.fetch(_NEWEST, list(purposes))}
    epochs: dict[str, int] = {}
    fresh: list[str] = []
    for name in purposes:
        row = rows.get(name)
        if row is not None and row["done_at"] is None:
            epochs[name] = row["version"]
            continue
        fresh.append(name)
        made = vault.keyring.oldest(name)  # a crash came between the key and its row
        known = made > (row["version"] if row is not None else 0)
        epochs[name] = made if known else await asyncio.to_thread(_turn, vault, name)
    if fresh:
        await _announce(vault, {name: epochs[name] for name in fresh}, actor)
    return epochs


def _turn(vault: Vault, name: str) -> int:
    with vault.keystore.turning():
        return vault.keyring.turn_to(name)


async def _announce(vault: Vault, epochs: dict[str, int], actor: str) -> None:
    """From this commit on nobody makes a wrap under an older epoch. Raises `Conflict` where a writer does not end."""
    vault.keyring.refresh()
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await driver.execute(_ALONE)
        for name, version in epochs.items():
            await driver.execute(_OPEN, name, version, vault.keyring.turn, vault.clock.now())
        detail: dict[str, str | int | list[str | int]] = {
            "names": list(epochs),
            "epochs": list(epochs.values()),
            "turn": vault.keyring.turn,
        }
        await leave(vault, connection, Tag.KEY_EPOCH_OPENED, actor, detail)


# --- one pass -------------------------------------------------------------------------------------------------------


class _Pass(NamedTuple):
    purposes: dict[str, int]
    start: UUID
    pace: "_Pace"
    vouched: Vouched


async def _pass(vault: Vault, told: Rotation, one: _Pass, progress: Progress) -> int:
    """Everybody after its start, once. Answers how many could not be replaced, since others kept writing to them.

    Three ranges are under way: one is read, one re-wrapped here, one replaced by the server, which costs about as much. Whoever
    changes in between is read again. How far it came is written down in the order of the ranges.
    """
    left = 0
    told.subjects = 0
    reading = asyncio.create_task(_fetch(vault, one.start))
    replacing: asyncio.Task[int] | None = None
    try:
        while rows := await reading:
            reading = asyncio.create_task(_fetch(vault, rows[-1][0]))
            before, replacing = replacing, asyncio.create_task(_step(vault, told, one, rows, replacing))
            left += 0 if before is None else await before
            told.subjects += len(rows)
            progress(told)
            await one.pace.after(len(rows))
        return left + (0 if replacing is None else await replacing)
    finally:
        begun = [reading, *([] if replacing is None else [replacing])]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


async def _fetch(vault: Vault, position: UUID) -> list[_Row]:
    async with vault.database.hot() as connection:
        return _read(await connection.fetch(_RANGE, position, CHUNK))


async def _step(vault: Vault, told: Rotation, one: _Pass, rows: list[_Row], before: "asyncio.Task[int] | None") -> int:
    """These people, as often as a ring of locks with somebody who writes undoes it; and how far it came, once `before` has."""
    own = Rotation(epochs={})
    while True:
        mover, turn = _mover(vault, told, one.purposes)
        try:
            async with vault.database.hot() as connection:
                left = await _replace(connection, own, mover, turn, rows, one.vouched)
            break
        except Conflict as error:
            if error.reason != "retry":
                raise
    if before is not None:
        await asyncio.wait((before,))
        if before.cancelled() or before.exception() is not None:
            return left  # whoever goes on begins there
    told.rewrapped, told.wraps, told.shut = told.rewrapped + own.rewrapped, told.wraps + own.wraps, told.shut + own.shut
    await _reached(vault, told, rows[-1][0], own.wraps)
    return left


async def _reached(vault: Vault, told: Rotation, position: UUID, wraps: int) -> None:
    """Written down; another rotation of the same keys may do so, too."""
    while True:
        try:
            async with vault.database.hot() as connection:
                await connection.execute(_POSITION, *_named(told), position, wraps)
                return
        except Conflict as error:
            if error.reason != "retry":
                raise


def _mover(vault: Vault, told: Rotation, purposes: dict[str, int]) -> tuple[Mover, int]:
    """For the epochs as they are now: another rotation may have opened newer ones."""
    vault.keyring.refresh()
    turn = vault.keyring.turn
    if turn != told.turn:
        told.turn = turn
        for name in told.epochs:
            told.epochs[name] = max(told.epochs[name], vault.keyring.oldest(name))
    return Mover(vault.keyring, {purposes[name]: epoch for name, epoch in told.epochs.items()}), turn


async def _replace(connection: Raw, told: Rotation, mover: Mover, turn: int, rows: list[_Row], vouched: Vouched) -> int:
    """Replaces those of the rows of which something moves. Who was written to meanwhile is read again."""
    for _ in range(TRIES):
        held = [(subject, row) for subject, row, state in rows if vouched.holds(subject, row, state)]
        told.shut += len(rows) - len(held)
        moved = mover.move(held)
        todo = [(subject, row, one) for (subject, row), one in zip(held, moved, strict=True) if one.row is not None]
        told.shut += sum(one.shut for one in moved if one.row is None)
        if not todo:
            return 0
        done = await connection.fetch(
            _REPLACE,
            [subject for subject, _, _ in todo],
            [sha256(row).digest() for _, row, _ in todo],
            [one.row for _, _, one in todo],
            turn,
        )
        won = {UUID(bytes=row[0].bytes) for row in done}
        _count(told, [one for subject, _, one in todo if subject in won])
        lost = [subject for subject, _, _ in todo if subject not in won]
        if not lost:
            return 0
        rows = _read(await connection.fetch(_SOME, lost))
    return len(rows)


def _count(told: Rotation, moved: Iterable[Moved]) -> None:
    for one in moved:
        told.rewrapped += 1
        told.wraps += one.moved
        told.shut += one.shut


def _read(rows: Iterable[_Row]) -> list[_Row]:
    return [(UUID(bytes=subject.bytes), wraps, state) for subject, wraps, state in rows]


def _named(told: Rotation) -> tuple[list[str], list[int]]:
    return list(told.epochs), list(told.epochs.values())


class _Pace:
    """Keeps to a rate, as far as there is one."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began = time.monotonic()
        self._done = 0

    async def after(self, people: int) -> None:
        """Waits as long as so many people more are ahead of the rate."""
        self._done += people
        ahead = self._done / self._rate - (time.monotonic() - self._began) if self._rate else 0.0
        await asyncio.sleep(max(0.0, ahead))


async def _finish(vault: Vault, told: Rotation, actor: str) -> None:
    """Nothing older is left: from now on the older epochs may be destroyed. `keys destroy` goes by what the key store says."""
    now = vault.clock.now()
    ended = [Ended(name, epoch, now) for name, epoch in told.epochs.items()]
    await asyncio.to_thread(History(vault.settings.keyring).add_ended, ended)
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await driver.execute(_DONE, *_named(told), now)
        detail: dict[str, str | int | list[str | int]] = {
            "names": list(told.epochs),
            "epochs": list(told.epochs.values()),
            "wraps": told.wraps,
            "shut": told.shut,
        }
        await leave(vault, connection, Tag.KEY_EPOCH_REWRAPPED, actor, detail)


# --- keys without epochs ----------------------------------------------------------------------------------------------


async def renew_signing(vault: Vault, name: str, actor: str = "operator") -> int:
    """A new version of a signing key signs from now on; the public half of the older ones stays listed. Answers the version.

    What was signed stays true: whoever verifies takes the key by its id. Raises `Unavailable` if this process may not make it.
    """
    version = await asyncio.to_thread(vault.keyring.make, name)
    async with vault.database.begin() as connection:
        await leave(vault, connection, Tag.KEY_SECRET_MADE, actor, {"name": name, "version": version})
    return version
