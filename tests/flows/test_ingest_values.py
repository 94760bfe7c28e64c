"""What a profile comes to hold: traits over time, computed traits, audiences, identifiers; judged by what destinations see."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.flows.conftest import special_shop
from tests.worlds import ALL, World, identify, message, order, preference, say, stamp, track
from vault.bootstrap import open_vault

LATE = "2026-02-01T10:00:00Z"
EARLY = "2026-01-01T10:00:00Z"
LATER = "2026-02-15T10:00:00Z"
QUIET = stamp(advertising=False)


# --- traits -------------------------------------------------------------------------------------------------------------


async def test_a_null_removes_every_older_copy(world: World) -> None:
    await world.send(identify("u-1", language="en", firstName="Ada", email="ada@example.com", at=EARLY))
    await world.send(identify("u-1", language="fr", agree=QUIET, at="2026-01-02T10:00:00Z"), source="till")
    assert len([f for d in (await world.drafts()).values() for c in d.compartments.values() for f in c if f == 9]) == 2
    await world.send(identify("u-1", language=None, at=LATE))
    assert (await world.traits("support-desk")) == {"firstName": "Ada", "email": "ada@example.com"}
    held = [(d, c) for d in (await world.drafts()).values() for c in d.compartments.values() if 9 in c]
    assert [d.read(c, 9) for d, c in held] == [b"null"]  # that it was deleted, and nothing else


async def test_a_null_reaches_every_member_of_the_profile(world: World) -> None:
    await world.send(identify(None, anon="d-1", language="en"), identify("u-1", language="fr"))
    await world.send(message("track", "u-1", anon="d-1", event="Signed In"))
    await world.send(identify("u-1", language=None))
    assert "language" not in (await world.traits("support-desk"))


async def test_a_null_said_earlier_removes_nothing_newer(world: World) -> None:
    await world.send(identify("u-1", language="en", email="ada@example.com", at=LATE))
    await world.send(identify("u-1", language=None, at=EARLY))
    assert (await world.traits("support-desk"))["language"] == "en"


@pytest.mark.parametrize("late", [False, True])
async def test_a_deleted_trait_stays_deleted_whatever_the_order(world: World, late: bool) -> None:
    await world.send(identify("u-1", email="ada@example.com", at=EARLY))
    old = identify("u-1", firstName="Ada", language="en", at=EARLY)
    gone = identify("u-1", firstName=None, language=None, at=LATE)
    for one in (gone, old) if late else (old, gone):
        await world.send(one)
    assert await world.traits("support-desk") == {"email": "ada@example.com"}  # lookup
    assert [line["traits"] for line in await world.feed("email-tool")] == [{"email": "ada@example.com"}]


async def test_a_deleted_trait_stays_deleted_for_a_purpose_that_was_not_allowed_then(
    world: World, clock: FakeClock
) -> None:
    """The late value may be sealed for more purposes than the null was."""
    await world.send(identify("u-1", email="ada@example.com", at=EARLY))
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    await world.send(identify("u-1", firstName=None, at=LATE))
    clock.advance(60)
    await world.choose(say("marketing", "granted"), user="u-1")
    await world.send(identify("u-1", firstName="Ada", email="ada@example.com", at=EARLY))
    (line,) = await world.feed("email-tool")
    assert line["traits"] == {"email": "ada@example.com"}


async def test_a_value_said_after_a_deletion_shows(world: World) -> None:
    await world.send(identify("u-1", firstName=None, email=None, at=EARLY))
    await world.send(identify("u-1", firstName="Ada", email="ada@example.com", at=LATE))
    assert await world.traits("support-desk") == {"firstName": "Ada", "email": "ada@example.com"}


async def test_a_special_trait_is_stored_after_an_explicit_act_alone(
    database_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Art. 9(2)(a): what a stamp says is consent to a category, not to this."""
    async with open_vault(special_shop(database_url, tmp_path), clock=clock) as vault:
        world = await World.of(vault)
        number = vault.catalogue.traits["bloodType"].number
        agreed = {"care": True}

        async def kept() -> list[bytes | None]:
            drafts = (await world.drafts()).values()
            return [d.read(c, number) for d in drafts for c in d.compartments.values() if number in c]

        await world.send(identify("u-1", agree=agreed, firstName="Ada", bloodType="A"))
        assert (await world.stands("u-1"))["care"] == "granted"
        assert await kept() == []
        assert await world.dropped() == {("trait", "(sensitive name)", "no_choice"): 1}
        clock.advance(60)
        await world.choose(say("care", "granted"), user="u-1")
        await world.send(identify("u-1", agree=agreed, bloodType="B"))
        await world.send(identify("u-1", agree=agreed, bloodType="C"))  # warm by now
        assert await kept() == [b'"C"']
        await world.check()


