"""Who is meant, on the whole way: people found, made, joined, only claimed; and what a joining must never widen."""

import asyncio
import itertools
from typing import Any

import pytest

from tests.worlds import ALL, NONE, World, identify, message, order, preference, say, track
from vault.audit.entry import Tag, salted
from vault.identity.graph import MAX_MERGES, Rule


async def roots(world: World) -> int:
    return sum(draft.state.is_root for draft in (await world.drafts()).values())


async def links(world: World) -> list[tuple[int, bool]]:
    return [(row[0], row[1]) for row in await world.rows("SELECT rule, confirmed FROM link ORDER BY at, rule")]


def login(user: str, anon: str, **fields: Any) -> dict[str, Any]:
    return message("track", user, anon=anon, event="Signed In", **fields)


# --- joining ------------------------------------------------------------------------------------------------------------


async def test_a_person_is_found_again_by_any_identifier(world: World) -> None:
    await world.send(identify("u-1", anon="d-1", email="ada@example.com", phone="+44 20 7946 0018"))
    found = {
        await world.subject("u-1"),
        await world.subject("d-1", "anonymous_id"),
        await world.subject("ada@EXAMPLE.com", "email"),
        await world.subject("+442079460018", "phone"),
    }
    assert len(found) == 1
    assert None not in found


async def test_a_server_joins_by_linking_and_moves_nothing(world: World) -> None:
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    before = await world.rows("SELECT subject_id, event_key, purposes, ct FROM event ORDER BY 1, 2, 3")
    device, user = await world.subject("d-1", "anonymous_id"), await world.subject("u-1")
    await world.send(login("u-1", "d-1"))
    after = await world.rows("SELECT subject_id, event_key, purposes, ct FROM event WHERE kind = 1 ORDER BY 1, 2, 3")
    assert [tuple(row) for row in before] == [tuple(row) for row in after]
    drafts = await world.drafts()
    assert device is not None
    assert user is not None
    assert drafts[device].state.root == user  # the identified one survives
    assert drafts[user].state.members == 1
    assert await links(world) == [(Rule.MERGED, True)]
    (entry,) = await world.audited(Tag.IDENTITY_PROFILES_JOINED)
    ((salt,),) = await world.rows("SELECT salt FROM audit_salt WHERE entry_id = $1", entry.entry_id)
    assert entry.subject == salted(salt, device.bytes)
    assert (await world.traits("warehouse"))["lifetime_value"] == 50


async def test_a_destination_that_held_the_other_half_is_told(world: World) -> None:
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    await world.settle()
    _, cursor = await world.lines("warehouse")
    await world.send(login("u-1", "d-1"))
    await world.settle()
    lines, _ = await world.lines("warehouse", cursor)
    (removed,) = (line for line in lines if line["op"] == "remove")
    (kept,) = (line for line in lines if line["op"] == "upsert")
    assert (removed["reason"], removed["into"]) == ("merged", kept["id"])


async def test_three_profiles_become_one_by_one_message(world: World) -> None:
    await world.send(order(None, 1, anon="d-1"), identify(None, anon="d-2", email="ada@example.com"), order("u-1", 2))
    await world.send(identify("u-1", anon="d-1", email="ada@example.com"))
    assert await roots(world) == 1
    assert len(await world.drafts()) == 3
    assert (await world.traits("warehouse"))["lifetime_value"] == 3


async def test_everything_in_one_batch(world: World) -> None:
    """New people, joined and written to in the very batch that made them."""
    await world.send(
        order(None, 1, anon="d-1"), order("u-1", 2), login("u-1", "d-1"), order(None, 4, anon="d-1"), order("u-2", 8)
    )
    assert await roots(world) == 2
    assert sorted(line["traits"]["lifetime_value"] for line in await world.feed("warehouse")) == [7, 8]


