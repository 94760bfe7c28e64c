"""Who owns the database while epochs are replaced, and holds no key, wants a copy of before to open after (threats D5, D9, H8)."""

import asyncio
import shutil
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
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.cli.doctor import secrets
from vault.clock import DAY
from vault.errors import Conflict
from vault.flows import epochs, ready
from vault.flows.epochs import backups_unreadable_after, destroy_epoch
from vault.flows.honour.at_once import erase_at_once
from vault.flows.keys_backup import back_up
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.keys.history import FILE, History
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


async def rotated(world: World, tmp_path: Path) -> Path:
    """Everything moved to epoch 2. Answers a copy of the key store that still has the epochs of before."""
    vault = world.vault
    await people(world, 2)
    without_backups(vault)
    await rotate(vault, everything(vault))
    copy = tmp_path / "older"
    shutil.copytree(vault.settings.keyring, copy)
    return copy


def copied_back(vault: Vault, copy: Path) -> None:
    """As an operator would: every file as it was then, and with them what is said of destroyed epochs."""
    shutil.copytree(copy, vault.settings.keyring, dirs_exist_ok=True)


async def test_d6_h8_epochs_that_an_older_copy_of_the_key_store_brings_back_are_destroyed_again_at_the_start(
    world: World, tmp_path: Path, clock: FakeClock
) -> None:
    erased_at = clock.now()
    clock.advance(1)
    copy, vault = await rotated(world, tmp_path), world.vault
    for name in everything(vault):
        await destroy_epoch(vault, name, 1)
    promised = backups_unreadable_after(vault, erased_at)
    assert promised
    copied_back(vault, copy)
    assert vault.keystore.versions("rights") == [1, 2]
    assert ready.RETURNED in (await ready.check(vault)).notes  # while it runs, too
    clock.advance(DAY)
    for again in (1, 0):
        count = len(await world.audited(Tag.KEY_EPOCH_DESTROYED))
        async with open_vault(vault.settings, clock=clock) as other:
            assert {tuple(other.keystore.versions(name)) for name in everything(other)} == {(2,)}
            assert ready.RETURNED not in (await ready.check(other)).notes
            dated = backups_unreadable_after(other, erased_at)
            assert dated is not None
            assert dated >= promised  # never earlier than what certificates say, nor than what is true now
        said = (await world.audited(Tag.KEY_EPOCH_DESTROYED))[count:]
        assert len(said) == again * len(everything(vault))
        assert all(one.detail["again"] == 1 for one in said)


async def test_h8_a_destruction_that_was_interrupted_is_finished_by_the_next_start(
    world: World, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rotated(world, tmp_path)
    vault = world.vault

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(epochs, "destroy_key", killed)
        with pytest.raises(OSError, match="killed"):
            await destroy_epoch(vault, "rights", 1)
    assert vault.keystore.versions("rights") == [1, 2]
    async with open_vault(vault.settings, clock=clock) as other:
        assert other.keystore.versions("rights") == [2]
        (one,) = History(vault.settings.keyring).destroyed()
        assert (one.name, one.version, one.asking) == ("rights", 1, False)


async def test_h8_a_returned_epoch_that_a_wrap_needs_is_told_and_kept(
    world: World, tmp_path: Path, clock: FakeClock, owner: asyncpg.Connection
) -> None:
    """The data is of before the destruction, too: a start makes nobody unreadable."""
    vault = world.vault
    await people(world, 2)
    subject = await world.subject("u-1")
    assert subject is not None
    before = await owner.fetchval(ROW, subject)
    copy = await rotated(world, tmp_path)
    name = key_of(vault, "marketing")
    await destroy_epoch(vault, name, 1)
    copied_back(vault, copy)
    await owner.execute(PUT, subject, 1, before)
    async with open_vault(vault.settings, clock=clock) as other:
        assert other.keystore.versions(name) == [1, 2]
        assert ready.RETURNED in (await ready.check(other)).notes
        looked = await asyncio.to_thread(secrets.destroyed, other.settings, other.journal)
        assert (looked.state, f"{name} 1" in looked.found) == ("failed", True)
        await rotate(other, [name])  # and then it may go
        await destroy_epoch(other, name, 1)
        assert ready.RETURNED not in (await ready.check(other)).notes
        assert (await asyncio.to_thread(secrets.destroyed, other.settings, other.journal)).state == "ok"


async def test_h8_epochs_destroyed_before_the_journal_was_told_of_such_are_remembered_from_the_next_start_on(
    world: World, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, vault = await rotated(world, tmp_path), world.vault

    async def untold(_: object) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(vault.journal, "append", untold)
        await destroy_epoch(vault, "rights", 1)
    async with open_vault(vault.settings, clock=clock):
        pass
    copied_back(vault, copy)
    (vault.settings.keyring / FILE).unlink()  # a copy from before anything was on record
    async with open_vault(vault.settings, clock=clock) as other:
        assert other.keystore.versions("rights") == [2]
