"""No committed change is ever skipped, whatever the order of commits (design section 9; threats H19, H21)."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.fakes import FakeClock
from vault.changes import sequencer
from vault.changes.store import head, mark, page, waiting
from vault.clock import SECOND
from vault.storage import embedded
from vault.storage.lease import CHANGES, LIFE, Lease, LeaseLost, take
from vault.storage.session import Database, raw


async def held(database: Database, clock: FakeClock) -> Lease:
    lease = await taken(database, clock)
    assert lease is not None
    return lease


async def taken(database: Database, clock: FakeClock) -> Lease | None:
    async with database.hot() as connection:
        return await take(connection, CHANGES, uuid4(), clock.now())


async def number_all(database: Database, lease: Lease, clock: FakeClock) -> None:
    while await sequencer.number(database, lease, clock):
        pass


async def marked(database: Database, *subjects: UUID) -> None:
    async with database.begin() as connection:
        await mark(connection, subjects)


async def pages(database: Database, after: int, limit: int = 100) -> list[tuple[int, UUID]]:
    async with database.snapshot() as connection:
        return await page(connection, after, limit)


async def test_a_writer_that_commits_late_is_not_skipped_by_a_page(database: Database, clock: FakeClock) -> None:
    slow, fast = uuid4(), uuid4()
    lease = await held(database, clock)
    async with database.begin() as late:
        await mark(late, [slow])  # first in order of writing, last in order of commit
        await marked(database, fast)
        assert await sequencer.number(database, lease, clock) == 1
        first = await pages(database, 0)
        assert [subject for _, subject in first] == [fast]
    assert await sequencer.number(database, lease, clock) == 1
    second = await pages(database, first[-1][0])
    assert [subject for _, subject in second] == [slow]


async def test_no_change_is_skipped_while_many_writers_commit_in_any_order(
    database: Database, clock: FakeClock
) -> None:
    lease = await held(database, clock)
    people = [uuid4() for _ in range(60)]
    seen: list[tuple[int, UUID]] = []
    done = asyncio.Event()

    async def write(number: int) -> None:
        for subject in people[number::6]:
            async with database.begin() as connection:
                await mark(connection, [subject])
                await asyncio.sleep(0.001 * (number % 3))

    async def follow() -> None:
        while True:
            last_round = done.is_set()
            await sequencer.number(database, lease, clock, batch=7)
            seen.extend(await pages(database, seen[-1][0] if seen else 0, limit=5))
            if last_round and len(seen) >= len(people):
                return

    async def writers() -> None:
        await asyncio.gather(*(write(number) for number in range(6)))
        done.set()

    await asyncio.wait_for(asyncio.gather(writers(), follow()), timeout=30)
    assert {subject for _, subject in seen} == set(people)
    assert [number for number, _ in seen] == sorted({number for number, _ in seen})


async def test_a_profile_that_changed_again_moves_to_its_latest_number(database: Database, clock: FakeClock) -> None:
    lease = await held(database, clock)
    ada, bob = uuid4(), uuid4()
    await marked(database, ada)
    await marked(database, bob)
    await number_all(database, lease, clock)
    await marked(database, ada, ada)
    await number_all(database, lease, clock)
    assert await pages(database, 0) == [(2, bob), (3, ada)]
    async with database.snapshot() as connection:
        assert await head(connection) == 3
        assert await waiting(connection) == 0


async def test_a_rolled_back_change_gets_no_number(database: Database, clock: FakeClock) -> None:
    lease = await held(database, clock)
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction belongs to the claim
        async with database.begin() as connection:
            await mark(connection, [uuid4()])
            raise RuntimeError
    assert await sequencer.number(database, lease, clock) == 0
    assert await pages(database, 0) == []


async def test_h19_a_long_transaction_in_another_database_of_the_server_stalls_nothing(
    database: Database, server: embedded.Server, clock: FakeClock
) -> None:
    lease = await held(database, clock)
    other = await asyncpg.connect(host=str(server.socket_folder), user="vault", database="postgres")
    try:
        await other.execute("BEGIN")
        await other.execute("CREATE TABLE held_open (x int)")  # has a transaction id, and keeps it
        await marked(database, ada := uuid4())
        assert await sequencer.number(database, lease, clock) == 1
        assert await pages(database, 0) == [(1, ada)]
        await other.execute("ROLLBACK")
    finally:
        await other.close()


async def test_h21_a_holder_that_slept_past_its_lease_is_refused_and_writes_nothing(
    database: Database, clock: FakeClock
) -> None:
    sleeper = await held(database, clock)
    await marked(database, uuid4())
    assert await taken(database, clock) is None  # still his
    clock.advance(60)
    heir = await held(database, clock)
    assert heir.fencing > sleeper.fencing
    with pytest.raises(LeaseLost):
        await sequencer.number(database, sleeper, clock)
    assert await pages(database, 0) == []
    assert await sequencer.number(database, heir, clock) == 1


async def test_h21_a_statement_that_waited_for_the_heir_is_refused_when_it_goes_on(
    database: Database, clock: FakeClock
) -> None:
    """The sleeper's statement began while the lease was his; the heir commits before it gets the row."""
    sleeper = await held(database, clock)
    await marked(database, uuid4())
    clock.advance(LIFE / SECOND + 1)
    async with database.begin() as connection:
        heir = await take(connection, CHANGES, uuid4(), clock.now())
        assert heir is not None
        stopped = asyncio.create_task(sequencer.number(database, sleeper, clock))
        await _waits_for_a_lock(database)
    with pytest.raises(LeaseLost):
        await stopped
    assert await pages(database, 0) == []


