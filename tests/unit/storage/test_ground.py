"""Connections to another server than the first are given to nobody (threats C9, D14, H11)."""

import pytest

from vault.errors import Unavailable
from vault.storage.pool import REPLACED, Ground, Place
from vault.storage.session import Database

HERE = Place("7000", "00000001", 5, 1_000, 500)


class Server:
    """What answers a look."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def fetchrow(self, _query: str) -> Place:
        return self.place


@pytest.mark.parametrize("other", [
    HERE._replace(server="7001"),
    HERE._replace(timeline="00000002"),
    HERE._replace(database=6),
    HERE._replace(started=1_001),  # older files, or a standby made primary without a timeline: a start is all that shows
])  # fmt: skip
async def test_h11_once_a_connection_comes_to_another_server_none_is_used_any_more(other: Place) -> None:
    ground = Ground()
    await ground.look(Server(HERE))
    await ground.look(Server(HERE._replace(written=501)))
    with pytest.raises(Unavailable) as told:
        await ground.look(Server(other))
    assert told.value.reason == REPLACED
    with pytest.raises(Unavailable):  # also if the address leads back
        await ground.look(Server(HERE))
    assert ground.replaced.is_set()


async def test_the_furthest_place_that_was_seen_is_kept() -> None:
    ground = Ground()
    for written in (500, 700, 600):
        await ground.look(Server(HERE._replace(written=written)))
    assert ground.place == HERE._replace(written=700)


def test_files_of_the_same_life_that_are_older_are_known() -> None:
    assert HERE._replace(started=2_000, written=499).before(HERE)
    assert not HERE._replace(started=2_000).before(HERE)
    assert not HERE._replace(timeline="00000002", written=1).before(HERE)


async def test_h11_a_database_that_was_replaced_lends_nothing_by_any_way(database: Database) -> None:
    async with database.hot() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    place = database.ground.place
    assert place is not None
    async with database.hot() as connection:
        await connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 100)), pg_switch_wal()")
    async with database.anew():
        pass
    assert database.ground.place.written > place.written
    database.ground.place = place._replace(started=place.started - 1)
    ways = (database.anew, database.begin, database.snapshot, database.hot)
    for way in ways:
        with pytest.raises(Unavailable) as told:
            async with way():
                pass
        assert told.value.reason == REPLACED
    assert database.in_use() == {"common": 0, "reserved": 0}
