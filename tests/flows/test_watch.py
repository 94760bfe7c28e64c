"""Watching a source: every message as it comes, by name and code; nothing of anybody, and nothing in the way of ingest."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.conftest import special_shop
from tests.worlds import NONE, World, identify, order, preference, say, track
from vault.bootstrap import open_vault
from vault.errors import Invalid
from vault.flows.follow import Follower
from vault.flows.ingest.receive import receive
from vault.flows.vault import Vault
from vault.flows.watch import MAX_A_SECOND
from vault.ids import uuid7
from vault.sources import watch
from vault.sources.watched import MAX_LINES, Body, Line, pack


@pytest.fixture
async def follower(world: World, clock: FakeClock) -> Follower:
    """Somebody watches the source `shop`, and the process that takes messages has looked since."""
    made = await Follower.begin(world.vault, "shop")
    clock.advance(1)
    return made


async def lines(follower: Follower) -> list[dict[str, Any]]:
    return await follower.step()


async def everything(vault: Vault) -> str:
    async with vault.database.hot() as connection:
        rows = await connection.fetch(
            "SELECT t::text AS row FROM watched t UNION ALL SELECT t::text FROM dropped t UNION ALL SELECT t::text FROM watch t"
        )
    return "\n".join(row["row"] for row in rows)


# --- what is seen -----------------------------------------------------------------------------------------------------


async def test_what_is_stored_is_shown_with_its_purposes_and_those_that_nobody_agreed_to(
    world: World, follower: Follower
) -> None:
    await world.send(order("u-1", agree=NONE))
    (line,) = await lines(follower)
    assert (line["type"], line["name"], line["verdict"]) == ("track", "Order Completed", "stored")
    assert line["stored_for"] == ["service", "support", "accounting"]
    assert line["not_agreed"] == ["analytics", "marketing", "advertising"]


async def test_what_is_dropped_is_shown_with_code_reason_and_the_lines_that_would_keep_it(
    world: World, follower: Follower
) -> None:
    await world.send(track("Cart Lost", "u-1"), track("Product Viewed", "u-1", agree=NONE))
    unlisted, refused = await lines(follower)
    assert (unlisted["verdict"], unlisted["code"]) == ("dropped", "unlisted")
    assert unlisted["reason"].startswith("The policies do not list")
    assert unlisted["file"] == "policies/events.toml"
    assert unlisted["lines"] == ['[track."Cart Lost"]', "number = 29", 'purposes = ["analytics"]']
    assert (refused["code"], refused["needs"]) == ("no_choice", ["analytics", "personalisation", "advertising"])
    assert "lines" not in refused


async def test_properties_and_traits_that_were_left_out_are_shown_under_their_message(
    world: World, follower: Follower
) -> None:
    await world.send(order("u-1", gift_note="x"), identify("u-1", email="ada@example.com", shoe=3, phone=5))
    bought, told = await lines(follower)
    assert bought["verdict"] == told["verdict"] == "stored"
    assert [(part["type"], part["name"], part["code"]) for part in bought["parts"]] == [
        ("property", "gift_note", "unlisted")
    ]
    assert bought["parts"][0]["lines"][0] == '[track."Order Completed".properties.gift_note]'
    assert {(part["name"], part["code"]) for part in told["parts"]} == {("shoe", "unlisted"), ("phone", "wrong_type")}


async def test_a_repeated_message_an_act_and_a_refused_body_are_shown_too(world: World, follower: Follower) -> None:
    once = track("Signed In", "u-1", id="m-1", at="2026-03-01T09:00:00Z")
    await world.send(once)
    await world.send(once, preference("u-1", analytics=False))
    await world.choose(say("marketing", "granted", notice="marketing/1", language="en"), user="u-1")
    with pytest.raises(Invalid):
        await receive(world.vault, world.sources["shop"], b'{"batch": 3}', "batch")
    seen = await lines(follower)
    assert sorted((line["type"], line["verdict"], line.get("code")) for line in seen) == [
        ("(body)", "dropped", "invalid_json"),
        ("consent", "stored", None),
        ("track", "dropped", "duplicate"),
        ("track", "stored", None),
        ("track", "stored", None),
    ]


async def test_only_the_source_that_is_watched_is_shown(world: World, follower: Follower) -> None:
    await world.send(track("Signed In", "u-1"), source="till")
    assert await lines(follower) == []


async def test_a_process_tells_another_through_the_database_alone(
    world: World, follower: Follower, vault: Vault, clock: FakeClock
) -> None:
    async with open_vault(vault.settings, clock=clock) as second:
        other = World(second, world.sources)
        await world.send(track("Signed In", "u-1"))
        clock.advance(1)  # bodies of one microsecond are told in any order
        await other.send(track("Cart Lost", "u-1"))
    assert [line["name"] for line in await lines(follower)] == ["Signed In", "Cart Lost"]


async def test_a_message_that_cannot_be_read_is_shown_and_counted_by_what_it_calls_itself(
    world: World, follower: Follower
) -> None:
    unknown = {"type": "track", "event": "Signed In", "messageId": "m" * 101, "userId": "u-1"}
    private = {"type": "page", "name": "mail ada@example.com", "userId": "u" * 600}
    await world.send(unknown, private, {"type": ["x"], "event": 7})
    told = [(line["type"], line["name"], line["code"]) for line in await lines(follower)]
    assert told == [
        ("track", "Signed In", "message_id_too_long"),
        ("page", "(unfit name)", "id_too_long"),
        ("(unreadable)", None, "invalid_event"),
    ]
    assert await world.dropped() == {
        ("track", "Signed In", "message_id_too_long"): 1,
        ("page", "(unfit name)", "id_too_long"): 1,
        ("event", "(unreadable)", "invalid_event"): 1,
    }


async def test_two_watchers_see_the_same_and_each_only_what_came_since_it_began(
    world: World, follower: Follower, clock: FakeClock
) -> None:
    await world.send(track("Signed In", "u-1"))
    second = await Follower.begin(world.vault, "shop")
    clock.advance(1)
    await world.send(track("Cart Lost", "u-1"))
    assert [line["name"] for line in await lines(follower)] == ["Signed In", "Cart Lost"]
    assert [line["name"] for line in await lines(second)] == ["Cart Lost"]
    assert await lines(follower) == []


async def test_h19_a_body_that_was_committed_late_is_not_passed_over(world: World, follower: Follower) -> None:
    """Commits overtake each other: what was told a moment before what is known already is still found, and once."""
    await world.send(track("Signed In", "u-1"))
    assert len(await lines(follower)) == 1
    before = world.now() - watch.OVERLAP // 2
    async with world.vault.database.hot() as connection:
        body = Body((Line("track", "Late One", "unlisted"),))
        await watch.tell(connection, world.sources["shop"].source_id, uuid7(before), before, body)
    assert [line["name"] for line in await lines(follower)] == ["Late One"]
    assert await lines(follower) == []


# --- what is not seen -------------------------------------------------------------------------------------------------


async def test_no_value_and_no_id_reaches_a_watcher_or_its_tables(world: World, follower: Follower) -> None:
    canaries = ["ada@canary.example", "canary-user", "canary-anon", "o-canary", "canary-id", "0123456789"]
    await world.send(
        order(canaries[1], order_id=canaries[3], id=canaries[4], note="ada@canary.example"),
        identify(canaries[1], anon=canaries[2], email=canaries[0], **{"ada@canary.example": 1}),
        track("Call 0123456789", canaries[1]),
        track("ada@canary.example", canaries[1]),
        track(canaries[0], None),
    )
    shown = json.dumps(await lines(follower))
    stored = await everything(world.vault)
    assert shown.count("(unfit name)") == 4  # that of the message which names nobody, too
    assert [one for one in canaries if one in shown + stored] == []


async def test_names_of_special_events_properties_and_traits_are_in_clear_nowhere(
    database_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Promise 1: what the policies mark as special is named in no counter and to no watcher."""
    settings = special_shop(database_url, tmp_path)
    async with open_vault(settings, clock=clock) as vault:
        world = await World.of(vault)
        follower = await Follower.begin(vault, "shop")
        clock.advance(1)
        await world.send(
            track("Clinic Visited", "u-1", agree=NONE),
            identify("u-1", agree=NONE, bloodType="A"),
            identify("u-1", bloodType=3),
            track("Clinic Visited", "u-2", agree={"care": True}, ward="x"),
        )
        seen = await lines(follower)
        stored = await everything(vault)
        assert [line["verdict"] for line in seen] == ["dropped", "stored", "stored", "stored"]
        assert [line["name"] for line in seen] == ["(sensitive name)", None, None, "(sensitive name)"]
        for text in (json.dumps(seen), stored):
            assert [one for one in ("Clinic", "blood", "ward") if one in text] == []
        assert stored.count("(sensitive name)") >= 4
        await world.check()


