"""People that a process keeps warm: what another process wrote meanwhile always counts, and nothing is taken twice."""

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flows.rights_world import officer
from tests.worlds import NONE, World, identify, order, say, stamp, track
from vault.errors import Unavailable
from vault.flows.find import find
from vault.flows.honour import intake
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import open_request
from vault.flows.ingest import receive as ingest
from vault.flows.ingest.decide import Decider
from vault.flows.people import commit as committing
from vault.flows.people import warm as warming
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.warm import Warm
from vault.flows.people.write import Rows
from vault.identity.graph import Attach, Found, Nobody, Profile, decide
from vault.ids import uuid7


def _elsewhere(world: World) -> World:
    """The same vault as another process has it: nothing is warm there."""
    vault = copy.copy(world.vault)
    vault.warm = Warm()
    return World(vault, world.sources)


async def test_a_person_who_is_warm_is_written_without_a_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    asked: list[str] = []
    original = ingest.read_world

    async def watched(connection: Any, *args: Any, **more: Any) -> Any:
        class Watched:
            async def fetch(self, query: str, *values: Any) -> Any:
                asked.append(query)
                return await connection.fetch(query, *values)

        return await original(Watched(), *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest, "read_world", watched)
    assert (await world.send(order("u-1", 20))).stored == 1
    assert asked == []
    assert (await world.traits("warehouse"))["lifetime_value"] == 20


async def test_g7_who_is_kept_warm_is_bounded_by_bytes_and_not_by_number_alone(world: World) -> None:
    """Whoever holds the public key of a browser can make up people as large as a person may be."""
    await world.send(order("u-1", 20))
    one = world.vault.warm.size
    assert one > 0
    warm = world.vault.warm = Warm(most=one * 3)
    for number in range(9):
        await world.send(*[order(f"u-{number}", amount, order_id=f"o-{amount}") for amount in range(3)])
        assert warm.size <= one * 3
    assert 1 <= len(warm) <= 3
    for number in range(9):
        await world.send(identify(f"u-{number}", firstName="x" * 400))
        assert warm.size <= one * 3
    before = warm.size
    warm.forget([draft.subject for draft in (await world.drafts()).values()])
    assert (before > 0, warm.size, len(warm)) == (True, 0, 0)


async def test_what_another_process_wrote_is_never_lost(world: World) -> None:
    other = _elsewhere(world)
    for amount in (1, 2, 4, 8):
        await world.send(order("u-1", amount))
        await other.send(order("u-1", amount * 16))
    assert (await world.traits("warehouse")) == {
        **await world.traits("warehouse"),
        "lifetime_value": 15 * 17,
        "order_count": 8,
    }


async def test_c6_a_withdrawal_elsewhere_binds_who_is_warm_here(world: World) -> None:
    await world.send(order("u-1", 20))
    await _elsewhere(world).choose(say("analytics", "withdrawn"), user="u-1")
    searched = track("Products Searched", "u-1", query="shoes", agree=stamp(functional=False))
    outcome = await world.send(searched)
    assert [one.code for one in outcome.dropped] == ["no_choice"]


