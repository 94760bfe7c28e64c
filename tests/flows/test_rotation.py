"""Epochs: opened, everybody moved, the old one destroyed; beside all that writes people (threats H8, D9, A10, A14)."""

import asyncio
import tarfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from tests.fakes import FakeClock
from tests.flows.rights_world import officer
from tests.worlds import World, identify, order, say
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.clock import DAY, Micros, isoformat
from vault.crypto.wrap import place_of, rewrap, wrap_for, wrapping_key
from vault.errors import Conflict, Invalid, Unavailable
from vault.flows import retag as tags
from vault.flows import rotate as journey
from vault.flows.browse import audit_verify
from vault.flows.epochs import Kept, backups_unreadable_after, destroy_epoch, destroy_outdated, standing
from vault.flows.find import find
from vault.flows.graves import restore_graves
from vault.flows.honour.at_once import erase_at_once
from vault.flows.keys_backup import back_up
from vault.flows.people import compartment
from vault.flows.retag import renew_tags
from vault.flows.rotate import Rotation, renew_signing, rotate
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.keys import names
from vault.keys.compartments import Wrap, pack_wraps, parse_wraps
from vault.keys.history import History
from vault.rights import certificate
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER
from vault.storage.session import raw

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


async def test_h8_who_has_nobody_yet_may_not_destroy_an_epoch_that_writers_may_still_know(world: World) -> None:
    """No wrap says so: only the end of a rotation does, of the one that closed that very epoch."""
    name, vault = key_of(world.vault, MARKETING), world.vault
    without_backups(vault)
    for epoch in (1, 2):
        vault.keyring.turn_to(name)  # and it died before anybody was told
        with pytest.raises(Conflict) as refused:
            await destroy_epoch(vault, name, epoch)
        assert refused.value.reason == "epoch_in_use"
        assert (await rotate(vault, [name])).epochs == {name: epoch + 1}
        with pytest.raises(Conflict) as refused:
            await destroy_epoch(vault, name, epoch + 1)
        assert refused.value.reason == "epoch_open"
    assert vault.keystore.versions(name) == [1, 2, 3]