async def test_a_browser_cannot_delete_what_a_server_wrote(world: World) -> None:
    await world.send(identify("u-1", anon="d-1", language="en", email="ada@example.com"))
    await world.send(identify("u-1", anon="d-1", language=None, email="eve@example.com"), source="app")
    seen = await world.traits("support-desk")
    assert (seen["language"], seen["email"]) == ("en", "ada@example.com")


async def test_a_value_said_earlier_never_replaces_a_later_one(world: World) -> None:
    await world.send(identify("u-1", language="en", at=LATE))
    await world.send(identify("u-1", language="fr", at=EARLY))
    await world.send(identify("u-1", language="de", at=EARLY, agree=QUIET))
    assert (await world.traits("support-desk"))["language"] == "en"


async def test_an_outdated_address_is_withheld_from_the_purposes_that_may_not_know_the_new_one(world: World) -> None:
    await world.send(identify("u-1", email="old@example.com", firstName="Ada", at=EARLY))
    await world.send(identify("u-1", email="new@example.com", agree=QUIET, at=LATE), source="till")
    assert await world.traits("support-desk") == {"email": "new@example.com", "firstName": "Ada"}
    (line,) = await world.feed("email-tool")
    assert line["traits"] == {"firstName": "Ada"}
    assert line["identifiers"] == {}


async def test_an_address_that_comes_late_is_outdated_at_once(world: World) -> None:
    """The same two messages, the later said first to arrive."""
    await world.send(identify("u-1", email="new@example.com", firstName="Ada", agree=QUIET, at=LATE))
    await world.send(identify("u-1", email="old@example.com", firstName="Ada", at=EARLY))
    assert (await world.traits("support-desk"))["email"] == "new@example.com"
    (line,) = await world.feed("email-tool")
    assert line["traits"] == {"firstName": "Ada"}
    assert line["identifiers"] == {}


async def test_an_address_said_again_is_the_last_one_again(world: World) -> None:
    for address, at in (("one@example.com", EARLY), ("two@example.com", LATE), ("one@example.com", LATER)):
        await world.send(identify("u-1", email=address, at=at))
    (line,) = await world.feed("email-tool")
    assert line["traits"]["email"] == "one@example.com"
    assert line["identifiers"] == {"email": ["one@example.com"]}


