"""Claims about people who grow beyond a limit: their message is dropped by name, and nobody else's with it."""

from tests.worlds import World, identify, order


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
