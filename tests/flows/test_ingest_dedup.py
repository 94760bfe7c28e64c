"""A message has one effect, however often it comes: in a batch, across batches, at once, under one id or a stolen one."""

import asyncio

from tests.worlds import World, identify, order, preference, track
from vault.audit.entry import Tag


async def test_a_message_twice_in_a_batch_counts_once(world: World) -> None:
    one = order("u-1", 20)
    outcome = await world.send(one, one, order("u-1", 5))
    assert outcome.stored == 2
    assert [(d.index, d.code) for d in outcome.dropped] == [(1, "duplicate")]
    seen = await world.traits("warehouse")
    assert (seen["lifetime_value"], seen["order_count"]) == (25, 2)


async def test_a_batch_sent_again_changes_nothing(world: World) -> None:
    batch = [identify("u-1", email="ada@example.com"), order("u-1", 20), order("u-2", 30)]
    await world.send(*batch)
    before, lines = await world.feeds(), await world.lines("email-tool")
    outcome = await world.send(*batch, sentAt="2026-03-02T09:00:00Z", writeKey="k")
    assert outcome.stored == 0
    assert {d.code for d in outcome.dropped} == {"duplicate"}
    assert await world.feeds() == before
    assert (await world.lines("email-tool", lines[1]))[0] == []
    assert await world.dropped() == {}  # a repetition is no loss


async def test_what_was_dropped_stays_dropped_when_sent_again(world: World) -> None:
    refused = track("Product Viewed", "u-1", sku="s", agree={"analytics": False})
    await world.send(refused)
    await world.send(preference("u-1", analytics=True, functional=True, advertising=True))
    outcome = await world.send(refused)
    assert [d.code for d in outcome.dropped] == ["duplicate"]


async def test_an_id_that_said_something_else_is_no_duplicate(world: World) -> None:
    """Threat G11: who squats an id must not swallow the message that comes later, unseen."""
    await world.send(order("u-1", 20, id="same"))
    outcome = await world.send(order("u-1", 999, id="same"), order("u-1", 5))
    assert outcome.stored == 1
    assert [(d.index, d.code) for d in outcome.dropped] == [(0, "id_conflict")]
    assert (await world.traits("warehouse"))["lifetime_value"] == 25
    (entry,) = await world.audited(Tag.INTEGRITY_CHECK_FAILED)
    assert entry.detail == {"check": "message_id"}
    assert entry.actor == f"source:{world.sources['shop'].source_id}"
    assert await world.dropped() == {("track", "Order Completed", "id_conflict"): 1}


async def test_an_id_conflict_within_a_batch(world: World) -> None:
    outcome = await world.send(order("u-1", 20, id="same"), order("u-2", 30, id="same"))
    assert [(d.index, d.code) for d in outcome.dropped] == [(1, "id_conflict")]
    assert len(await world.audited(Tag.INTEGRITY_CHECK_FAILED)) == 1


async def test_ids_belong_to_their_source(world: World) -> None:
    """Threat G11: no source can take the ids of another."""
    await world.send(order(None, 1, anon="d-1", id="same"), source="app")
    outcome = await world.send(order("u-1", 20, id="same"), order("u-1", 5, id="other"))
    assert outcome.stored == 2
    outcome = await world.send(order("u-1", 20, id="same", agree=None), source="till")
    assert outcome.stored == 1


async def test_one_message_a_hundred_times_at_once_has_one_effect(world: World) -> None:
    """Threat G10."""
    batch = [identify("u-1", email="ada@example.com", id="i"), order("u-1", 20, id="o")]
    outcomes = await asyncio.gather(*(world.send(*batch) for _ in range(30)))
    assert sum(outcome.stored for outcome in outcomes) == 2
    assert {d.code for outcome in outcomes for d in outcome.dropped} == {"duplicate"}
    assert (await world.traits("warehouse"))["lifetime_value"] == 20
    assert await world.count("subject") == 1


async def test_a_message_whose_dedup_row_somebody_deleted_is_a_duplicate_and_not_refused_for_ever(world: World) -> None:
    message = order("u-1", 20)
    await world.send(identify("u-1", email="ada@example.com"), message)
    async with world.vault.database.hot() as connection:
        await connection.execute("DELETE FROM dedup")
    for _ in range(2):
        outcome = await world.send(message, order("u-2", 5))
        assert [one.code for one in outcome.dropped] == ["duplicate"]
        assert outcome.stored == 1
    async with world.vault.database.hot() as connection:
        assert await connection.fetchval("SELECT count(DISTINCT event_key) FROM event") == 3
