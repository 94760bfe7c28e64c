"""Who owns the database while epochs are replaced, and holds no key, wants a copy of before to open after (threats D5, D9, H8)."""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from tests.flows.feed_world import superuser
from tests.flows.rights_world import officer
from tests.flows.test_rotation import everything, key_of, people, without_backups
from tests.flows.test_state_audit import PERSONAL, keep_yesterday, put_back
from tests.worlds import World, say
from vault.flows.epochs import destroy_epoch
from vault.flows.honour.at_once import erase_at_once
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.keys.kept import Asked, open_each, scan_wraps

ROW = "SELECT wraps FROM keys.subject_key WHERE subject_id = $1"
PUT = """
INSERT INTO keys.subject_key (subject_id, version, wraps) VALUES ($1, $2, $3)
ON CONFLICT (subject_id) DO UPDATE SET wraps = excluded.wraps
"""


@pytest.fixture
async def owner(vault: Vault) -> AsyncIterator[asyncpg.Connection]:
    opened = await superuser(vault)
    yield opened
    await opened.close()


def opens(vault: Vault, subject: UUID, row: bytes) -> dict[str, int]:
    """How many data keys of a row every key that exists opens, by name."""
    found: dict[str, int] = {}
    vault.keyring.refresh()
    for kept in scan_wraps(row)[0].values():
        for purpose in kept.names:
            (one,) = open_each(vault.keyring, [Asked(subject, kept, purpose)])
            if one is not None:
                found[names.epochs(purpose)] = found.get(names.epochs(purpose), 0) + 1
    return found


async def test_d9_wraps_of_an_erased_person_planted_while_a_rotation_passes_are_not_moved(
    world: World, owner: asyncpg.Connection
) -> None:
    vault = world.vault
    await people(world, 3)
    without_backups(vault)
    subject = await world.subject("u-1")
    assert subject is not None
    stolen = await owner.fetchval(ROW, subject)  # from an old backup
    assert await erase_at_once(vault, officer(vault), uuid7(vault.clock.now()), subject)
    await world.settle()
    await owner.execute(PUT, subject, 1, stolen)  # just before the pass
    await rotate(vault, everything(vault))
    moved = await owner.fetchval(ROW, subject)
    for name in everything(vault):  # nor does the row that is left keep an epoch alive
        for version in vault.keystore.versions(name)[:-1]:
            await destroy_epoch(vault, name, version)
    await owner.execute("DELETE FROM keys.subject_key WHERE subject_id = $1", subject)  # unseen
    assert not opens(vault, subject, stolen)
    assert not opens(vault, subject, moved)


async def test_d9_a_wrap_that_a_withdrawal_took_planted_while_a_rotation_passes_is_not_moved(
    world: World, owner: asyncpg.Connection
) -> None:
    vault = world.vault
    await people(world, 3)
    without_backups(vault)
    subject = await world.subject("u-1")
    assert subject is not None
    stolen = await owner.fetchval(ROW, subject)
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    name = key_of(vault, "marketing")
    true = await owner.fetchval(ROW, subject)
    assert name in opens(vault, subject, stolen)
    assert name not in opens(vault, subject, true)
    await owner.execute(PUT, subject, 1, stolen)
    await rotate(vault, [name])
    moved = await owner.fetchval(ROW, subject)
    await owner.execute(PUT, subject, 1, true)
    assert moved == stolen
    assert (await rotate(vault, [name])).done  # the true row moves as ever
    await destroy_epoch(vault, name, 1)
    assert name not in opens(vault, subject, moved)


async def test_d9_a_whole_person_of_before_a_withdrawal_put_back_for_a_rotation_is_not_moved(
    world: World, owner: asyncpg.Connection
) -> None:
    """State row and all: the journal names a later version of it."""
    vault = world.vault
    await people(world, 3)
    subject = await world.subject("u-1")
    assert subject is not None
    await keep_yesterday(owner)
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    await put_back(owner, subject)
    stolen = await owner.fetchval(ROW, subject)
    told = await rotate(vault, [key_of(vault, "marketing")])
    assert await owner.fetchval(ROW, subject) == stolen
    assert told.shut == 1
    for table in PERSONAL:
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", subject)  # noqa: S608 - ours