async def test_an_alias_chain_and_a_circle_end(world: World) -> None:
    """Threat B2."""
    chain = [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")]
    for previous, user in chain:
        await world.send(message("alias", f"u-{user}", previousId=f"u-{previous}"))
    outcome = await world.send(message("alias", "u-d", anon="d-1", previousId="d-1"), order("u-e"))
    assert outcome.stored == 2
    await world.check()
    drafts = await world.drafts()
    assert all(drafts[draft.state.root].state.is_root for draft in drafts.values())


# --- what must not join -------------------------------------------------------------------------------------------------


async def test_two_users_are_never_one_person(world: World) -> None:
    """Threat B4: a shared device, a shared address."""
    await world.send(identify("u-1", anon="shared", email="home@example.com"))
    await world.send(identify("u-2", anon="shared", email="home@example.com", firstName="Bob"))
    assert await roots(world) == 2
    assert await world.subject("shared", "anonymous_id") == await world.subject("u-1")
    assert len(await world.feed("support-desk")) == 2


@pytest.mark.parametrize("value", ["null", "undefined", "0", "unknown", "[object Object]", "00000000-0000-0000"])
async def test_blocked_values_join_nobody(world: World, value: str) -> None:
    """Threat B4."""
    await world.send(identify("u-1", anon=value), identify("u-2", anon=value))
    assert await roots(world) == 2
    assert await world.subject("u-1") != await world.subject("u-2")


async def test_lookalikes_are_other_people(world: World) -> None:
    """Threat B9: a Cyrillic letter, a zero-width space, full width, another case."""
    for address in (
        "ada@example.com",
        "аda@example.com",
        "ada\u200b@example.com",
        "ａda@example.com",
        "Ada@example.com",
    ):
        await world.send(identify(None, anon=f"d-{address.encode().hex()}", email=address))
    assert await roots(world) == 5


async def test_a_profile_takes_only_so_many_identifiers_of_a_kind(world: World) -> None:
    for number in range(8):
        await world.send(identify("u-1", email=f"ada{number}@example.com"))
    kinds = [row[0] for row in await world.rows("SELECT kind FROM identifier")]
    assert kinds.count(2) == 5
    assert await roots(world) == 1


async def test_a_merge_storm_ends(world: World) -> None:
    """Threat B3."""
    await world.send(order("u-1"))
    storm = MAX_MERGES + 10
    for start in range(0, storm, 50):
        numbers = range(start, min(start + 50, storm))
        await world.send(*(order(None, 1, anon=f"d-{n}") for n in numbers))
        await world.send(*(login("u-1", f"d-{n}") for n in numbers))
    assert (await world.state("u-1")).members == MAX_MERGES
    assert await roots(world) == 11


async def test_an_order_number_finds_and_never_joins(world: World) -> None:
    await world.send(order("u-1", order_id="o-7"), order("u-2", order_id="o-7"))
    assert await roots(world) == 2
    assert await world.subject("o-7", "order_id") == await world.subject("u-1")


# --- choices of those who are joined ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "user"), list(itertools.product(["granted", "withdrawn", None], repeat=2)), ids=str)
async def test_a_merge_permits_nothing_that_one_part_refused(
    world: World, device: str | None, user: str | None
) -> None:
    """Threat B5."""
    if device:
        await world.choose(say("analytics", device), anon="d-1")
    if user:
        await world.choose(say("analytics", user), user="u-1")
    await world.send(order(None, 1, anon="d-1", agree=None), order("u-1", 2, agree=None))
    keys = {row[0] for row in await world.rows("SELECT wraps FROM keys.subject_key")}
    await world.send(message("alias", "u-1", previousId="d-1", agree=None))
    assert keys <= {row[0] for row in await world.rows("SELECT wraps FROM keys.subject_key")}  # it only blocks
    seen = await world.feed("warehouse")
    if "withdrawn" in {device, user} or {device, user} == {None}:
        assert seen == []
    else:
        assert len(seen) == 1


async def test_a_choice_made_while_joined_is_everybodys(world: World) -> None:
    await world.send(order(None, 1, anon="d-1"), order("u-1", 2), login("u-1", "d-1"))
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.choose(say("analytics", "withdrawn"), user="u-1")
    for kind, value in (("user_id", "u-1"), ("anonymous_id", "d-1")):
        assert (await world.stands(value, kind))["analytics"] == "withdrawn"
    one = world.vault.catalogue.mask(("analytics",))
    assert not any(c.wrapped.held & one for d in (await world.drafts()).values() for c in d.compartments.values())


# --- a browser names somebody -------------------------------------------------------------------------------------------


async def test_a_browser_joins_nobody_and_changes_nobody(world: World) -> None:
    """Threats B1, C14."""
    await world.send(identify("victim", email="victim@example.com"), order("victim", 100))
    before = await world.feeds()
    versions = await world.state("victim")
    evil = [
        identify("victim", anon="evil", email="evil@example.com", firstName="Eve"),
        order("victim", 900, anon="evil"),
        message("alias", "victim", previousId="evil"),
        message("alias", "victim", anon="evil", previousId="victim"),
        message("identify", "victim", anon="evil", agree=ALL, context={"traits": {"email": "victim@example.com"}}),
    ]
    await world.send(*evil, source="app")
    victim = [line for line in await world.feed("warehouse") if line["traits"]["lifetime_value"] == 100]
    assert len(victim) == 1
    assert await world.state("victim") == versions
    assert await roots(world) == 2
    assert {entry for name in before for entry in before[name]} <= {
        e for one in (await world.feeds()).values() for e in one
    }
    draft = await world.draft("evil", "anonymous_id")
    assert draft.state.claimed == await world.subject("victim")
    assert set(await links(world)) == {(Rule.CLAIMED, False)}
    assert set(draft.tags.values()) == {4}  # its device; no address, no user, no order number


async def test_b11_a_browser_squats_no_order_number(world: World) -> None:
    """Threats B1, B11: order numbers can be guessed, and the first to name one would have been found by it."""
    squat = [order(None, 1, anon="evil", order_id="o-1"), order(None, 1, anon="evil", order_id="o-2")]
    await world.send(*squat, source="app")
    assert await world.subject("o-1", "order_id") is None
    await world.send(order("victim", 99, order_id="o-1"))
    assert await world.subject("o-1", "order_id") == await world.subject("victim")
    await world.send(order(None, 1, anon="evil-2", order_id="o-1"), source="app")
    assert await world.subject("o-1", "order_id") == await world.subject("victim")


async def test_a_server_confirms_a_claim(world: World) -> None:
    await world.send(order("u-1", 100))
    await world.send(order("u-1", 20, anon="d-1"), source="app")
    assert sorted(line["traits"]["lifetime_value"] for line in await world.feed("warehouse")) == [20, 100]
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.send(login("u-1", "d-1"))
    assert (await world.traits("warehouse"))["lifetime_value"] == 120
    assert await links(world) == [(Rule.CLAIMED, False), (Rule.CONFIRMED, True)]
    assert (await world.draft("d-1", "anonymous_id")).state.claimed is None


async def test_a_claim_on_somebody_who_was_joined_meanwhile_is_confirmed_all_the_same(world: World) -> None:
    await world.send(identify(None, anon="x-1", email="ada@example.com"))
    await world.send(identify(None, anon="d-1", email="ada@example.com"), source="app")  # claims the device x-1
    await world.send(identify("u-1", email="ada@example.com"), order("u-1"))
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.send(login("u-1", "d-1"))
    assert await roots(world) == 1
    assert (Rule.CONFIRMED, True) in await links(world)


async def test_a_grant_of_a_device_is_not_the_persons(world: World) -> None:
    """Threat C14."""
    await world.send(order("u-1", 100, agree=NONE))
    await world.choose(say("analytics", "granted"), user="u-1", anon="d-1", source="app")
    await world.send(preference("u-1", anon="d-1", advertising=True), source="app")
    assert set((await world.stands("u-1")).values()) == {"undecided"}
    assert (await world.state("u-1")).granted == 0
    assert len(await world.feed("warehouse")) == 0


async def test_a_browser_without_a_device_of_its_own_is_nobody(world: World) -> None:
    outcome = await world.send(order("u-1"), identify("u-1", email="x@example.com"), source="app")
    assert {d.code for d in outcome.dropped} == {"no_usable_identifier"}
    assert await world.count("subject") == 0


# --- at once ------------------------------------------------------------------------------------------------------------


async def test_joining_in_a_ring_at_once_ends_in_one_person(world: World) -> None:
    """Threat B8: A+B, B+C, C+A from many connections."""
    await world.send(*(identify(None, anon=f"d-{n}", email=f"p{n}@example.com") for n in range(3)))
    ring = [(0, 1), (1, 2), (2, 0)]
    await asyncio.gather(
        *(world.send(identify(None, anon=f"d-{a}", email=f"p{b}@example.com")) for _ in range(4) for a, b in ring)
    )
    assert await roots(world) == 1
    oldest = min(draft.subject for draft in (await world.drafts()).values())
    assert (await world.drafts())[oldest].state.is_root


async def test_the_same_newcomer_from_many_connections_is_one_person(world: World) -> None:
    await asyncio.gather(*(world.send(identify("u-1", anon=f"d-{n}"), track("Signed Up", "u-1")) for n in range(8)))
    assert await world.count("subject") == 1
    assert len((await world.draft("u-1")).tags) == 9


async def test_what_two_joined_parts_both_hold_leaves_as_it_was_said_last(world: World) -> None:
    """Both values are sealed for the same purposes, under two people's keys; the newest is found without opening the other."""
    await world.send(identify(anon="d-1", firstName="Ada", language="en", at="2026-01-01T00:00:00Z"))
    await world.send(
        identify("u-1", email="ada@example.com", firstName="Augusta", language="fr", at="2025-01-01T00:00:00Z")
    )
    await world.send(identify("u-1", anon="d-1", firstName="Countess", at="2025-06-01T00:00:00Z"))
    assert len(await world.rows("SELECT 1 FROM subject WHERE root <> subject_id")) == 1
    shown = await world.traits("support-desk")
    assert (shown["firstName"], shown["language"], shown["email"]) == ("Ada", "en", "ada@example.com")
