"""Leases: one holder at a time, and none who lost it can write (threat H21)."""

import asyncio
from uuid import uuid4

import pytest

from tests.fakes import FakeClock
from vault.clock import SECOND
from vault.storage.lease import LIFE, Lease, LeaseLost, advance, fence, give_back, hold, renew, take
from vault.storage.session import Database

WORK = "work"


async def taken(database: Database, clock: FakeClock) -> Lease:
    async with database.begin() as connection:
        lease = await take(connection, WORK, uuid4(), clock.now())
    assert lease is not None
    return lease


async def test_one_holder_at_a_time_and_another_once_it_is_given_back(database: Database, clock: FakeClock) -> None:
    lease = await taken(database, clock)
    async with database.begin() as connection:
        assert await take(connection, WORK, uuid4(), clock.now()) is None
        await give_back(connection, lease)
        heir = await take(connection, WORK, uuid4(), clock.now())
    assert heir is not None
    assert heir.fencing > lease.fencing


async def test_of_many_who_ask_at_once_one_gets_it(database: Database, clock: FakeClock) -> None:
    async def ask() -> Lease | None:
        async with database.begin() as connection:
            return await take(connection, WORK, uuid4(), clock.now())

    answers = await asyncio.gather(*(ask() for _ in range(8)))
    assert sum(answer is not None for answer in answers) == 1


async def test_it_expires_and_renewing_keeps_it(database: Database, clock: FakeClock) -> None:
    lease = await taken(database, clock)
    clock.advance(LIFE / SECOND - 1)
    async with database.hot() as connection:
        await renew(connection, lease, clock.now())
        clock.advance(LIFE / SECOND - 1)
        assert await take(connection, WORK, uuid4(), clock.now()) is None
        clock.advance(2)
        assert await take(connection, WORK, uuid4(), clock.now()) is not None


async def test_a_holder_that_asks_again_keeps_number_and_row(database: Database, clock: FakeClock) -> None:
    lease = await taken(database, clock)
    async with database.hot() as connection:
        before = await connection.fetchval("SELECT xmin::text FROM lease")
        assert await hold(connection, WORK, lease.holder, clock.now()) == lease
        assert await connection.fetchval("SELECT xmin::text FROM lease") == before
        clock.advance(60)
        later = await hold(connection, WORK, lease.holder, clock.now())
    assert later is not None
    assert later.fencing > lease.fencing  # it slept past its end: what it had begun does not count


async def test_h21_nothing_of_a_lost_lease_is_written(database: Database, clock: FakeClock) -> None:
    lost = await taken(database, clock)
    clock.advance(60)
    heir = await taken(database, clock)
    for write in (
        lambda connection: renew(connection, lost, clock.now()),
        lambda connection: advance(connection, lost, 99),
        lambda connection: fence(connection, lost),
    ):
        with pytest.raises(LeaseLost):  # noqa: PT012 - the transaction belongs to the claim
            async with database.begin() as connection:
                await connection.exec_driver_sql("INSERT INTO instance VALUES ('late', 'x')")
                await write(connection)
    async with database.begin() as connection:
        await give_back(connection, lost)
        assert await fence(connection, heir) == 0
        await advance(connection, heir, 7)
        assert await fence(connection, heir) == 7
    async with database.hot() as driver:
        assert await driver.fetchval("SELECT count(*) FROM instance WHERE name = 'late'") == 0


async def test_h21_while_a_holder_writes_nobody_takes_over(database: Database, clock: FakeClock) -> None:
    lease = await taken(database, clock)
    clock.advance(60)
    async with database.begin() as connection:
        await fence(connection, lease)
        taking = asyncio.create_task(taken(database, clock))
        done, _ = await asyncio.wait([taking], timeout=0.1)
        assert not done
        await advance(connection, lease, 5)
    assert (await taking).position == 5
