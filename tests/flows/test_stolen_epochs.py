"""Who owns the database while epochs are replaced, and holds no key, wants a copy of before to open after (threats D5, D9, H8)."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import superuser
from tests.flows.rights_world import officer
from tests.flows.test_rotation import everything, key_of, people, without_backups
from tests.flows.test_state_audit import PERSONAL, keep_yesterday, put_back
from tests.worlds import World, say
from vault.clock import DAY
from vault.errors import Conflict
from vault.flows.epochs import destroy_epoch
from vault.flows.honour.at_once import erase_at_once
from vault.flows.keys_backup import back_up
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


async def test_d9_an_erased_person_put_back_whole_for_a_rotation_is_not_moved(
    world: World, owner: asyncpg.Connection
) -> None:
    vault = world.vault
    await people(world, 3)
    subject = await world.subject("u-1")
    assert subject is not None
    await keep_yesterday(owner)
    assert await erase_at_once(vault, officer(vault), uuid7(vault.clock.now()), subject)
    await world.settle()
    await put_back(owner, subject)
    stolen = await owner.fetchval(ROW, subject)
    told = await rotate(vault, everything(vault))
    assert await owner.fetchval(ROW, subject) == stolen
    assert told.shut == 1
    for table in PERSONAL:  # away again, so that the world agrees
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", subject)  # noqa: S608 - ours


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


async def test_h8_a_forged_end_of_a_rotation_does_not_let_an_epoch_go_that_backups_need(
    world: World, owner: asyncpg.Connection
) -> None:
    await people(world, 2)
    name, vault = key_of(world.vault, "marketing"), world.vault
    await rotate(vault, [name])
    await owner.execute("UPDATE keys.epoch SET done_at = 1")
    with pytest.raises(Conflict) as refused:
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_in_backups"


async def test_h8_a_forged_end_of_a_rotation_does_not_keep_an_epoch_for_ever(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    await people(world, 2)
    name, vault = key_of(world.vault, "marketing"), world.vault
    await rotate(vault, [name])
    await owner.execute("UPDATE keys.epoch SET done_at = 9000000000000000000")
    clock.advance(micros=vault.settings.data_backup_days * DAY)
    gone = await destroy_epoch(vault, name, 1)
    assert gone.left_at <= clock.now()


async def test_h8_a_backup_of_the_keys_that_is_gone_before_the_data_is_lets_no_epoch_go(
    world: World, clock: FakeClock, tmp_path: Path
) -> None:
    await people(world, 2)
    name, vault = key_of(world.vault, "marketing"), world.vault
    vault.settings = msgspec.structs.replace(vault.settings, keyring_backup_days=7, data_backup_days=90)
    await rotate(vault, [name])
    clock.advance(1)
    await back_up(vault, tmp_path / "keys.tar")
    clock.advance(micros=8 * DAY)  # the archive is destroyed, as its owner said
    with pytest.raises(Conflict) as refused:
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_in_backups"