async def test_h8_an_epoch_is_on_record_before_it_is_destroyed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash between would leave a key that is gone, and no date for the backups that needed it."""
    name, vault = key_of(world.vault, MARKETING), world.vault
    without_backups(vault)
    await rotate(vault, [name])

    def full(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as disk:
        disk.setattr(History, "add_destroyed", full)
        with pytest.raises(OSError, match="disk"):
            await destroy_epoch(vault, name, 1)
    assert vault.keystore.versions(name) == [1, 2]
    await destroy_epoch(vault, name, 1)
    assert [one.version for one in History(vault.settings.keyring).destroyed()] == [1]


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
                fronts = wrap_for(purpose, wrap.epoch), wrap_for(purpose, 1)
                (blob,) = rewrap([(keys[0], keys[1])], [fronts], [wrap.blob], place, one.commitment)
                assert blob is not None
                wraps.append(Wrap(purpose, 1, blob))
            else:
                wraps.append(wrap)
        changed.append(one._replace(wraps=tuple(wraps)))
    return pack_wraps(changed)


async def test_h8_all_closed_epochs_go_at_once_and_one_that_is_needed_holds_up_no_other(world: World) -> None:
    await people(world, 3)
    name, vault = key_of(world.vault, MARKETING), world.vault
    assert await destroy_outdated(vault, lambda _: None) == []  # nothing was rotated: nothing is closed
    told = await rotate(vault, everything(vault))
    closed = {(one, epoch) for one in told.epochs for epoch in vault.keystore.versions(one)[:-1]}
    waiting = await destroy_outdated(vault, lambda _: None)
    assert {(one.name, one.epoch, one.code) for one in waiting if isinstance(one, Kept)} == {
        (*one, "epoch_in_backups") for one in closed
    }
    days = vault.settings.data_backup_days * DAY
    assert {one.until for one in waiting if isinstance(one, Kept)} == {vault.clock.now() + days}
    without_backups(vault)
    await _put_back(world, name)
    outcome = await destroy_outdated(vault, lambda _: None)
    (kept,) = [one for one in outcome if isinstance(one, Kept)]
    assert (kept.name, kept.epoch, kept.code, kept.waits) == (name, 1, "epoch_in_use", True)
    assert {(one.name, one.version) for one in History(vault.settings.keyring).destroyed()} == closed - {(name, 1)}
    await rotate(vault, [name])
    assert not [one for one in await destroy_outdated(vault, lambda _: None) if isinstance(one, Kept)]
    assert all(len(vault.keystore.versions(one)) == 1 for one in told.epochs)


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


async def test_a_backup_of_the_keys_lets_an_epoch_go_and_holds_back_the_date(
    world: World, clock: FakeClock, tmp_path: Path
) -> None:
    await people(world, 3)
    name, vault = key_of(world.vault, MARKETING), world.vault
    await back_up(vault, tmp_path / "before.tar")
    clock.advance(60)
    await rotate(vault, [name])
    with pytest.raises(Conflict):  # the backup is older than the rotation
        await destroy_epoch(vault, name, 1)
    clock.advance(60)
    made = await back_up(vault, tmp_path / "after.tar")
    assert made.people == 3
    assert made.until == made.made_at + vault.settings.keyring_backup_days * DAY
    with pytest.raises(Invalid):  # never over another
        await back_up(vault, tmp_path / "after.tar")
    vault.settings = msgspec.structs.replace(vault.settings, keyring_backup_days=0)
    gone = await destroy_epoch(vault, name, 1)
    assert gone.unreadable_after == made.until  # the copies that are registered count in any case
    with tarfile.open(tmp_path / "after.tar") as archive:
        held = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        kept = held["wraps.bin"]
        assert kept is not None
        content = kept.read()
        assert f"keyring/{name}.key" in held
    for subject, wraps in await world.rows("SELECT subject_id, wraps FROM keys.subject_key"):
        assert subject.bytes in content
        assert wraps in content
    assert (tmp_path / "after.tar").stat().st_mode & 0o077 == 0


async def test_a_certificate_states_the_date_once_every_epoch_of_the_erasure_is_destroyed(
    world: World, clock: FakeClock
) -> None:
    await people(world, 2)
    vault = world.vault
    without_backups(vault)
    subject = await world.subject("u-1")
    assert subject is not None
    erased_at = clock.now()
    assert await erase_at_once(vault, officer(vault), uuid7(world.vault.clock.now()), subject)
    clock.advance(60)
    assert backups_unreadable_after(vault, erased_at) is None
    await rotate(vault, everything(vault))
    for name in everything(vault):
        assert backups_unreadable_after(vault, erased_at) is None
        for version in vault.keystore.versions(name)[:-1]:
            gone = await destroy_epoch(vault, name, version)
    assert backups_unreadable_after(vault, erased_at) == gone.unreadable_after
    await world.settle()  # the first revision of the certificate
    stored = (await world.rows("SELECT document FROM certificate"))[0][0]
    backups = msgspec.json.decode(stored)["document"]["backups"]
    assert backups == {"unreadable_after": isoformat(gone.unreadable_after), "statement": certificate.ROTATED}


async def test_h6_no_date_is_stated_before_the_key_service_was_told_and_the_next_try_tells_it(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own keys may have to wait for weeks: a date without them would be too early."""
    await people(world, 1)
    vault, erased_at = world.vault, clock.now()
    without_backups(vault)
    clock.advance(60)
    await rotate(vault, everything(vault))
    first, *others = everything(vault)
    for name in others:
        await destroy_epoch(vault, name, 1)

    def away(_: str) -> int:
        raise Unavailable("the key service does not answer")

    with monkeypatch.context() as outage:
        outage.setattr(vault.keystore, "retire", away)
        with pytest.raises(Unavailable):
            await destroy_epoch(vault, first, 1)
    assert vault.keystore.versions(first) == [2]
    assert backups_unreadable_after(vault, erased_at) is None
    monkeypatch.setattr(vault.keystore, "retire", lambda _: 30)
    gone = await destroy_epoch(vault, first, 1)
    assert gone.service_days == 30
    dates = [one.unreadable_after for one in History(vault.settings.keyring).destroyed()]
    assert backups_unreadable_after(vault, erased_at) == max(dates)