async def test_g10_a_message_that_was_taken_elsewhere_is_a_duplicate_of_who_is_warm_here(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    once = order("u-1", 20)
    await _elsewhere(world).send(once)
    await world.send(order("u-1", 1))  # warm again, with the version of now
    outcome = await world.send(once, order("u-1", 2))
    assert (outcome.stored, [one.code for one in outcome.dropped]) == (1, ["duplicate"])
    assert (await world.traits("warehouse"))["lifetime_value"] == 23


async def test_g11_an_id_that_said_something_else_elsewhere_is_a_conflict(world: World) -> None:
    await world.send(order("u-1", 20, id="m-squatted"), order("u-1", 1))
    outcome = await world.send(order("u-1", 30, id="m-squatted"))
    assert [one.code for one in outcome.dropped] == ["id_conflict"]


async def test_an_order_number_that_found_somebody_else_finds_them_still(world: World) -> None:
    """A kind that only finds is free or not: the statement says so, not what is warm."""
    await world.send(identify("u-1", email="ada@example.com"), identify("u-2", email="bob@example.com"))
    await _elsewhere(world).send(order("u-2", 20, order_id="o-77"))
    await world.send(order("u-1", 5, order_id="o-77"))
    assert await world.subject("o-77", "order_id") == await world.subject("u-2")
    assert sorted(line["traits"]["lifetime_value"] for line in await world.feed("warehouse")) == [5, 20]


async def test_a_merge_elsewhere_is_seen(world: World) -> None:
    await world.send(order("u-1", 20), identify(anon="d-1"), order(anon="d-1", revenue=5))
    await _elsewhere(world).send(identify("u-1", anon="d-1"))
    await world.send(order(anon="d-1", revenue=7))
    (line,) = await world.feed("warehouse")
    assert line["traits"]["lifetime_value"] == 32


async def test_a_change_of_mind_is_decided_on_what_is_stored_now(world: World) -> None:
    """The journal hears of a refusal before the statement can refuse: so who may say one is read."""
    await world.send(order("u-1", 20))
    await _elsewhere(world).choose(say("marketing", "withdrawn"), user="u-1")
    await world.send(order("u-1", 5, agree=NONE))
    assert (await world.stands("u-1"))["marketing"] == "withdrawn"


async def test_the_one_not_used_for_longest_goes_first(world: World) -> None:
    world.vault.warm = Warm(limit=2)
    for user in ("u-1", "u-2", "u-1", "u-3"):
        await world.send(order(user, 1))
    kept = {kept.profile.root.subject for kept in world.vault.warm._by_root.values()}
    assert kept == {await world.subject("u-1"), await world.subject("u-3")}
    assert len(world.vault.warm._by_tag) == sum(len(one.graves) for one in world.vault.warm._by_root.values())


def test_it_shows_nobody() -> None:
    assert repr(Warm()) == "Warm(0)"
    assert warming.LIMIT > 0


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_where_one_profile_has_every_identifier_the_graph_changes_nothing(
    own: list[bool], fenced: bool, server: bool
) -> None:
    """`resolve` does not ask it then."""
    root = uuid7(1)  # type: ignore[arg-type]
    found = [
        Found(kind=number, priority=number + 1, tag=bytes([number]) * 16, root=root, own=one)
        for number, one in enumerate(own)
    ]
    facts = Profile(root=root, counts=dict.fromkeys(range(len(own)), 1), fenced=fenced)
    decided = decide(found, {root: facts}, dict.fromkeys(range(len(own)), 1), server=server)
    if not (server or any(own)):
        assert decided == Nobody("no_usable_identifier")
    else:
        assert decided == (Nobody("erasing") if fenced else Attach(root, (), ()))


async def test_who_is_warm_is_judged_again_whenever_it_could_come_out_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an input of an audience, or a choice, has people looked into; what comes out is always what a cold reader says."""
    looked = 0
    original = SubjectDraft.seen_by

    def counted(draft: SubjectDraft, purpose: int, fields: Any) -> Any:
        nonlocal looked
        looked += 1
        return original(draft, purpose, fields)

    monkeypatch.setattr(SubjectDraft, "seen_by", counted)
    await world.send(identify("u-1", email="ada@example.com"), order("u-1", 150))
    after_first = looked
    assert after_first > 0
    await world.send(identify("u-1", language="fr"))
    assert looked == after_first, "the language is no input"
    await world.send(order("u-1", 100))
    assert looked > after_first
    assert [line["audiences"] for line in await world.feed("ad-platform")] == [["best_customers"]]
    await world.send(order("u-1", -100))
    assert [line["audiences"] for line in await world.feed("ad-platform")] == [[]]


async def test_a_written_batch_holds_nobody_s_rows(world: World) -> None:
    """Threat A16: a warm person leads to nothing of the batch that it was written with."""
    await world.send(identify("u-1", email="ada@example.com"), order("u-2", 20))
    for kept in world.vault.warm._by_root.values():
        for member in kept.profile.members:
            assert not any(member.tools.rows)


# --- who does not come back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
async def test_a16_an_erasure_takes_the_opened_ciphers_of_the_process_that_made_it(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    vault = world.vault
    assert len(vault.warm) == 1
    if not at_once:

        async def busy(*_: object) -> None:
            return None

        monkeypatch.setattr(intake, "erase_at_once", busy)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "u-1"), "erasure")
    await advance(vault, request)
    assert len(vault.warm) == 0
    late = await world.send(order("u-1", 5, at="2020-01-01T00:00:00Z"))
    assert [one.code for one in late.dropped] == ["late_after_erasure"]
    assert len(vault.warm) == 0


async def test_a16_a_batch_that_failed_keeps_neither_rows_nor_ciphers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts lead to the rows of their batch: one person kept warm would hold those of everybody in it."""
    await world.send(identify("u-1", email="ada@example.com"))
    held: list[Rows] = []

    async def broken(_: object, rows: Rows) -> set[int]:
        held.append(rows)
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(committing, "write", broken)
        with pytest.raises(Unavailable):
            await world.send(order("u-1", 5), *[identify(f"new-{n}", email=f"n{n}@example.com") for n in range(3)])
    assert len(held) == 1
    assert not any(held[0])
    assert len(world.vault.warm) == 0
    await world.send(order("u-1", 5))
    assert len(world.vault.warm) == 1


async def test_a16_a_batch_whose_decision_failed_lets_go_whom_it_took(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send(identify("u-1", email="ada@example.com"))

    async def broken(*_: object) -> set[int]:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(Decider, "decide", broken)
        with pytest.raises(asyncio.CancelledError):
            await world.send(order("u-1", 5))
    assert len(world.vault.warm) == 0
