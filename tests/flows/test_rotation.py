"""Epochs: opened, everybody moved, the old one destroyed; beside all that writes people (threats H8, D9, A10, A14)."""

from uuid import UUID

import msgspec
import pytest

from tests.fakes import FakeClock
from tests.worlds import World, identify, order
from vault.audit.entry import Tag
from vault.clock import DAY, Micros, isoformat
from vault.crypto.wrap import Move, place_of, rewrap, wrapping_key
from vault.errors import Conflict, Invalid
from vault.flows.epochs import destroy_epoch, standing
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.keys import names
from vault.keys.compartments import Wrap, pack_wraps, parse_wraps
from vault.keys.history import History

MARKETING = "marketing"


def key_of(vault: Vault, purpose: str) -> str:
    return names.epochs(vault.catalogue.purposes[purpose].number)


def everything(vault: Vault) -> list[str]:
    return [name for name in vault.keystore.names() if names.purpose_of(name) is not None]


async def wrapped(world: World) -> dict[str, dict[int, int]]:
    return (await standing(world.vault)).wraps or {}


async def people(world: World, count: int) -> None:
    await world.send(
        *[one for n in range(count) for one in (identify(f"u-{n}", email=f"p{n}@example.com"), order(f"u-{n}"))]
    )


def without_backups(vault: Vault) -> None:
    vault.settings = msgspec.structs.replace(vault.settings, data_backup_days=0)


async def test_h8_a_rotation_moves_every_wrap_and_everything_opens_before_between_and_after(world: World) -> None:
    await people(world, 12)
    name = key_of(world.vault, MARKETING)
    before = await world.feeds()
    told = await rotate(world.vault, [name])
    assert told.done
    assert told.epochs == {name: 2}
    counts = await wrapped(world)
    assert list(counts[name]) == [2]
    assert counts[name][2] == told.wraps > 0
    assert list(counts["rights"]) == [1]
    assert await world.feeds() == before  # with both epochs in the store
    without_backups(world.vault)
    await destroy_epoch(world.vault, name, 1)
    assert world.vault.keystore.versions(name) == [2]
    assert await world.feeds() == before
    await world.send(identify("u-1", email="new@example.com"), order("somebody-new"))  # and life goes on
    assert list((await wrapped(world))[name]) == [2]


async def test_every_purpose_and_rights_rotate_in_one_pass_and_state_rows_stay_as_they_are(world: World) -> None:
    await people(world, 5)
    rows = await world.rows("SELECT subject_id, version, state FROM subject ORDER BY 1")
    told = await rotate(world.vault, everything(world.vault))
    assert set(told.epochs) == set(everything(world.vault))
    assert all(set(by_epoch) == {2} for by_epoch in (await wrapped(world)).values())
    assert await world.rows("SELECT subject_id, version, state FROM subject ORDER BY 1") == rows
    opened, moved = await world.audited(Tag.KEY_EPOCH_OPENED), await world.audited(Tag.KEY_EPOCH_REWRAPPED)
    assert [one.detail["names"] for one in (*opened, *moved)] == [list(told.epochs)] * 2


async def test_h8_an_epoch_is_not_destroyed_while_it_is_the_newest_or_a_wrap_needs_it(world: World) -> None:
    await people(world, 3)
    name, vault = key_of(world.vault, MARKETING), world.vault
    without_backups(vault)
    with pytest.raises(Conflict) as refused:
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_open"
    with pytest.raises(Invalid):
        await destroy_epoch(vault, name, 9)
    vault.keyring.turn_to(name)  # the rotation died right after its first step
    with pytest.raises(Conflict) as refused:
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_in_use"
    told = await rotate(vault, [name])
    assert told.epochs == {name: 2}  # it went on with the epoch that was made
    await _put_back(world, name)
    with pytest.raises(Conflict) as refused:  # somebody put a row from before back
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_in_use"
    assert vault.keystore.versions(name) == [1, 2]
    assert not await world.audited(Tag.KEY_EPOCH_DESTROYED)
    await rotate(vault, [name])
    await destroy_epoch(vault, name, 1)
    assert len(await world.audited(Tag.KEY_EPOCH_DESTROYED)) == 1


async def _put_back(world: World, name: str) -> None:
    """One row as it was before the rotation: its newest wraps moved back by who has both keys."""
    subject = await world.subject("u-1")
    assert subject is not None
    row = (await world.rows("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", subject))[0][0]
    purpose = names.purpose_of(name)
    assert purpose is not None
    older = _wrapped_under(world, subject, row, purpose)
    await world.rows("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", subject, older)


def _wrapped_under(world: World, subject: UUID, row: bytes, purpose: int) -> bytes:
    keyring, changed = world.vault.keyring, []
    for one in parse_wraps(row):
        wraps = []
        for wrap in one.wraps:
            if wrap.purpose == purpose:
                keys = [wrapping_key(keyring.epoch_key(purpose, n), subject.bytes, purpose, n) for n in (wrap.epoch, 1)]
                place = place_of(one.compartment_id, subject.bytes, one.purposes, one.generation)
                (blob,) = rewrap([Move(keys[0], keys[1], wrap.blob, purpose, wrap.epoch, 1)], place, one.commitment)
                assert blob is not None
                wraps.append(Wrap(purpose, 1, blob))
            else:
                wraps.append(wrap)
        changed.append(one._replace(wraps=tuple(wraps)))
    return pack_wraps(changed)


async def test_an_epoch_waits_for_backups_of_the_data_unless_newer_keys_are_backed_up(
    world: World, clock: FakeClock
) -> None:
    await people(world, 2)
    name, vault = key_of(world.vault, MARKETING), world.vault
    await rotate(vault, [name])
    with pytest.raises(Conflict) as refused:
        await destroy_epoch(vault, name, 1)
    assert refused.value.reason == "epoch_in_backups"
    days = vault.settings.data_backup_days * DAY
    assert isoformat(Micros(vault.clock.now() + days)) in refused.value.hint  # it says from when it may
    clock.advance(micros=days)
    gone = await destroy_epoch(vault, name, 1)
    assert gone.unreadable_after == gone.destroyed_at + vault.settings.keyring_backup_days * DAY
    assert await destroy_epoch(vault, name, 1) == gone  # twice is harmless
    assert [one.version for one in (await standing(vault)).destroyed] == [1]
    assert History(vault.settings.keyring).destroyed() == (gone,)
