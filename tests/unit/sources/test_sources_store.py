"""Sources and drop counters on a real database."""

import asyncio

import pytest

from tests.fakes import FakeClock
from vault.errors import Conflict, Invalid, NotFound
from vault.sources import store
from vault.sources.dropped import Drop
from vault.sources.store import MAX_NAMES_A_DAY, MORE_NAMES, Source
from vault.storage.session import Database

KEY = bytes(range(32))


async def test_a_write_key_finds_its_source_and_is_not_in_the_database(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        shop, key = await store.add(connection, "shop", server=True, now=clock.now(), key=KEY)
        app, other = await store.add(connection, "app", server=False, now=clock.now(), key=KEY)
    async with database.begin() as connection:
        assert await store.by_write_key(connection, key, KEY) == shop == Source(shop.source_id, "shop", True)
        assert await store.by_write_key(connection, other, KEY) == app
        assert await store.by_write_key(connection, key + "x", KEY) is None
        assert await store.by_write_key(connection, "", KEY) is None
    async with database.hot() as connection:
        stored = str(await connection.fetch("SELECT source::text FROM source"))
    assert key not in stored
    assert key.removeprefix(store.KEY_PREFIX) not in stored


async def test_a_disabled_source_is_refused_and_stays_in_the_list(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        _, key = await store.add(connection, "shop", server=True, now=clock.now(), key=KEY)
        await store.disable(connection, "shop", now=clock.now(), key=KEY)
        await store.disable(connection, "shop", now=clock.now(), key=KEY)
        assert await store.by_write_key(connection, key, KEY) is None
        with pytest.raises(NotFound):
            await store.get(connection, "shop", KEY)
        assert [(row.source.name, row.disabled_at) for row in await store.everyone(connection)] == [
            ("shop", clock.now())
        ]
        with pytest.raises(NotFound):
            await store.disable(connection, "nobody", now=clock.now(), key=KEY)


async def test_a_name_is_given_once_even_to_two_operators_at_once(database: Database, clock: FakeClock) -> None:
    async def add() -> None:
        async with database.begin() as connection:
            await store.add(connection, "shop", server=True, now=clock.now(), key=KEY)

    done = await asyncio.gather(*(add() for _ in range(4)), return_exceptions=True)
    assert done.count(None) == 1
    assert sum(isinstance(one, Conflict) for one in done) == 3


@pytest.mark.parametrize(
    "name", ["", "Shop", "jane@example.com", "a" * 64, "+491701234567", "x491701234567", "-x", "a b", "a\n"]
)
async def test_a_name_that_is_no_plain_label_is_refused(database: Database, clock: FakeClock, name: str) -> None:
    async with database.begin() as connection:
        with pytest.raises(Invalid):
            await store.add(connection, name, server=True, now=clock.now(), key=KEY)


async def test_counts_add_up_over_batches_and_days(database: Database) -> None:
    async with database.begin() as connection:
        await store.count_dropped(
            connection, 1, 100, {Drop("track", "A", "unknown_event"): 2, Drop("page", "*", "no_choice"): 1}
        )
        await store.count_dropped(connection, 1, 101, {Drop("track", "A", "unknown_event"): 3})
        await store.count_dropped(connection, 1, 101, {Drop("track", "A", "unknown_event"): 4})
        await store.count_dropped(connection, 2, 101, {Drop("track", "A", "unknown_event"): 9})
        await store.count_dropped(connection, 1, 101, {})
        found = await store.read_dropped(connection, 1)
        assert [(one.type, one.name, one.reason, one.count, one.first_day, one.last_day) for one in found] == [
            ("track", "A", "unknown_event", 9, 100, 101),
            ("page", "*", "no_choice", 1, 100, 100),
        ]
        assert [one.count for one in await store.read_dropped(connection, 1, since_day=101)] == [7]
        assert await store.read_dropped(connection, 3) == []


async def test_g8_a_source_that_makes_up_names_fills_no_disk(database: Database) -> None:
    made_up = {Drop("track", f"n{number:04}", "unknown_event"): 1 for number in range(MAX_NAMES_A_DAY)}
    more = {Drop("track", f"m{number:04}", "unknown_event"): 1 for number in range(500)}
    async with database.begin() as connection:
        await store.count_dropped(connection, 1, 100, made_up)
        await store.count_dropped(connection, 1, 100, more)
        await store.count_dropped(connection, 1, 100, {Drop("track", "n0000", "unknown_event"): 1} | more)
        found = {one.name: one.count for one in await store.read_dropped(connection, 1)}
    assert len(found) == MAX_NAMES_A_DAY + 1
    assert found[MORE_NAMES] == 1000
    assert found["n0000"] == 2


async def test_two_batches_that_count_the_same_names_do_not_deadlock(database: Database) -> None:
    async def count(order: int) -> None:
        names = [f"n{number}" for number in range(40)][::order]
        async with database.begin() as connection:
            await store.count_dropped(connection, 1, 100, {Drop("track", name, "no_choice"): 1 for name in names})
            await asyncio.sleep(0)

    await asyncio.gather(*(count(1 if number % 2 else -1) for number in range(20)))
    async with database.begin() as connection:
        assert {one.count for one in await store.read_dropped(connection, 1)} == {20}
