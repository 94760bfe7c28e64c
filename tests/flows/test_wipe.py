"""Claims about what erasures leave on the disk (threats D5, section 4.2), and about keys that nothing needs any more (D7)."""

from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.rights_world import officer, rows_of
from tests.worlds import World, identify, order
from vault.audit.entry import Tag
from vault.clock import HOUR
from vault.errors import Unavailable
from vault.flows import wipe
from vault.flows.find import find
from vault.flows.honour import at_once, strays
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import open_request
from vault.flows.wipe import wipe_due
from vault.ids import uuid7
from vault.keys import names
from vault.storage import lease


async def _erase(world: World, who: str) -> UUID:
    await world.send(identify(who, email=f"{who}@example.com"), order(who, 20))
    actor = officer(world.vault)
    request = await open_request(world.vault, actor, await find(world.vault, actor, "user_id", who), "erasure")
    await advance(world.vault, request)
    return request


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the log was written over: on a server that other tests share it is not done."""
    calls: list[int] = []

    async def write_over(*_: object) -> int:
        calls.append(1)
        return 1

    monkeypatch.setattr(wipe, "_write_over", write_over)
    return calls


async def test_d5_after_an_erasure_the_disk_is_wiped_once_within_half_a_day(
    world: World, clock: FakeClock, counted: list[int]
) -> None:
    vault = world.vault
    assert await wipe_due(vault) == 0  # nobody was erased
    await _erase(world, "ada")
    before = (await rows_of(vault, "SELECT pg_relation_filenode('keys.subject_key')"))[0][0]
    assert await wipe_due(vault) >= 20
    assert (await rows_of(vault, "SELECT pg_relation_filenode('keys.subject_key')"))[0][0] != before  # written anew
    assert await wipe_due(vault) == 0
    await _erase(world, "bob")
    assert await wipe_due(vault) == 0  # not yet
    clock.advance(micros=12 * HOUR)
    assert await wipe_due(vault) >= 20
    clock.advance(micros=12 * HOUR)
    assert await wipe_due(vault) == 0
    assert len(counted) == 2


async def test_one_process_wipes_at_a_time(world: World, counted: list[int]) -> None:
    await _erase(world, "ada")
    async with world.vault.database.begin() as connection:
        assert await lease.take(connection, wipe.LEASE, uuid7(world.now()), world.now(), wipe.LIFE)
    assert await wipe_due(world.vault) == 0
    assert counted == []


async def test_keys_in_use_are_not_waited_for_and_it_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    await _erase(world, "ada")
    monkeypatch.setattr(wipe, "PATIENCE", "50ms")
    async with world.vault.database.snapshot() as reading:
        await reading.fetch("SELECT FROM keys.subject_key")
        done = await wipe.wipe(world.vault)
    assert done.rewritten is False
    assert (await wipe.wipe(world.vault)).rewritten is True
    assert (await rows_of(world.vault, "SHOW lock_timeout"))[0][0] == "30s"
    assert (await rows_of(world.vault, "SHOW statement_timeout"))[0][0] == "5min"


async def test_d7_a_key_of_a_case_that_never_came_to_be_goes_after_a_week(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between the key and the commit: nobody was there to take it back."""
    vault = world.vault
    kept = names.case(await _erase(world, "bob"))
    with monkeypatch.context() as patched:
        patched.setattr(vault.keyring, "destroy", lambda *_: None)
        await world.send(identify("ada", email="ada@example.com"))

        async def died(*_: object) -> None:
            raise Unavailable

        patched.setattr(at_once, "_destroy", died)
        actor = officer(vault)
        with pytest.raises(Unavailable):
            await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    (stray,) = {one for one in vault.keystore.names() if one.startswith("case-")} - {kept}
    assert await strays.sweep_strays(vault) == 0  # an erasure may be about to commit
    clock.advance(micros=strays.AGE)
    assert await strays.sweep_strays(vault) == 0
    clock.advance(1)
    assert await strays.sweep_strays(vault) == 1
    assert [one for one in vault.keystore.names() if one.startswith("case-")] == [kept]
    assert stray not in vault.keystore.names()
    assert [one.detail for one in await world.audited(Tag.KEY_SECRET_DESTROYED)] == [{"strays": 1}]
