"""Claims about what comes after an erasure: nobody is brought back, and who returns is somebody new (threats D2, D15)."""

from datetime import UTC, datetime, timedelta

from tests.fakes import FakeClock
from tests.worlds import World, identify, order, say
from vault.audit.entry import Tag
from vault.clock import DAY, to_datetime
from vault.flows.find import find
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import open_request
from vault.policy.actors import Actor

DAY_SECONDS = 24 * 3600
OFFICER = Actor(kind="staff", id="00000000-0000-7000-8000-000000000001", role="officer")


async def erase(world: World, value: str, kind: str = "user_id") -> None:
    """Erased to the last row, through the desk."""
    ref = await find(world.vault, OFFICER, kind, value)
    await advance(world.vault, await open_request(world.vault, OFFICER, ref, "erasure"))
    await world.settle()


def at(world: World, seconds: float) -> str:
    """A timestamp so many seconds from now, as an SDK writes it."""
    return (to_datetime(world.now()) + timedelta(seconds=seconds)).isoformat()


async def test_d15_a_phone_that_comes_online_a_month_later_brings_nobody_back(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 300))
    queued = order("u-1", 20, at=at(world, -60))
    await erase(world, "u-1")
    clock.advance(30 * DAY_SECONDS)
    outcome = await world.send(queued)
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await world.subject("u-1") is None
    assert await world.feed("warehouse") == []
    assert (await world.dropped())["track", "Order Completed", "late_after_erasure"] == 1


async def test_d2_what_is_said_on_the_day_of_the_erasure_is_late(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await erase(world, "u-1")
    clock.advance(60)
    outcome = await world.send(order("u-1", 20))
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]


async def test_d2_any_of_the_erased_identifiers_is_enough(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await erase(world, "u-1")
    outcome = await world.send(identify("u-2", email="ada@example.com"))
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await world.subject("u-2") is None


async def test_d15_who_returns_later_is_a_new_subject_with_nothing_of_the_old(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 300))
    (before,) = await world.feed("warehouse")
    old = await world.subject("u-1")
    await erase(world, "u-1")
    clock.advance(2 * DAY_SECONDS)
    outcome = await world.send(identify("u-1", email="ada@example.com"), order("u-1", 12.5))
    assert outcome.dropped == []
    new = await world.subject("u-1")
    assert new not in {None, old}
    (after,) = await world.feed("warehouse")
    assert after["id"] != before["id"]
    assert after["traits"]["lifetime_value"] == 12.5


async def test_d15_an_objection_to_marketing_outlives_the_erasure(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await world.choose(say("marketing", "objected"), user="u-1")
    await erase(world, "u-1")
    clock.advance(2 * DAY_SECONDS)
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 12.5))
    assert (await world.stands("u-1"))["marketing"] == "objected"
    assert await world.feed("email-tool") == []


async def test_who_is_suppressed_stays_away_whenever_they_speak(world: World, clock: FakeClock) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await erase(world, "u-1")
    await world.rows("UPDATE tombstone SET suppress = true")
    clock.advance(400 * DAY_SECONDS)
    outcome = await world.send(order("u-1", 20))
    assert {one.code for one in outcome.dropped} == {"suppressed"}


async def test_d4_a_tombstone_ends_with_the_day_of_the_erasure(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await erase(world, "u-1")
    ends = {row[0] for row in await world.rows("SELECT until FROM tombstone")}
    assert all(end % DAY == 0 and world.now() < end <= world.now() + DAY for end in ends)
    assert ends


async def test_an_act_after_the_erasure_is_late_too(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await erase(world, "u-1")
    outcome = await world.send(
        {
            "type": "track",
            "event": "Segment Consent Preference Updated",
            "userId": "u-1",
            "messageId": "act-after",
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
            "context": {"consent": {"categoryPreferences": {"advertising": True}}},
        }
    )
    assert [one.code for one in outcome.dropped] == ["late_after_erasure"]
    assert await world.audited(Tag.CONSENT_GRANT_IGNORED) == []