# --- what it costs ----------------------------------------------------------------------------------------------------


async def test_while_nobody_watches_nothing_is_written_and_one_read_a_second_is_made(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    real = watch.sources

    async def counted(connection: Any, now: Any) -> frozenset[int]:
        looks.append(now)
        return await real(connection, now)

    monkeypatch.setattr(watch, "sources", counted)
    for number in range(8):  # two seconds, four bodies each
        await world.send(track("Cart Lost", "u-1", id=f"n-{number}"))
        clock.advance(0.25)
    assert len(looks) == 2
    assert await world.rows("SELECT 1 FROM watched") == []


async def test_a_watcher_that_was_killed_is_told_nothing_after_its_time(
    world: World, follower: Follower, clock: FakeClock
) -> None:
    clock.advance(micros=watch.LIFE)
    await world.send(track("Signed In", "u-1"))
    assert await world.rows("SELECT 1 FROM watched") == []
    await world.settle()  # the worker sweeps
    assert await world.rows("SELECT 1 FROM watch") == []


async def test_what_was_told_is_gone_after_minutes_though_nobody_fetched_it(
    world: World, follower: Follower, clock: FakeClock
) -> None:
    await world.send(track("Signed In", "u-1"))
    assert len(await world.rows("SELECT 1 FROM watched")) == 1
    clock.advance(micros=watch.KEPT + 1)
    await world.settle()
    assert await world.rows("SELECT 1 FROM watched") == []


async def test_a_watcher_that_ends_is_told_nothing_more(world: World, follower: Follower, clock: FakeClock) -> None:
    await follower.end()
    clock.advance(1)
    await world.send(track("Signed In", "u-1"))
    assert await world.rows("SELECT 1 FROM watched") == []


async def test_g8_a_flood_is_cut_and_what_was_cut_is_counted(world: World, follower: Follower) -> None:
    for body in range(4):
        await world.send(*(track("Cart Lost", "u-1", id=f"f-{body}-{n}") for n in range(MAX_LINES + 10)))
    seen = await lines(follower)
    shown = [line for line in seen if line["verdict"] != "not_shown"]
    assert len(shown) == MAX_A_SECOND
    assert len(shown) + sum(line["count"] for line in seen if line["verdict"] == "not_shown") == 4 * (MAX_LINES + 10)


async def test_a_message_is_taken_though_the_watch_cannot_be_told(
    world: World, follower: Follower, clock: FakeClock
) -> None:
    async with world.vault.database.hot() as connection:
        await connection.execute("ALTER TABLE watched RENAME TO gone")
        assert (await world.send(track("Signed In", "u-1"))).stored == 1
        await connection.execute("ALTER TABLE watch RENAME TO gone_too")
        clock.advance(1)
        assert (await world.send(track("Signed In", "u-1"))).stored == 1


async def test_what_another_release_told_is_counted_and_not_shown(world: World, follower: Follower) -> None:
    shop = world.sources["shop"].source_id
    async with world.vault.database.hot() as connection:
        for text in ("[]", '{"lines":[{"kind":"x"}]}', pack(Body((Line("track", "Fine"),)))):
            statement = "INSERT INTO watched VALUES ($1, $2, $3, $4)"
            await connection.execute(statement, shop, world.now(), uuid7(world.now()), text)
    verdicts = sorted(line["verdict"] for line in await lines(follower))
    assert verdicts == ["not_shown", "not_shown", "stored"]


def test_ids_that_cannot_come_again_are_forgotten() -> None:
    old, new = UUID(int=1), UUID(int=2)
    assert watch.forget({old: 0, new: watch.OVERLAP + 1}) == {new: watch.OVERLAP + 1}
    assert watch.forget({}) == {}
