"""Releases stop while the audit log does not keep up (promise 12, threats F8)."""

from uuid import uuid4

import pytest

from tests.fakes import FakeClock
from tests.worlds import World, identify
from vault.clock import DAY
from vault.errors import Unavailable
from vault.flows.lag import LIMIT, check_log
from vault.storage.lease import AUDIT, LIFE
from vault.worker import run


async def test_f8_an_entry_that_waits_too_long_stops_releases_until_the_log_has_it(
    world: World, clock: FakeClock
) -> None:
    await world.settle()
    await check_log(world.vault)
    clock.advance(2)
    await world.send(identify("u-1", email="ada@example.com"))
    clock.advance(micros=LIMIT)
    await check_log(world.vault)
    clock.advance(2)
    with pytest.raises(Unavailable) as refused:
        await check_log(world.vault)
    assert refused.value.reason == "audit_behind"
    await run(world.vault, once=True)
    await check_log(world.vault)


async def test_f8_a_lease_that_somebody_wrote_into_the_far_future_is_taken_over(world: World, clock: FakeClock) -> None:
    await world.settle()
    async with world.vault.database.hot() as connection:
        await connection.execute(
            "UPDATE lease SET holder = $1, expires_at = $2, fencing = fencing + 1 WHERE name = $3",
            uuid4(),
            clock.now() + 1000 * DAY,
            AUDIT,
        )
    await world.send(identify("u-1", email="ada@example.com"))
    clock.advance(micros=2 * LIFE)
    await run(world.vault, once=True)
    assert await world.count("audit_in") == 0
