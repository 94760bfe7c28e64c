"""What does not agree hurts only the person it belongs to; and what comes between two statements of a batch is seen."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.worlds import World, identify, order, preference, say, track
from vault.audit.entry import Tag
from vault.clock import Micros
from vault.errors import Unavailable
from vault.flows.graves import write_graves
from vault.flows.ingest import counting, receive
from vault.flows.ingest.world import read_world
from vault.flows.people import commit as committing
from vault.flows.people.change import tools_of
from vault.flows.people.warm import Warm
from vault.flows.tags import tombstone_tag
from vault.journal.narrowing import Tombstone
from vault.keys.compartments import parse_wraps
from vault.sources.dropped import MOST_OWED, Drop, Uncounted

TAMPER = {
    "state": "UPDATE subject SET state = set_byte(state, 60, get_byte(state, 60) # 1) WHERE subject_id = $1",
    "version": "UPDATE subject SET version = version + 1 WHERE subject_id = $1",
    "keys": "UPDATE keys.subject_key SET wraps = set_byte(wraps, 40, get_byte(wraps, 40) # 1) WHERE subject_id = $1",
    "no keys": "DELETE FROM keys.subject_key WHERE subject_id = $1",
    "field": "UPDATE compartment SET fields = set_byte(fields, 50, get_byte(fields, 50) # 1) WHERE subject_id = $1",
    "row": "DELETE FROM compartment WHERE subject_id = $1",
    "ledger": "DELETE FROM ledger WHERE subject_id = $1 AND sequence = 1",
    "link": "UPDATE subject SET root = gen_random_uuid() WHERE subject_id = $1",
    "gone": "DELETE FROM subject WHERE subject_id = $1",
}


@pytest.fixture
async def tampered(world: World) -> Any:
    """Restores what a test changed behind the vault's back, since every world is read again at its end."""
    tables = ("subject", "keys.subject_key", "compartment", "ledger")
    yield
    for table in reversed(tables):
        await world.rows(f"DELETE FROM {table} WHERE subject_id IN (SELECT subject_id FROM broken)")  # noqa: S608
    await world.rows("DELETE FROM identity WHERE subject_id IN (SELECT subject_id FROM broken)")


@pytest.mark.usefixtures("tampered")
@pytest.mark.parametrize("how", sorted(TAMPER))
async def test_a_person_whose_rows_do_not_agree_stops_nobody_else(world: World, how: str) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 20), order("u-2", 30))
    await world.choose(say("marketing", "denied"), user="u-1")
    subject = await world.subject("u-1")
    await world.rows("CREATE TABLE broken AS SELECT $1::uuid AS subject_id", subject)
    await world.rows(TAMPER[how], subject)
    batch = [
        identify("u-1", email="new@example.com"),
        order("u-1", 1),
        preference("u-1", analytics=False),
        order("u-2", 2),
        preference("u-2", functional=False),
    ]
    outcome = await world.send(*batch)
    assert outcome.stored == 2
    assert [(d.index, d.code) for d in outcome.dropped] == [(0, "integrity"), (1, "integrity"), (2, "integrity")]
    assert [e.detail["check"] for e in await world.audited(Tag.INTEGRITY_CHECK_FAILED)] == ["profile"]
    assert (await world.dropped())["track", "Order Completed", "integrity"] == 1
    again = await world.send(*batch)  # not lost for good: it may be sent again when the rows were mended
    assert [d.code for d in again.dropped] == ["integrity"] * 3 + ["duplicate"] * 2


async def test_a_choice_that_comes_between_two_reads_is_no_forgery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State and ledger are read by two statements; an entry that came between them belongs to the next state."""
    await world.send(order("u-1", 20))
    original = receive.read_world
    between = iter([True])

    async def slow(connection: Any, *args: Any, **more: Any) -> Any:
        fetch = connection.fetch

        class Slow:
            """Lets somebody choose just before the ledger is read."""

            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            async def fetch(self, query: str, *values: Any) -> Any:
                if "FROM ledger" in query and next(between, False):
                    await world.choose(say("marketing", "withdrawn"), user="u-1")
                return await fetch(query, *values)

        return await original(Slow(), *args, **more)

    monkeypatch.setattr(receive, "read_world", slow)
    outcome = await world.send(preference("u-1", analytics=False))
    assert (outcome.stored, outcome.dropped) == (1, [])
    stands = await world.stands("u-1")
    assert (stands["analytics"], stands["marketing"]) == ("withdrawn", "withdrawn")


async def test_a_claimed_refusal_is_not_lost_with_a_race(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device's act is written to two profiles; whoever loses the one must decide both again."""
    await world.send(order("u-1", 20))
    original, once = receive.commit, iter([True])

    async def late(*args: Any) -> Any:
        if next(once, False):
            await world.send(order("u-1", 5))  # between decision and commit
        return await original(*args)

    monkeypatch.setattr(receive, "commit", late)
    await world.send(preference("u-1", anon="d-1", analytics=False), source="app")
    state = await world.state("u-1")
    assert state.blocked == world.vault.catalogue.mask(("analytics",))


