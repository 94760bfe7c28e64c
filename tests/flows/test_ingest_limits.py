"""Claims about people who grow: what is too large is dropped by name or makes room, and nobody else's is lost with it."""

import json

from tests.worlds import World, identify, message, order
from vault.catalogue.numbers import identifier_object
from vault.flows.ingest.receive import PART, receive
from vault.profile.sightings import MOST_BYTES, Sighting, fitting, read_sightings, write_sightings


async def test_a_person_who_grows_over_a_limit_loses_one_message_and_stops_nobody(world: World) -> None:
    sent = [message("group", "u-1", groupId=f"a-{number}", traits={"name": "n" * 30_000}) for number in range(3)]
    outcome = await world.send(*sent, identify("u-2", email="bea@example.com"), order("u-2", 250))
    assert [one.code for one in outcome.dropped] == ["value_too_large"]
    assert outcome.stored == 4
    assert await world.subject("u-2") is not None


async def test_g7_a_batch_of_thousands_is_taken_in_parts_and_answered_as_one(world: World) -> None:
    """Only the people of one part are in work, so memory is bounded by parts and not by what a batch names."""
    count = 2 * PART + 1
    sent = [order("u-1", 1, messageId=f"m-{number}") for number in range(count)]
    sent[1] = sent[0]
    sent[count - 1] = sent[0]
    sent[PART] = {**sent[PART], "event": "Never Declared"}
    body = json.dumps({"batch": [5, *sent]}).encode()
    outcome = await receive(world.vault, world.sources["shop"], body, "batch")
    assert outcome.stored == count - 3
    assert [(one.index, one.code) for one in outcome.dropped] == [
        (0, "invalid_event"),
        (2, "duplicate"),
        (PART + 1, "unlisted"),
        (count, "duplicate"),
    ]
    assert (await world.traits("warehouse"))["lifetime_value"] == count - 3


async def test_no_order_of_somebody_who_orders_every_day_is_lost(world: World) -> None:
    long = "x" * 490
    sent = [
        order("u-1", 1, order_id=f"{long}{number:03d}", at=f"2026-03-01T08:{number // 60:02d}:{number % 60:02d}Z")
        for number in range(130)
    ]
    for start in (0, 65):
        outcome = await world.send(*sent[start : start + 65], order("u-2", 250))
        assert outcome.dropped == []
    assert sorted(line["traits"]["lifetime_value"] for line in await world.feed("warehouse")) == [len(sent), 500]
    draft = await world.draft("u-1")
    field = identifier_object(world.vault.catalogue.identifiers["order_id"].number)
    (stored,) = [draft.read(place, field) for place, _ in draft.copies(field)]
    assert stored is not None
    kept = {one.value for one in read_sightings(stored)}
    assert f"{long}129" in kept
    assert f"{long}000" not in kept
    first = await world.subject(f"{long}000", "order_id")
    assert first == await world.subject("u-1")  # the number still finds whose it was


def test_those_said_last_are_the_ones_that_fit() -> None:
    many = [Sighting("v" * 400 + str(number), 1, number, 1) for number in range(60)]
    kept = fitting(many)
    assert len(write_sightings(kept)) <= MOST_BYTES
    assert {one.last_said_at for one in kept} == set(range(60 - len(kept), 60))
    assert fitting(many[:3]) == many[:3][::-1]
