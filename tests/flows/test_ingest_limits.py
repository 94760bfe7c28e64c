"""Claims about people who grow beyond a limit: their message is dropped by name, and nobody else's with it."""

import json

from tests.worlds import World, identify, order
from vault.flows.ingest.receive import PART, receive


async def test_a_person_who_grows_over_a_limit_loses_one_message_and_stops_nobody(world: World) -> None:
    long = "x" * 490
    sent = [order("u-1", 1, order_id=f"{long}{number:03d}") for number in range(130)]
    outcome = await world.send(*sent, identify("u-2", email="bea@example.com"), order("u-2", 250))
    codes = {one.code for one in outcome.dropped}
    assert codes == {"value_too_large"}
    assert outcome.stored == len(sent) + 2 - len(outcome.dropped)
    assert await world.subject("u-2") is not None
    lifetimes = sorted(line["traits"]["lifetime_value"] for line in await world.feed("warehouse"))
    assert lifetimes == [len(sent) - len(outcome.dropped), 250]
    again = await world.send(*sent)
    assert again.stored == 0


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