# --- beside others ----------------------------------------------------------------------------------------------------


class Barrier:
    """Lets a journey run exactly between the moment a rotation has read people and the moment it replaces their rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, between: Callable[[], Awaitable[Any]]) -> None:
        self.times = 0
        real = journey._replace

        async def replace(*args: Any) -> int:
            self.times += 1
            if self.times == 1:
                await between()
            return await real(*args)

        monkeypatch.setattr(journey, "_replace", replace)


async def withdraws(world: World) -> None:
    await world.choose(say(MARKETING, "withdrawn"), user="u-1")


async def is_erased(world: World) -> None:
    subject = await world.subject("u-1")
    assert subject is not None
    assert await erase_at_once(world.vault, officer(world.vault), uuid7(world.vault.clock.now()), subject)


async def merges(world: World) -> None:
    await world.send(identify("u-1", anon="a-1"), identify(None, anon="a-1", email="p2@example.com"))


async def grows(world: World) -> None:
    await world.send(
        identify("u-1", email="other@example.com"), order("u-1", 900), identify("new", email="n@example.com")
    )


ACTS = (withdraws, is_erased, merges, grows)


@pytest.mark.parametrize("act", ACTS)
async def test_d9_what_happens_between_read_and_replace_is_as_if_it_had_come_before(
    world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[World], Awaitable[None]]
) -> None:
    await people(world, 4)
    names_ = everything(world.vault)
    barrier = Barrier(monkeypatch, lambda: act(world))
    told = await rotate(world.vault, names_)
    assert barrier.times == 1
    assert told.shut == 0
    counts = await wrapped(world)
    assert all(min(by_epoch) == told.epochs[name] for name, by_epoch in counts.items())
    if act is withdraws:
        state = await world.state("u-1")
        for one in (await world.draft("u-1")).compartments.values():
            assert not one.wrapped.held & state.refused  # the wrap that it took did not come back
    if act is is_erased:
        await world.settle()
        assert await world.subject("u-1") is None
        assert await world.count("keys.subject_key") == await world.count("subject")


async def test_d9_a_writer_that_has_not_heard_of_the_new_epoch_loses_and_wraps_under_it(
    world: World, vault: Vault
) -> None:
    """A second process, whose keyring looks at the store only when it is told to."""
    name = key_of(vault, MARKETING)
    async with open_vault(vault.settings, clock=vault.clock) as other:
        slow = World(other, world.sources)
        await slow.send(identify("u-1", email="a@example.com"))
        told = await rotate(vault, [name])
        looks = Counter[str]()
        real = other.keyring.refresh

        def refresh() -> None:  # the first look comes too early: the rotation opens its epoch right after it
            looks["refresh"] += 1
            if looks["refresh"] > 1:
                real()

        other.keyring.refresh = refresh  # type: ignore[method-assign]
        await slow.send(identify("u-2", email="b@example.com"), order("u-1"))
        assert looks["refresh"] > 1  # it lost, and looked again
    assert list((await wrapped(world))[name]) == [told.epochs[name]]


async def test_a_process_that_runs_while_an_epoch_is_destroyed_elsewhere_closes_it_and_goes_on(
    world: World, vault: Vault, clock: FakeClock
) -> None:
    name, purpose = key_of(vault, MARKETING), vault.catalogue.purposes[MARKETING].number
    without_backups(vault)
    await people(world, 2)
    async with open_vault(vault.settings, clock=clock) as other:
        await rotate(vault, [name])
        await destroy_epoch(vault, name, 1)
        running = World(other, world.sources)
        assert len(await running.feed("email-tool")) == 2
        assert other.keyring.holds(purpose, 1)  # a page that it read before must still open
        clock.advance(61)
        assert len(await running.feed("email-tool")) == 2
        with pytest.raises(Unavailable):
            other.keyring.epoch_key(purpose, 1)
        await running.send(identify("u-1", email="later@example.com"))
        assert list((await wrapped(world))[name]) == [2]


async def test_two_rotations_at_once_leave_everybody_under_the_newest_epoch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, 4)
    name, vault = key_of(world.vault, MARKETING), world.vault
    real = journey._replace
    state = Counter[str]()

    async def replace(connection: Any, told: Rotation, *rest: Any) -> int:
        state["calls"] += 1
        if state["calls"] == 1:  # another rotation was begun, and this one has read its keys already
            await begin_another(vault, name)
        return await real(connection, told, *rest)

    monkeypatch.setattr(journey, "_replace", replace)
    told = await rotate(vault, [name])
    assert told.epochs == {name: 3}
    assert list((await wrapped(world))[name]) == [3]


async def test_h8_a_rotation_that_went_past_another_goes_over_everybody_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who were moved before the other began are under an epoch that is closed now."""
    await people(world, 4)
    name, vault = key_of(world.vault, MARKETING), world.vault
    monkeypatch.setattr(journey, "CHUNK", 1)
    real, calls = journey._replace, Counter[str]()

    async def replace(*args: Any) -> int:
        left = await real(*args)
        calls["done"] += 1
        if calls["done"] == 2:
            await begin_another(vault, name)
        return left

    monkeypatch.setattr(journey, "_replace", replace)
    told = await rotate(vault, [name])
    assert told.epochs == {name: 3}
    assert list((await wrapped(world))[name]) == [3]