async def test_the_same_address_under_a_narrower_stamp_stays_known(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com", at=EARLY))
    await world.send(identify("u-1", email="ada@example.com", agree=QUIET, at=LATE), source="till")
    assert await world.traits("email-tool") == {"email": "ada@example.com"}


# --- computed traits ----------------------------------------------------------------------------------------------------


def expected(orders: list[dict[str, Any]]) -> dict[str, Any]:
    """An independent computation."""
    paid = [o for o in orders if o["properties"].get("currency") == "USD"]
    times = sorted(o["timestamp"].replace("Z", ".000Z") for o in orders)
    return {
        "lifetime_value": float(sum(Decimal(str(o["properties"]["revenue"])) for o in paid)),
        "order_count": len(orders),
        "first_order_at": times[0],
        "last_order_at": times[-1],
    }


ORDERS = [
    order("u-1", 0.1, at="2026-01-03T00:00:00Z"),
    order("u-1", 0.2, at="2026-01-01T00:00:00Z"),
    order("u-1", 100, at="2026-01-02T00:00:00Z", currency="EUR"),
    order("u-1", 19.99, at="2026-02-01T00:00:00Z"),
    order("u-1", -5.05, at="2026-01-05T00:00:00Z"),
]


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_computed_traits_equal_a_recomputation(world: World, size: int) -> None:
    for start in range(0, len(ORDERS), size):
        await world.send(*ORDERS[start : start + size])
    assert await world.traits("warehouse") == expected(ORDERS)
    assert (await world.traits("warehouse"))["lifetime_value"] == 15.24  # exact: floats would say 15.239999999999998


async def test_computed_traits_are_joined_over_a_merge(world: World) -> None:
    for number, one in enumerate(ORDERS):
        anonymous = {**one, "messageId": f"a-{number}", "anonymousId": "d-1"}
        del anonymous["userId"]
        await world.send(anonymous if number % 2 else one)
    assert len(await world.feed("warehouse")) == 2
    await world.send(message("track", "u-1", anon="d-1", event="Signed In"))
    assert await world.traits("warehouse") == expected(ORDERS)


async def test_a_withdrawal_destroys_the_state_and_a_new_grant_starts_at_nothing(world: World) -> None:
    await world.send(order("u-1", 250, at=EARLY))
    await world.send(preference("u-1", analytics=False))
    assert await world.feed("warehouse") == []
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.send(preference("u-1", analytics=True))
    await world.send(order("u-1", 3, at=LATE))
    seen = await world.traits("warehouse")
    assert (seen["lifetime_value"], seen["order_count"]) == (3, 1)
    assert seen["first_order_at"] == "2026-02-01T10:00:00.000Z"


async def test_an_amount_that_was_not_collected_for_the_purpose_does_not_count(world: World) -> None:
    await world.send(order("u-1", 250))
    await world.send(order("u-1", 7, agree=stamp(analytics=False)), source="till")
    assert (await world.traits("warehouse"))["lifetime_value"] == 250


@pytest.mark.parametrize("revenue", ["12.50", "ten", None])
async def test_what_is_no_number_adds_nothing(world: World, revenue: Any) -> None:
    await world.send(order("u-1", 10), order("u-1", revenue))
    seen = await world.traits("warehouse")
    assert (seen["lifetime_value"], seen["order_count"]) == (10, 2)


# --- audiences ----------------------------------------------------------------------------------------------------------


async def best(world: World) -> list[list[str]]:
    return [line["audiences"] for line in await world.feed("ad-platform")]


async def test_an_audience_is_entered_at_its_threshold(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 199.99))
    assert await best(world) == [[]]
    await world.send(order("u-1", 0.01))
    assert await best(world) == [["best_customers"]]


async def test_a_negative_order_takes_a_person_out(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 200))
    assert await best(world) == [["best_customers"]]
    await world.send(order("u-1", -1))
    assert await best(world) == [[]]


async def test_people_are_judged_as_joined_profiles(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 150), order(None, 150, anon="d-1"))
    assert [] in await best(world)
    await world.send(message("track", "u-1", anon="d-1", event="Signed In"))
    assert await best(world) == [["best_customers"]]


async def test_a_merge_by_a_message_that_is_not_stored_judges_anew(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 150), order(None, 150, anon="d-1"))
    outcome = await world.send(track("Product Viewed", "u-1", anon="d-1", sku="s", agree={}))
    assert [d.code for d in outcome.dropped] == ["no_choice"]
    assert await best(world) == [["best_customers"]]


async def test_an_anonymous_person_is_in_no_audience_that_leaves_them_out(world: World) -> None:
    await world.send(order(None, 500, anon="d-1"))
    assert await best(world) == []


async def test_membership_goes_with_its_purpose_and_does_not_come_back(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 500))
    await world.choose(say("advertising", "withdrawn"), user="u-1")
    assert await best(world) == []
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.choose(say("advertising", "granted"), user="u-1")
    await world.send(identify("u-1", email="ada@example.com", agree=ALL))
    assert await best(world) == [[]]


async def test_nobody_is_judged_on_what_the_purpose_may_not_see(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com", agree=ALL))
    await world.send(order("u-1", 500, agree=QUIET), source="till")
    assert await best(world) == [[]]
    assert (await world.traits("warehouse"))["lifetime_value"] == 500
