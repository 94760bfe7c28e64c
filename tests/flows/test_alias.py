"""Alias: one person under two names. What it joins, what it must not, and what of it is kept so that it can be undone."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import FakeClock
from tests.flows.conftest import ROOT
from tests.flows.rights_world import officer
from tests.worlds import Message, World, identify, message, order, say
from vault.bootstrap import open_vault
from vault.clock import DAY, Micros, isoformat
from vault.config import Settings
from vault.flows.find import find
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import open_request
from vault.flows.people.change import change_profiles
from vault.identity.graph import MAX_MERGES, Rule

_runs = itertools.count()


def alias(user: str, previous: str, **fields: Any) -> Message:
    return message("alias", user, previousId=previous, **fields)


def user_ids(policies: Path, limit: int) -> Path:
    """The shop's policies, but that a profile may have so many user ids."""
    policies.mkdir()
    for path in (ROOT / "policies").rglob("*"):
        if path.is_file():
            text = path.read_text()
            if path.name == "identities.toml":
                text = text.replace("limit = 1\n", f"limit = {limit}\n", 1)
            copy = policies / path.relative_to(ROOT / "policies")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    return policies


def settings_of(database_url: str, tmp_path: Path, policies: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=policies,
        database_url=database_url,
    )


@pytest.fixture
async def many(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    """A shop in which one person may have had many user ids."""
    chosen = settings_of(database_url, tmp_path, user_ids(tmp_path / "policies", 1000))
    async with open_vault(chosen, clock=clock) as opened:
        made = await World.of(opened)
        yield made
        await made.check()


async def roots(world: World) -> int:
    return sum(draft.state.is_root for draft in (await world.drafts()).values())


async def together(world: World, names: list[str]) -> set[frozenset[str]]:
    """Which of these user ids are one person; those that nobody has are left out."""
    drafts = await world.drafts()
    found: dict[Any, set[str]] = {}
    for name in names:
        subject = await world.subject(name)
        if subject is not None:
            found.setdefault(drafts[subject].state.root, set()).add(name)
    return {frozenset(one) for one in found.values()}


# --- what it joins ------------------------------------------------------------------------------------------------------


async def test_an_alias_of_a_server_joins_a_device_to_a_user(world: World) -> None:
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    await world.send(alias("u-1", "d-1"))
    assert (await world.traits("warehouse"))["lifetime_value"] == 50
    assert await roots(world) == 1


async def test_the_link_keeps_its_evidence_and_moves_nothing_so_that_it_can_be_undone(world: World) -> None:
    """Threat B7: which message, which rule, which source, when; each part's own rows are as they were."""
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    before = await world.rows("SELECT subject_id, event_key, purposes, ct FROM event ORDER BY 1, 2, 3")
    wraps = await world.rows("SELECT subject_id, wraps FROM keys.subject_key ORDER BY 1")
    device, user = await world.subject("d-1", "anonymous_id"), await world.subject("u-1")
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.send(alias("u-1", "d-1", id="evidence"))
    (link,) = await world.rows("SELECT * FROM link")
    (dedup,) = await world.rows("SELECT event_key FROM dedup ORDER BY event_key = $1 DESC LIMIT 1", link["event_key"])
    assert link["event_key"] == dedup[0]
    assert (link["subject_id"], link["root"]) == (device, user)
    assert (link["rule"], link["confirmed"], link["undone_at"]) == (Rule.ALIASED, True, None)
    assert link["source_id"] == world.sources["shop"].source_id
    assert link["at"] == world.now()
    assert [tuple(row) for row in await world.rows("SELECT subject_id, event_key, purposes, ct FROM event ORDER BY 1, 2, 3")] == [
        tuple(row) for row in before
    ]  # fmt: skip
    assert await world.rows("SELECT subject_id, wraps FROM keys.subject_key ORDER BY 1") == wraps


async def test_an_alias_for_ids_that_nobody_had_makes_one_person(world: World) -> None:
    await world.send(alias("u-1", "d-1"))
    await world.send(order(None, 5, anon="d-1"), order("u-1", 6))
    assert await world.count("subject") == 1
    assert (await world.traits("warehouse"))["lifetime_value"] == 11


async def test_an_alias_in_one_batch_with_what_it_tells_of(world: World) -> None:
    await world.send(alias("u-1", "d-1"), order(None, 1, anon="d-1"), order("u-1", 2), alias("u-1", "d-2"))
    await world.send(order(None, 4, anon="d-3"), alias("u-1", "d-3"), order(None, 8, anon="d-2"))
    assert (await world.traits("warehouse"))["lifetime_value"] == 15
    assert await roots(world) == 1


async def test_a_repeated_alias_has_one_effect(world: World) -> None:
    """Threat G10: the same message again, and the same word in another message."""
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    one = alias("u-1", "d-1")
    await world.send(one, one)
    await world.send(one)
    await world.send(alias("u-1", "d-1"))
    assert await world.count("link") == 1
    assert await roots(world) == 1
    assert (await world.state("u-1")).members == 1


async def test_an_alias_of_oneself_is_nothing(world: World) -> None:
    """Threat B2."""
    await world.send(identify("u-1", anon="d-1", email="ada@example.com"))
    outcome = await world.send(
        alias("u-1", "u-1"), alias("u-1", "d-1"), message("alias", "u-1", anon="d-1", previousId="d-1")
    )
    assert outcome.stored == 3
    assert await world.count("subject") == 1
    assert await world.count("link") == 0


# --- user ids -----------------------------------------------------------------------------------------------------------


async def test_with_one_user_id_a_profile_an_alias_never_joins_two_users(world: World) -> None:
    """Threats B2, B4: the limit of the catalogue protects, whatever a server says; the message goes to who is so called now."""
    await world.send(identify("u-1", firstName="Ada"), identify("u-2", firstName="Bob"))
    first = await world.subject("u-1")
    for number in range(3):
        await world.send(alias("u-2", "u-1"), alias("u-1", "u-2"), alias(f"u-new-{number}", "u-1"))
    assert await together(world, ["u-1", "u-2"]) == {frozenset({"u-1"}), frozenset({"u-2"})}
    assert await world.subject("u-1") == first
    assert await world.count("link") == 0
    assert len(await world.feed("support-desk")) == 5


async def test_where_a_profile_may_have_several_user_ids_an_alias_joins_them(many: World) -> None:
    await many.send(order("u-1", 20), order("u-2", 30))
    await many.send(alias("u-2", "u-1"))
    assert (await many.traits("warehouse"))["lifetime_value"] == 50
    ((rule, kind),) = [tuple(row) for row in await many.rows("SELECT rule, kind FROM link")]
    assert (rule, kind) == (Rule.ALIASED, many.vault.catalogue.identifiers["user_id"].number)


async def test_an_alias_that_comes_before_its_people_joins_them_all_the_same(many: World) -> None:
    await many.send(alias("u-2", "u-1"))
    await many.send(order("u-1", 20), order("u-2", 30))
    assert await many.count("subject") == 1
    assert (await many.traits("warehouse"))["lifetime_value"] == 50


async def test_a_chain_that_closes_is_one_person_and_flat(many: World) -> None:
    """Threat B2: a to b, b to c, c to a."""
    await many.send(*(order(f"u-{name}", 1) for name in "abc"))
    for previous, user in ("ab", "bc", "ca", "ab"):
        await many.send(alias(f"u-{user}", f"u-{previous}"))
    drafts = await many.drafts()
    assert len({draft.state.root for draft in drafts.values()}) == 1
    assert all(drafts[draft.state.root].state.is_root for draft in drafts.values())  # never a link to a link
    assert await many.count("link") == 2


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_b2_the_order_of_aliases_changes_nobody(many: World, data: st.DataObject) -> None:
    """Any aliases and orders of some people, in any two orders and any batches: the same ids are the same person."""
    ends = st.integers(0, 4)
    pairs = data.draw(st.lists(st.tuples(ends, ends), min_size=1, max_size=6))
    ways = [data.draw(st.permutations(range(len(pairs) + 5))) for _ in range(2)]
    found = []
    for way in ways:
        run = next(_runs)
        said = [alias(f"u{run}-{b}", f"u{run}-{a}") for a, b in pairs] + [order(f"u{run}-{n}", 1) for n in range(5)]
        size = data.draw(st.integers(1, 4))
        for start in range(0, len(said), size):
            await many.send(*(said[index] for index in way[start : start + size]))
        parts = await together(many, [f"u{run}-{n}" for n in range(5)])
        found.append({frozenset(name.partition("-")[2] for name in part) for part in parts})
    assert found[0] == found[1] == _components(pairs, 5)


def _components(pairs: list[tuple[int, int]], count: int) -> set[frozenset[str]]:
    parts = {n: {n} for n in range(count)}
    for a, b in pairs:
        joined = parts[a] | parts[b]
        parts.update(dict.fromkeys(joined, joined))
    return {frozenset(str(n) for n in part) for part in parts.values()}


async def test_a_chain_without_end_ends(many: World) -> None:
    """Threats B2, B3: each name an alias of the one before, many more than a profile may join."""
    length = MAX_MERGES + 20
    await many.send(*(order(f"u-{n}", 1) for n in range(length)))
    for start in range(1, length, 40):
        await many.send(*(alias(f"u-{n}", f"u-{n - 1}") for n in range(start, min(start + 40, length))))
    sizes = [draft.state.members for draft in (await many.drafts()).values() if draft.state.is_root]
    assert max(sizes) <= MAX_MERGES
    assert sum(sizes) + len(sizes) == length


# --- whom it must not touch ---------------------------------------------------------------------------------------------


async def test_a_restricted_person_is_not_joined(world: World) -> None:
    """Threat B6."""
    await world.send(order(None, 20, anon="d-1"), order("u-1", 30))
    subject = await world.subject("u-1")
    assert subject is not None
    await change_profiles(world.vault, [subject], lambda one: one.root.alter(restricted=True), "staff:test")
    await world.send(alias("u-1", "d-1"))
    assert await roots(world) == 2
    assert await world.count("link") == 0


async def test_an_alias_brings_nobody_back_who_was_erased(world: World, clock: FakeClock) -> None:
    """Threats B6, D2: said before the erasure it is late, whichever of the two names was erased; later it meets a stranger."""
    await world.send(identify("u-1", anon="d-1", email="ada@example.com"), order("u-2", 5))
    actor = officer(world.vault)
    said = isoformat(Micros(clock.now() - 1))
    ref = await find(world.vault, actor, "email", "ada@example.com")
    await advance(world.vault, await open_request(world.vault, actor, ref, "erasure"))
    outcome = await world.send(
        alias("u-2", "d-1", at=said),
        alias("u-1", "d-9", at=said),
        alias("u-2", "u-1", at=said),
        alias("u-8", "u-1", at=said),
    )
    assert {one.code for one in outcome.dropped} == {"late_after_erasure"}
    assert await world.subject("u-1") is None
    assert len((await world.draft("u-2")).tags) == 2  # her user id and an order
    clock.advance(micros=2 * DAY)
    await world.send(alias("u-2", "d-1"))
    assert await world.subject("d-1", "anonymous_id") == await world.subject("u-2")
    assert (await world.state("u-2")).members == 0


async def test_what_refuses_still_refuses_after_an_alias(world: World) -> None:
    """Threat B5."""
    await world.send(order(None, 1, anon="d-1"), order("u-1", 2))
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.choose(say("analytics", "withdrawn"), anon="d-1")
    await world.send(alias("u-1", "d-1", agree=None))
    assert await roots(world) == 1
    assert await world.feed("warehouse") == []


# --- a browser says so --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("previous", ["evil", "victim", "d-victim"])
async def test_b1_an_alias_of_a_browser_joins_nobody(world: World, previous: str) -> None:
    await world.send(order("victim", 100), identify("victim", anon="d-victim"))
    state = await world.state("victim")
    await world.send(alias("victim", previous, anon="evil"), alias("evil-user", previous, anon="evil"), source="app")
    assert await world.state("victim") == state
    assert await roots(world) == 2
    assert {tuple(row) for row in await world.rows("SELECT rule, confirmed FROM link")} == {(Rule.CLAIMED, False)}
    draft = await world.draft("evil", "anonymous_id")
    assert draft.state.claimed == await world.subject("victim")
    assert len(draft.tags) == 1


async def test_b1_a_browser_without_a_device_of_its_own_says_nothing_by_an_alias(world: World) -> None:
    await world.send(order("victim", 100))
    outcome = await world.send(alias("victim", "evil"), source="app")
    assert [one.code for one in outcome.dropped] == ["no_usable_identifier"]
    assert await world.count("subject") == 1


async def test_an_alias_of_a_server_confirms_what_a_browser_claimed(world: World) -> None:
    await world.send(order("u-1", 100))
    await world.send(alias("u-1", "d-1", anon="d-1"), order(None, 20, anon="d-1"), source="app")
    assert await roots(world) == 2
    world.vault.clock.advance(60)  # type: ignore[attr-defined]
    await world.send(alias("u-1", "d-1"))
    assert (await world.traits("warehouse"))["lifetime_value"] == 120
    rows = await world.rows("SELECT rule, confirmed FROM link ORDER BY at, rule")
    assert [tuple(row) for row in rows] == [(Rule.CLAIMED, False), (Rule.CONFIRMED, True)]


# --- at once ------------------------------------------------------------------------------------------------------------


async def test_b8_aliases_in_a_ring_from_two_processes_end_in_one_person(
    many: World, database_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Two vaults on one database, each with a memory of its own of who is warm."""
    chosen = settings_of(database_url, tmp_path, tmp_path / "policies")
    async with open_vault(chosen, clock=clock) as second:
        there = World(second, many.sources)
        await many.send(*(order(f"u-{n}", 1) for n in range(4)))
        ring = [(n, (n + 1) % 4) for n in range(4)]
        await asyncio.gather(
            *(where.send(alias(f"u-{a}", f"u-{b}")) for where in (many, there) for a, b in ring for _ in range(2))
        )
    assert await roots(many) == 1
    assert len(await together(many, [f"u-{n}" for n in range(4)])) == 1
    oldest = min(draft.subject for draft in (await many.drafts()).values())
    assert (await many.drafts())[oldest].state.is_root