async def begin_another(vault: Vault, name: str) -> None:
    version = vault.keystore.turn_to(name, random_bytes(32), vault.clock.now())
    async with vault.database.begin() as other:
        driver = await raw(other)
        await driver.execute(journey._ALONE)
        await driver.execute(journey._OPEN, name, version, vault.keystore.turn, vault.clock.now())


async def test_h8_a_rotation_that_goes_on_sees_to_those_that_it_had_left_before_it_died(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, 4)
    name, vault = key_of(world.vault, MARKETING), world.vault
    monkeypatch.setattr(journey, "CHUNK", 1)

    def die(told: Rotation) -> None:
        if told.subjects == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as busy:
        busy.setattr(journey, "TRIES", 0)  # others write to them all the time
        with pytest.raises(KeyboardInterrupt):
            await rotate(vault, [name], progress=die)
    looked = list[int]()
    told = await rotate(vault, [name], progress=lambda now: looked.append(now.subjects))
    assert looked[:2] == [1, 2]  # from where it was: the third of four
    assert told.passes == 2
    assert list((await wrapped(world))[name]) == [told.epochs[name]] == [2]


async def test_d9_a_rotation_waits_for_who_is_about_to_write_under_the_epoch_before(world: World) -> None:
    await people(world, 3)
    name, vault = key_of(world.vault, MARKETING), world.vault
    subject = await world.subject("u-1")
    (row,) = await world.rows("DELETE FROM keys.subject_key WHERE subject_id = $1 RETURNING wraps, version", subject)
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await driver.execute(
            "INSERT INTO keys.subject_key (subject_id, wraps, version) VALUES ($1, $2, $3)", subject, *row
        )
        rotating = asyncio.create_task(rotate(vault, [name]))
        while not rotating.done() and not await world.rows("SELECT FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 (of a server)
            await asyncio.sleep(0.01)
        assert not rotating.done()
    told = await rotating
    assert list((await wrapped(world))[name]) == [told.epochs[name]]


async def test_a14_a_wrap_that_does_not_open_is_reported_and_left_and_holds_up_no_destruction(vault: Vault) -> None:
    world = await World.of(vault)
    await people(world, 3)
    name = key_of(vault, MARKETING)
    subject = await world.subject("u-1")
    row = bytearray((await world.rows("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", subject))[0][0])
    at = _first_wrap(row, vault.catalogue.purposes[MARKETING].number)
    row[at + 20] ^= 1
    await world.rows("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", subject, bytes(row))
    told = await rotate(vault, [name])
    assert told.shut == 1
    after = (await world.rows("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", subject))[0][0]
    assert after[at : at + 51] == bytes(row[at : at + 51])
    without_backups(vault)
    await destroy_epoch(vault, name, 1)
    assert [one.detail["shut"] for one in await world.audited(Tag.KEY_EPOCH_DESTROYED)] == [1]


def _first_wrap(row: bytes | bytearray, purpose: int) -> int:
    offset = 1
    while True:
        count = row[offset + 58]
        for at in range(offset + 59, offset + 59 + count * 51, 51):
            if row[at] == purpose:
                return at
        offset += 59 + count * 51


async def test_a_new_signing_key_signs_in_every_process_and_what_the_old_one_signed_still_verifies(
    world: World, vault: Vault
) -> None:
    await people(world, 1)
    await world.settle()
    async with open_vault(vault.settings, clock=vault.clock) as other:
        before = other.keyring.signer("audit").key_id
        assert await renew_signing(vault, "signing-audit") == 2
        running = World(other, world.sources)
        await running.send(order("u-0"))
        await running.settle()
        assert other.keyring.signer("audit").key_id != before
        listed = {one["key_id"] for one in other.keyring.public_keys(["audit"])}
        assert listed == {before, other.keyring.signer("audit").key_id}
        found = await audit_verify(other)  # every checkpoint, those of the old key too
        assert found["ok"]
        assert found["checkpoints"] > 1
    assert [one.detail["name"] for one in await world.audited(Tag.KEY_SECRET_MADE)] == ["signing-audit"]


async def test_a10_a_compartment_whose_key_is_used_up_takes_nothing_new_and_still_opens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, 1)
    before = {(one.purposes, one.generation): one.version for one in (await world.state("u-0")).compartments}
    limit = max(before.values())
    monkeypatch.setattr(compartment, "MOST_WRITES", limit)
    world.vault.warm.forget([(await world.draft("u-0")).subject])
    await world.send(identify("u-0", firstName="Ada"), order("u-0", 5))
    after = {(one.purposes, one.generation): one.version for one in (await world.state("u-0")).compartments}
    worn = [place for place, version in before.items() if version == limit]
    assert all(after[place] == before[place] for place in worn)  # not written again
    assert any(purposes in {place[0] for place in worn} and generation > 1 for purposes, generation in after)
    (line,) = await world.feed("email-tool")
    assert line["traits"] == {"email": "p0@example.com", "firstName": "Ada"}


