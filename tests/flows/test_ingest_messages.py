"""Each message of the tracking API, alone and in a batch: what is stored of it, and what a source is told of the rest."""

from typing import Any

import msgspec
import pytest

from tests.worlds import NONE, World, identify, message, order, stamp, track
from vault.catalogue.numbers import bits
from vault.errors import Invalid
from vault.flows.ingest.item import Dropped
from vault.keys.compartments import Opener
from vault.profile.sealing import open_event


def codes(dropped: list[Dropped]) -> list[tuple[int, str]]:
    return [(one.index, one.code) for one in dropped]


async def opened_events(world: World, user: str) -> bytes:
    """All that is stored of a person's events, in clear."""
    draft = await world.draft(user)
    opener = Opener(world.vault.keyring, draft.subject)
    found = b""
    query = "SELECT purposes, generation, event_key, kind, ct FROM event WHERE subject_id = $1"
    for purposes, generation, key, kind, sealed in await world.rows(query, draft.subject):
        compartment = draft.compartments[(purposes, generation)].wrapped
        purpose = next(bits(compartment.held))
        found += open_event(opener.open(compartment, purpose), key, kind, sealed, draft.tools.permit(purpose))
    return found


EVERY_TYPE = [
    identify("u-1", email="ada@example.com"),
    track("Product Viewed", "u-1", sku="s-1"),
    message("page", "u-1", name="Home", properties={"path": "/"}),
    message("screen", "u-1", name="Home", properties={}),
    message("group", "u-1", groupId="g-1", traits={"name": "Example Ltd", "plan": "free"}),
    message("alias", "u-1", previousId="device-0"),
]


@pytest.mark.parametrize("one", EVERY_TYPE, ids=lambda one: str(one["type"]))
async def test_each_type_is_taken_alone(world: World, one: dict[str, Any]) -> None:
    outcome = await world.single(one)
    assert (outcome.stored, outcome.dropped) == (1, [])
    assert await world.subject("u-1") is not None


async def test_a_batch_of_all_types_makes_one_person(world: World) -> None:
    outcome = await world.send(*EVERY_TYPE)
    assert (outcome.stored, outcome.dropped) == (6, [])
    assert await world.count("subject") == 1
    assert {row[0] for row in await world.rows("SELECT kind FROM event")} == {
        5,
        26,
        27,
    }  # identify, alias and group leave none
    assert await world.subject("device-0", "anonymous_id") == await world.subject("u-1")


async def test_the_order_of_a_batch_is_kept(world: World) -> None:
    await world.send(identify("u-1", email="old@example.com"), identify("u-1", email="new@example.com"))
    assert (await world.traits("email-tool"))["email"] == "new@example.com"
    assert (await world.traits("support-desk"))["email"] == "new@example.com"


async def test_the_later_value_wins_whoever_is_asked(world: World) -> None:
    """Two values said at one moment under different stamps lie in different compartments."""
    for turn in range(4):
        await world.send(identify("u-1", language=f"old-{turn}"))
        await world.send(identify("u-1", language=f"new-{turn}", agree=stamp(advertising=False, functional=False)))
        assert (await world.traits("support-desk"))["language"] == f"new-{turn}"


async def test_explicit_nulls_are_absent(world: World) -> None:
    sent = message("track", "u-1", event="Product Viewed", properties={"sku": "s-1"})
    nulls = dict.fromkeys(("anonymousId", "timestamp", "traits", "name", "previousId", "groupId"))
    outcome = await world.send({**sent, **nulls}, sentAt=None, context=None)
    assert (outcome.stored, outcome.dropped) == (1, [])


async def test_the_context_of_the_envelope_counts_for_every_message(world: World) -> None:
    one = {"type": "track", "userId": "u-1", "messageId": "m", "event": "Product Viewed", "properties": {"sku": "s"}}
    outcome = await world.send(one, context={"consent": {"categoryPreferences": NONE}})
    assert codes(outcome.dropped) == [(0, "no_choice")]