async def test_two_statements_of_one_holder_give_no_number_twice(database: Database, clock: FakeClock) -> None:
    lease = await held(database, clock)
    people = [uuid4() for _ in range(50)]
    await marked(database, *people)
    moved = await asyncio.gather(*(sequencer.number(database, lease, clock, batch=20) for _ in range(6)))
    await number_all(database, lease, clock)
    assert sum(moved) <= len(people)
    assert [number for number, _ in await pages(database, 0)] == list(range(1, 51))


async def _waits_for_a_lock(database: Database) -> None:
    """Returns once some statement of this database waits for a row."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(500):
        async with database.hot() as connection:
            if await connection.fetchval(query):
                return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing waits")


async def test_a_mark_made_on_the_asyncpg_connection_belongs_to_the_same_transaction(
    database: Database, clock: FakeClock
) -> None:
    lease = await held(database, clock)
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction belongs to the claim
        async with database.begin() as connection:
            driver = await raw(connection)
            await mark(driver, [uuid4()])
            assert driver.is_in_transaction()
            raise RuntimeError
    assert await sequencer.number(database, lease, clock) == 0


async def test_the_worker_step_numbers_what_waits_and_writes_nothing_when_idle(
    database: Database, clock: FakeClock
) -> None:
    await marked(database, ada := uuid4())
    assert await sequencer.sequence(database, clock) == 1
    assert await pages(database, 0) == [(1, ada)]
    async with database.hot() as connection:
        before = await connection.fetchrow("SELECT *, xmin::text FROM lease")
    clock.advance(1)
    assert await sequencer.sequence(database, clock) == 0
    async with database.hot() as connection:
        assert await connection.fetchrow("SELECT *, xmin::text FROM lease") == before


async def test_only_one_process_numbers_at_a_time_and_an_heir_goes_on(
    database: Database, database_url: str, clock: FakeClock
) -> None:
    other = await Database.open(database_url)
    try:
        await marked(database, ada := uuid4())
        assert await sequencer.sequence(database, clock) == 1
        await marked(database, bob := uuid4())
        assert await sequencer.sequence(other, clock) == 0  # the first one's lease lives
        clock.advance(60)
        assert await sequencer.sequence(other, clock) == 1
        assert await pages(database, 0) == [(1, ada), (2, bob)]
    finally:
        await other.close()