# --- tags -------------------------------------------------------------------------------------------------------------


async def test_a_new_index_key_finds_the_same_people_and_old_tags_find_nobody(world: World, vault: Vault) -> None:
    await people(world, 4)
    subject, name = await world.subject("u-1"), names.index("user_id")
    before = {row[0] for row in await world.rows("SELECT tag FROM identity")}
    kind = vault.catalogue.identifiers["user_id"].number
    old = {row[0] for row in await world.rows("SELECT tag FROM identifier WHERE kind = $1", kind)}
    async with open_vault(vault.settings, clock=vault.clock) as other:
        elsewhere = World(other, world.sources)
        await elsewhere.send(order("u-1"))  # kept warm there, under the old tag
        assert await renew_tags(vault, name) == (2, len(old))
        await elsewhere.send(
            order("u-1"), identify("u-9")
        )  # whose tags were made before it looked: told to come again, or right
        assert await elsewhere.subject("u-1") == subject
    assert await world.subject("u-1") == subject
    after = {row[0] for row in await world.rows("SELECT tag FROM identity")}
    assert not old & after
    assert before - old <= after
    assert await world.count("subject") == 5
    await world.send(order("u-1"), identify("u-1", email="p1@example.com"))
    assert await world.count("subject") == 5
    assert await renew_tags(vault, name) == (3, len(old) + 1)
    assert await world.subject("u-1") == subject


