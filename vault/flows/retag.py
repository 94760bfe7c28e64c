"""Rotation of the keys behind tags: `index-KIND`, which finds people, and `tombstone`, which remembers erased identifiers.

The values behind tags are not all kept, so each tag is made anew from the tag (ADR 0108), all of a key in one transaction, while
whoever writes people waits. Promises: it happens whole or not at all; whoever made tags before it and writes after it loses and
is told to come again; the key is on disk before the first tag is made with it. If the process dies between the commit and the
key store, nobody writes until the command is run again: it ends what was begun.
"""

import asyncio
from contextlib import AbstractContextManager
from typing import Final
from uuid import UUID

from vault.audit.entry import Tag
from vault.crypto.blind import retag
from vault.crypto.keyservice import WAITING
from vault.errors import Conflict, Invalid, NotFound, Unavailable
from vault.flows.tags import Pointers
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.ids import random_bytes
from vault.keys import names as named
from vault.keys.keystore import KEY_BYTES
from vault.storage.session import Raw, raw

CHUNK: Final = 2000  # people, or tombstones, a statement
TRIES: Final = 10  # of a ring of locks, which the server undoes after a second; each is the first to wait the next time
RETRY: Final = "retry"
_FIRST: Final = UUID(int=0)

_ALONE: Final = "LOCK TABLE subject, keys.subject_key, identity, identifier, tombstone IN SHARE ROW EXCLUSIVE MODE"
_ERASING: Final = """
SELECT count(*) FROM request WHERE type = 'erasure' AND step IN ('fence', 'case', 'keep', 'destroy', 'rows', 'certify')
"""
_PEOPLE: Final = "SELECT subject_id FROM subject WHERE subject_id > $1 ORDER BY subject_id LIMIT $2"
_TAGS: Final = """
SELECT i.subject_id, i.tag, d.subject_id, d.code FROM identifier i LEFT JOIN identity d USING (tag)
WHERE i.subject_id = ANY ($1::uuid[]) AND i.kind = $2
"""
_NAMES: Final = """
UPDATE identifier i SET tag = n.after FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n(subject_id, before, after)
WHERE i.subject_id = n.subject_id AND i.tag = n.before
"""
_POINTERS: Final = """
UPDATE identity i SET tag = n.after, code = n.code FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS n(before, after, code)
WHERE i.tag = n.before
"""
_STONES: Final = "SELECT tag FROM tombstone WHERE key_version < $1 LIMIT $2"
_TURN_STONES: Final = """
UPDATE tombstone t SET tag = n.after, key_version = $3 FROM unnest($1::bytea[], $2::bytea[]) AS n(before, after)
WHERE t.tag = n.before
"""
_TURNED: Final = "SELECT coalesce(max(turn), 0) FROM keys.epoch"
_KNOWN: Final = "SELECT turn FROM keys.epoch WHERE name = $1 AND version = $2"
_DONE: Final = """
INSERT INTO keys.epoch (name, version, turn, opened_at, moved, done_at) VALUES ($1, $2, $3, $4, $5, $4)
"""


async def renew_tags(vault: Vault, name: str, actor: str = "operator") -> tuple[int, int]:
    """The new version of the key, and how many tags were made anew.

    Raises `Conflict` (code `erasure_under_way`) while somebody's rows are being deleted by their tags, `Invalid` for another
    key, `Unavailable` where this process may not make it.
    """
    kind = vault.catalogue.identifiers.get(name.removeprefix(named.index("")))
    if name != named.TOMBSTONE and (kind is None or kind.account):
        raise Invalid("Tags of accounts lie inside sealed values, and cannot be made anew.", code="no_such_key")
    if not await asyncio.to_thread(lambda: vault.keystore.whole):
        raise Unavailable("Run it with the root key.", code="key_refused")
    alone = vault.keystore.turning()
    await asyncio.to_thread(alone.__enter__)
    try:
        return await _tried(vault, name, None if kind is None else kind.number, actor)
    finally:
        _leave(alone)


def _leave(alone: AbstractContextManager[None]) -> None:
    alone.__exit__(None, None, None)


async def _tried(vault: Vault, name: str, kind: int | None, actor: str) -> tuple[int, int]:
    """Tables are locked one after the other, while writers use them in orders of their own: a ring of locks is tried again."""
    for left in reversed(range(TRIES)):
        try:
            return await _renew(vault, name, kind, actor)
        except Conflict as error:
            if error.reason != RETRY or not left:
                raise
    raise AssertionError("the last try returned or raised")


async def _renew(vault: Vault, name: str, kind: int | None, actor: str) -> tuple[int, int]:
    key = await asyncio.to_thread(_pending, vault, name)
    version = max(vault.keystore.versions(name)) + 1
    count = 0
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await driver.execute(_ALONE)
        turn: int | None = await driver.fetchval(_KNOWN, name, version)
        if turn is None:  # else an earlier try came as far as its commit
            if await driver.fetchval(_ERASING):
                raise Conflict("Rows of an erasure are being deleted; try again in a minute.", code="erasure_under_way")
            turn = max(await driver.fetchval(_TURNED), vault.keystore.turn) + 1
            count = await (
                _stones(driver, key, version) if kind is None else _identifiers(driver, vault.pointers, key, kind)
            )
            await driver.execute(_DONE, name, version, turn, vault.clock.now(), count)
            detail: dict[str, str | int | list[str | int]] = {
                "names": [name],
                "epochs": [version],
                "turn": turn,
                "tags": count,
            }
            await leave(vault, connection, Tag.KEY_EPOCH_OPENED, actor, detail)
    await asyncio.to_thread(_open, vault, name, key, turn)
    return version, count


def _pending(vault: Vault, name: str) -> bytes:
    """The key that an earlier try was about to bring in, or a new one: on disk either way."""
    try:
        return max(vault.keystore.held(WAITING + name).items())[1].key
    except NotFound:
        key = random_bytes(KEY_BYTES)
        vault.keystore.add(WAITING + name, key, vault.clock.now())
        return key


def _open(vault: Vault, name: str, key: bytes, turn: int) -> None:
    vault.keystore.turn_to(name, key, vault.clock.now(), at_least=turn)
    vault.keystore.destroy(WAITING + name)
    vault.keyring.refresh()


async def _identifiers(driver: Raw, pointers: Pointers, key: bytes, kind: int) -> int:
    """A row that finds somebody and was none of ours stays so: it gets no code."""
    position, count = _FIRST, 0
    while True:
        people = [row[0] for row in await driver.fetch(_PEOPLE, position, CHUNK)]
        if not people:
            return count
        rows = await driver.fetch(_TAGS, people, kind)
        before, after = [row[1] for row in rows], [retag(key, row[1]) for row in rows]
        codes = [
            pointers.make(made, row[2].bytes)
            if row[2] is not None and pointers.hold(row[1], row[2].bytes, row[3])
            else None
            for row, made in zip(rows, after, strict=True)
        ]
        await driver.execute(_NAMES, [row[0] for row in rows], before, after)
        await driver.execute(_POINTERS, before, after, codes)
        position, count = UUID(bytes=people[-1].bytes), count + len(rows)


async def _stones(driver: Raw, key: bytes, version: int) -> int:
    count = 0
    while rows := await driver.fetch(_STONES, version, CHUNK):
        before = [row[0] for row in rows]
        await driver.execute(_TURN_STONES, before, [retag(key, one) for one in before], version)
        count += len(before)
    return count