async def test_an_erasure_between_two_reads_brings_nobody_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threat D1: the tag was there, then the person was erased; the tombstone must be seen."""
    await world.send(identify("u-1", email="ada@example.com"))
    tools = tools_of(world.vault)
    items = receive.items_of(
        world.vault.places,
        world.vault.keyring,
        world.sources["shop"],
        receive.decode(b'{"type":"identify","userId":"u-1","messageId":"late"}', "identify", world.now()).messages,
    )
    (named,) = items[0].named
    asked: list[set[str]] = []

    async with world.vault.database.hot() as connection:

        class Watched:
            """Notes which tables are asked at one moment."""

            async def fetch(self, query: str, *values: Any) -> Any:
                asked.append({table for table in ("tombstone", "identity", "dedup") if f"FROM {table}" in query})
                return await connection.fetch(query, *values)

        found = await read_world(Watched(), tools, items)  # type: ignore[arg-type]
    assert found.profile_of(named.tag) is not None
    assert [one for one in asked if one] == [{"tombstone", "identity", "dedup"}]


async def test_a5_a_writer_refuses_an_older_row_of_values(world: World) -> None:
    """The row is whole and opens, and the state vouches for a later one."""
    columns = "subject_id, purposes, generation, version, fields"
    await world.send(order("u-1", 20))
    old = await world.rows(f"SELECT {columns} FROM compartment")  # noqa: S608
    await world.send(order("u-1", 5))
    new = await world.rows(f"SELECT {columns} FROM compartment")  # noqa: S608
    put_back = (
        "UPDATE compartment SET version = $4, fields = $5 WHERE subject_id = $1 AND purposes = $2 AND generation = $3"
    )
    for row in old:
        await world.rows(put_back, *row)
    world.vault.warm = Warm()
    outcome = await world.send(order("u-1", 1))
    for row in new:
        await world.rows(put_back, *row)
    assert [one.code for one in outcome.dropped] == ["integrity"]


async def test_a6_a_row_of_wraps_that_was_wrapped_anew_meanwhile_is_not_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation changes no state row: what was read of the wraps must still be what is replaced."""
    await world.send(identify("u-1", email="ada@example.com", firstName="Ada"))
    ((subject, before),) = await world.rows("SELECT subject_id, wraps FROM keys.subject_key")
    known = parse_wraps(before)
    many = max(known, key=lambda one: len(one.wraps))
    old = many.wraps[1].blob
    new = bytes([old[0] ^ 1]) + old[1:]
    anew = before.replace(old, new)
    update = "UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1"
    await _before_writing(world, monkeypatch, lambda: world.rows(update, subject, anew))
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    after = await world.rows("SELECT wraps FROM keys.subject_key")
    await world.rows(update, subject, after[0][0].replace(new, old))
    assert after[0][0] != anew  # the withdrawal took its wraps
    assert new in after[0][0]
    assert old not in after[0][0]


async def test_d2_an_erasure_that_comes_between_reading_and_writing_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tombstone is compared by the statement itself: the identifier was free when the message was decided."""
    stone = tombstone_tag(world.vault.keyring, "email", b"ada@example.com")
    grave = Tombstone(stone, 1, Micros(world.vault.clock.now() + 1), suppress=False, objected=0)

    async def bury() -> None:
        async with world.vault.database.hot() as connection:
            await write_graves(connection, [grave])

    await _before_writing(world, monkeypatch, bury)
    outcome = await world.send(identify("u-1", email="ada@example.com"))
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await world.count("subject") == 0


async def _before_writing(world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """Lets something happen once, after the decision and before its statement."""
    original, left = committing.write, [act]

    async def write(*args: Any) -> set[int]:
        if left:
            await left.pop()()
        return await original(*args)

    monkeypatch.setattr(committing, "write", write)


async def test_what_is_durable_is_answered_and_its_drops_are_counted_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [identify("u-1", email="ada@example.com"), track("Unheard Of", "u-1")]
    with monkeypatch.context() as patch:
        patch.setattr(counting, "count_dropped", _no_database)
        assert [one.code for one in (await world.send(*messages)).dropped] == ["unlisted"]
    assert await world.dropped() == {}
    assert [one.code for one in (await world.send(*messages)).dropped] == ["duplicate"] * 2
    assert await world.dropped() == {("track", "Unheard Of", "unlisted"): 1}


async def test_drops_of_a_part_that_was_taken_are_counted_though_the_next_one_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender sends all of it again, and what was taken is a duplicate then."""
    original, tries = receive.commit, iter(range(9))

    async def second_fails(*args: Any) -> set[int]:
        if next(tries):
            raise Unavailable
        return await original(*args)

    messages = [track("Unheard Of", "u-1"), *[order(f"u-{n}", 1) for n in range(receive.PART)]]
    with monkeypatch.context() as patch:
        patch.setattr(receive, "commit", second_fails)
        with pytest.raises(Unavailable):
            await world.send(*messages)
    assert [one.code for one in (await world.send(*messages)).dropped] == ["duplicate"] * receive.PART
    assert await world.dropped() == {("track", "Unheard Of", "unlisted"): 1}


def test_g7_what_waits_to_be_counted_is_bounded() -> None:
    owed = Uncounted()
    for n in range(MOST_OWED + 50):
        owed.owe(1, {Drop("track", f"Name {n}", "unlisted"): 1 + (n > 100)})
    assert len(owed.take(1)) == MOST_OWED
    assert owed.take(1) == {}


async def _no_database(*_: object) -> None:
    raise Unavailable