async def test_one_bad_message_does_not_lose_the_others(world: World) -> None:
    outcome = await world.send(
        identify("u-1", email="ada@example.com"),
        {"type": "track", "messageId": "x"},
        {"type": "sing", "userId": "u-1"},
        track("Unheard Of", "u-1"),
        {"type": "track", "userId": {"no": "text"}, "event": "Order Completed"},
        order("u-1", 20),
    )
    assert outcome.stored == 2
    assert codes(outcome.dropped) == [
        (1, "no_user_anon_id"),
        (2, "unknown_type"),
        (3, "unlisted"),
        (4, "invalid_event"),
    ]
    assert (await world.traits("warehouse"))["lifetime_value"] == 20


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"batch": 1}', b"\xff", b'{"batch":[{}'])
async def test_a_body_that_is_none_is_refused_whole(world: World, body: bytes) -> None:
    from vault.flows.ingest.receive import receive  # noqa: PLC0415

    with pytest.raises(Invalid):
        await receive(world.vault, world.sources["shop"], body, "batch")
    assert await world.count("subject") == 0


async def test_an_empty_batch_stores_nothing(world: World) -> None:
    outcome = await world.send()
    assert (outcome.stored, outcome.dropped) == (0, [])


# --- what is not stored -------------------------------------------------------------------------------------------------


async def test_unlisted_events_properties_and_traits_are_counted_by_name(world: World) -> None:
    await world.send(
        track("Unheard Of", "u-1"),
        track("Unheard Of", "u-1"),
        track("Called 0123456789", "u-1"),
        track("Product Viewed", "u-1", sku="s-1", secret="x", **{"jane@example.com": 1}),
        identify("u-1", email="ada@example.com", shoeSize=43),
    )
    assert await world.dropped() == {
        ("track", "Unheard Of", "unlisted"): 2,
        ("track", "(unfit name)", "unlisted"): 1,
        ("property:track:Product Viewed", "secret", "unlisted"): 1,
        ("property:track:Product Viewed", "(unfit name)", "unlisted"): 1,
        ("trait", "shoeSize", "unlisted"): 1,
    }


async def test_what_only_servers_may_say_is_not_taken_from_a_browser(world: World) -> None:
    refund = track("Order Refunded", "u-1", anon="d-1", order_id="o-1", total=5, currency="USD")
    outcome = await world.send(refund, identify(None, anon="d-1", loyaltyTier="gold", language="en"), source="app")
    assert codes(outcome.dropped) == [(0, "server_only")]
    assert await world.dropped("app") == {
        ("track", "Order Refunded", "server_only"): 1,
        ("trait", "loyaltyTier", "server_only"): 1,
    }
    assert await world.traits("support-desk") == {"language": "en"}
    outcome = await world.send({**refund, "messageId": "again"})
    assert outcome.stored == 1


async def test_what_nobody_agreed_to_is_dropped_with_its_purposes(world: World) -> None:
    outcome = await world.send(track("Product Viewed", "u-1", sku="s-1", agree=NONE))
    assert outcome.dropped == [Dropped(0, "no_choice", ("analytics", "personalisation", "advertising"))]
    assert await world.dropped() == {("track", "Product Viewed", "no_choice"): 1}
    assert await world.count("subject") == 0
    assert await world.count("event") == 0
    assert await world.count("dedup") == 1


async def test_a_trait_that_nobody_agreed_to_is_left_out_and_counted(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com", birthday="1815-12-10", agree=NONE))
    assert await world.dropped() == {("trait", "birthday", "no_choice"): 1}
    assert await world.traits("support-desk") == {"email": "ada@example.com"}


async def test_a_trait_of_another_type_is_not_stored(world: World) -> None:
    await world.send(identify("u-1", email=["ada@example.com"], firstName=7, address={"city": "London"}, language="en"))
    assert await world.dropped() == {("trait", "email", "wrong_type"): 1, ("trait", "firstName", "wrong_type"): 1}
    assert await world.traits("support-desk") == {"language": "en"}


async def test_a_property_of_another_type_is_not_stored(world: World) -> None:
    """What is declared a number is no place where a card or a note about somebody could be laid."""
    sent = order(
        "u-1", 20, order_id={"ssn": "078-05-1120"}, tax={"card": "4111"}, quantity=1.5, products="x", coupon=None
    )
    sent["properties"] |= {"revenue": "19.90"}
    outcome = await world.send(sent)
    assert (outcome.stored, outcome.dropped) == (1, [])
    kind = "property:track:Order Completed"
    names = ("order_id", "tax", "quantity", "products", "revenue")
    assert await world.dropped() == {(kind, name, "wrong_type"): 1 for name in names}
    stored = await opened_events(world, "u-1")
    assert b"coupon" in stored
    assert not any(piece in stored for piece in (b"078-05", b"4111", b"1.5", b"19.90", b"products"))


async def test_an_event_is_stored_in_parts_by_purposes(world: World) -> None:
    await world.send(order("u-1", 20, quantity=2, agree=stamp(analytics=False)))
    names = world.vault.catalogue.names
    parts = {frozenset(names(row[0])) for row in await world.rows("SELECT purposes FROM event")}
    assert parts == {
        frozenset({"service", "support", "accounting", "marketing", "advertising"}),
        frozenset({"service", "support", "accounting"}),
        frozenset({"service", "support"}),
    }


async def test_without_a_stamp_nothing_is_said_and_nothing_is_granted(world: World) -> None:
    await world.send(order("u-1", 20, agree=None))
    assert await world.stands("u-1") == {}
    assert await world.feed("warehouse") == []
    assert len(await world.feed("support-desk")) == 1


async def test_a_message_without_an_id_gets_one(world: World) -> None:
    bare = {key: value for key, value in order("u-1", 20).items() if key != "messageId"}
    await world.send(bare)
    await world.send(bare)
    assert (await world.traits("warehouse"))["order_count"] == 2


async def test_ids_that_name_nobody_identify_nobody(world: World) -> None:
    outcome = await world.send(*(order(user, 5) for user in ("null", "0", "undefined", "-1", "00000000-0000", "Guest")))
    assert outcome.stored == 0
    assert {one.code for one in outcome.dropped} == {"no_usable_identifier"}
    assert await world.count("subject") == 0


async def test_no_value_is_shown_by_what_ingest_holds(world: World) -> None:
    outcome = await world.send(identify("u-1", email="ada@example.com"), identify("null"))
    assert b"ada@" not in msgspec.json.encode(outcome)
    assert "ada@" not in repr((outcome, await world.draft("u-1")))