async def test_d4_a_new_tombstone_key_still_keeps_out_what_is_late_and_restores_what_is_deleted(
    world: World, vault: Vault
) -> None:
    await people(world, 2)
    subject = await world.subject("u-1")
    assert subject is not None
    assert await erase_at_once(vault, officer(vault), uuid7(vault.clock.now()), subject)
    with pytest.raises(Conflict):  # its rows are still being deleted by their tags
        await renew_tags(vault, names.TOMBSTONE)
    await world.settle()
    stones = {row[0] for row in await world.rows("SELECT tag FROM tombstone")}
    assert await renew_tags(vault, names.TOMBSTONE) == (2, len(stones))
    again = {row[0] for row in await world.rows("SELECT tag FROM tombstone")}
    assert len(again) == len(stones)
    assert not again & stones
    outcome = await world.send(order("u-1", at="2026-01-01T10:00:00Z"))
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await restore_graves(vault) == 0  # the journal's tags are known for what they became
    await world.rows("DELETE FROM tombstone")
    assert await restore_graves(vault) == len(stones)
    assert {row[0] for row in await world.rows("SELECT tag FROM tombstone")} == again


async def test_a_renewal_of_tags_that_meets_a_ring_of_locks_is_tried_again(
    world: World, vault: Vault, server: embedded.Server, database_url: str
) -> None:
    await people(world, 2)
    subject, name = await world.subject("u-1"), names.index("user_id")
    database = database_url.partition("@/")[2].partition("?")[0]
    writer = await asyncpg.connect(host=str(server.socket_folder), user=SUPERUSER, database=database)
    try:
        await writer.execute("SET deadlock_timeout = '5s'")  # so that it is the renewal that the server undoes
        async with writer.transaction():
            await writer.execute("LOCK TABLE tombstone IN ROW EXCLUSIVE MODE")
            renewal = asyncio.create_task(renew_tags(vault, name))
            while not await writer.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tombstone'::regclass"
            ):
                assert not renewal.done()
            await writer.execute("LOCK TABLE subject IN ROW EXCLUSIVE MODE")
        assert (await renewal)[0] == 2
    finally:
        await writer.close()
    assert await world.subject("u-1") == subject


async def test_a_renewal_of_tags_that_dies_before_the_key_store_closes_writers_and_is_ended_by_the_next(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, 2)
    subject, name = await world.subject("u-1"), names.index("user_id")
    with monkeypatch.context() as patched:
        patched.setattr(tags, "_open", lambda *_: (_ for _ in ()).throw(OSError("died here")))
        with pytest.raises(OSError, match="died here"):
            await renew_tags(vault, name)
    with pytest.raises(Conflict):
        await world.send(order("u-1"))
    with pytest.raises(Unavailable):  # nobody is not found, only because nobody knows how
        await find(vault, officer(vault), "user_id", "u-1")
    assert await renew_tags(vault, name) == (2, 0)
    await world.send(order("u-1"))
    assert await world.subject("u-1") == subject
    assert await world.count("subject") == 2


async def test_h8_a_range_that_fails_is_begun_again_though_the_next_one_was_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people(world, 4)
    marketing = key_of(world.vault, MARKETING)
    real, reach, begun, reached = journey._replace, journey._reached, 0, []
    third = asyncio.Event()

    async def failing(*args: Any) -> int:
        nonlocal begun
        begun += 1
        number = begun
        if number == 2:
            await third.wait()
            raise Unavailable("the connection went")
        left = await real(*args)
        if number == 3:
            third.set()
        return left

    async def reaching(vault: Vault, told: Rotation, position: UUID, count: int) -> None:
        reached.append(position)
        await reach(vault, told, position, count)

    with monkeypatch.context() as patch:
        patch.setattr(journey, "CHUNK", 1)
        patch.setattr(journey, "_replace", failing)
        patch.setattr(journey, "_reached", reaching)
        with pytest.raises(Unavailable):
            await rotate(world.vault, [marketing])
    (first, *_) = await world.rows("SELECT subject_id FROM keys.subject_key ORDER BY 1")
    assert begun == 3
    assert [one.bytes for one in reached] == [first[0].bytes]  # never behind the one that failed
    assert (await rotate(world.vault, [marketing])).done
    assert set((await wrapped(world))[marketing]) == {2}
