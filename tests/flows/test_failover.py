"""What a process does whose database was replaced, step by step; the whole of it is in tests/e2e (threats D14, H11, H20)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.worlds import World, identify
from vault.changes.incarnation import current, renew
from vault.errors import ConfigError, Unavailable, VaultError
from vault.flows import failover, lookup
from vault.flows.failover import REPLACED, begin_life, known_of, look_on, while_whole
from vault.flows.release.page import page
from vault.flows.vault import Vault
from vault.keys.roles import FEED, ProcessRole
from vault.storage.session import Database, Standing


async def life(database: Database) -> str:
    async with database.hot() as connection:
        return await current(connection)


@contextmanager
def elsewhere(vault: Vault) -> Iterator[None]:
    """As if every open connection led to another server by now, which a pooler does not tell."""
    ground = vault.database.ground
    assert ground.place is not None
    here = ground.place
    ground.place = here._replace(started=here.started - 1)
    try:
        yield
    finally:
        ground.place = here
        ground.replaced.clear()


@pytest.mark.parametrize("door", ["feed", "lookup"])
async def test_c9_nothing_leaves_by_a_server_that_a_pooler_put_in_the_place_of_the_known_one(
    world: World, door: str
) -> None:
    async def asked() -> Any:
        if door == "feed":
            return await page(world.vault, "email-tool", None)
        return await lookup.traits(world.vault, "email-tool", "email", "ada@example.com")

    await world.send(identify("ada", email="ada@example.com", firstName="Ada"))
    await world.settle()
    with elsewhere(world.vault), pytest.raises(Unavailable):
        await asked()
    assert await world.count("disclosure") == 0
    assert await asked()
    assert await world.count("disclosure") == 1


async def test_h20_older_files_of_the_same_life_begin_a_new_one_and_only_one_process_begins_it(world: World) -> None:
    known = known_of(world.vault)
    assert known is not None
    await begin_life(world.vault, known)  # nothing was lost
    assert world.vault.incarnation == known.incarnation == await life(world.vault.database)
    newer = known._replace(place=known.place._replace(written=known.place.written + (1 << 40)))
    await begin_life(world.vault, newer)
    first = world.vault.incarnation
    assert first != known.incarnation
    await begin_life(world.vault, newer)  # as a second process that knows the same
    assert world.vault.incarnation == first == await life(world.vault.database)


async def test_h20_a_process_that_may_not_begin_a_new_life_waits_for_one_that_may(world: World) -> None:
    vault = world.vault
    known = known_of(vault)
    assert known is not None
    newer = known._replace(place=known.place._replace(written=known.place.written + (1 << 40)))
    whole, owner = vault.role, vault.database.standing
    vault.role, vault.database.standing = (
        ProcessRole(doors=(FEED,), duties=(), purposes=("marketing",)),
        Standing(owner=False),
    )
    with pytest.raises(ConfigError):
        await begin_life(vault, newer)
    assert await life(vault.database) == known.incarnation
    async with vault.database.begin() as connection:
        vault.incarnation = await renew(connection)  # the desk did, and this one was opened again
    await begin_life(vault, newer)
    vault.role, vault.database.standing = whole, owner


async def test_a_life_that_another_process_began_shuts_this_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "LOOKING", 0.01)
    looking = asyncio.create_task(look_on(world.vault))

    async def work() -> None:
        await asyncio.Event().wait()

    async with world.vault.database.begin() as connection:
        await renew(connection)
    with pytest.raises(Unavailable) as told:
        await while_whole(world.vault, work())
    assert told.value.reason == REPLACED
    looking.cancel()
    world.vault.database.ground.replaced.clear()


async def test_a_journey_that_ends_or_fails_ends_the_wait(world: World) -> None:
    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise Unavailable("x", code="key_service")

    assert await while_whole(world.vault, answer()) == 7
    with pytest.raises(VaultError) as told:
        await while_whole(world.vault, fail())
    assert told.value.reason == "key_service"
