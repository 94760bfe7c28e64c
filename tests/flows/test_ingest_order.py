"""However messages are cut into batches, repeated or raced, the same people come of them as one by one, once."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TEMPLATE, _administer
from tests.fakes import START, FakeClock
from tests.flows.conftest import ROOT
from tests.worlds import ALL, NONE, Message, World, identify, message, order, preference, stamp, track
from vault.bootstrap import open_vault
from vault.clock import isoformat
from vault.config import Settings
from vault.ids import random_bytes
from vault.storage import embedded

TASKS = 8
PEOPLE = (
    "subject, keys.subject_key, compartment, event, ledger, identifier, identity, link, dedup, due, change, change_in, "
    "disclosure, disclosure_state, audit_salt"
)


@pytest.fixture
async def other(server: embedded.Server, tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    """A second world of its own, to compare with."""
    name = f"t_{random_bytes(6).hex()}"
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    chosen = Settings(
        data_dir=tmp_path / "other",
        keyring=tmp_path / "other-keyring",
        key_file=tmp_path / "other.key",
        journal=tmp_path / "other-journal",
        policies=ROOT / "policies",
        database_url=server.url(name),
    )
    async with open_vault(chosen, clock=clock) as opened:
        made = await World.of(opened)
        yield made
        await made.check()
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


# --- any sequence, any batches ------------------------------------------------------------------------------------------

stamps = st.sampled_from([ALL, ALL, NONE, stamp(analytics=False), stamp(advertising=False), {"analytics": True}, None])
users, devices = st.sampled_from(["u-0", "u-1", None]), st.sampled_from(["d-0", "d-1", "d-2"])
values = st.sampled_from(["one", "two", None])


@st.composite
def said(draw: st.DrawFn) -> tuple[str, Message]:
    """A source and a message, without id and time."""
    source = draw(st.sampled_from(["shop", "app"]))
    user, anon = draw(users), draw(devices)
    kind = draw(st.sampled_from(["identify", "identify", "order", "page", "preference", "alias", "unlisted"]))
    agree = draw(stamps)
    if kind == "identify":
        traits = {"language": draw(values), "email": draw(st.sampled_from(["a@example.com", "b@example.com", None]))}
        made = identify(user, anon=anon, agree=agree, **traits)
    elif kind == "order":
        made = order(user, draw(st.sampled_from([0.1, 20, 250])), anon=anon, agree=agree)
    elif kind == "page":
        made = message("page", user, anon=anon, agree=agree, properties={"path": "/"})
    elif kind == "preference":
        made = preference(user, anon=anon, **{draw(st.sampled_from(["analytics", "advertising"])): draw(st.booleans())})
    elif kind == "alias":
        made = message("alias", user or "u-0", anon=anon, previousId=draw(devices), agree=agree)
    else:
        made = track("Unheard Of", user, anon=anon, agree=agree)
    return source, made


def named(story: list[tuple[str, Message]], times: list[int], number: int) -> list[tuple[str, Message]]:
    """The story with ids, people and times of its own: two examples share nobody."""

    def own(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: own(one) for key, one in value.items()}
        if isinstance(value, str) and value[:2] in {"u-", "d-", "a@", "b@", "o-"}:
            return f"{value[0]}{number}{value[1:]}"
        return value

    return [
        (source, {**own(one), "messageId": f"{number}-{place}", "timestamp": isoformat(START - 10**6 * (1000 - at))})  # type: ignore[arg-type]
        for place, ((source, one), at) in enumerate(zip(story, times, strict=True))
    ]


def batches(story: list[tuple[str, Message]], sizes: Iterator[int]) -> Iterator[tuple[str, list[Message]]]:
    """Runs of one source, cut into batches."""
    for source, run in itertools.groupby(story, key=lambda one: one[0]):
        rest = [one for _, one in run]
        while rest:
            size = next(sizes)
            yield source, rest[:size]
            rest = rest[size:]


numbers = itertools.count()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
async def test_batches_and_repetitions_change_nothing(world: World, other: World, data: st.DataObject) -> None:
    story = data.draw(st.lists(said(), min_size=1, max_size=14))
    times = data.draw(st.permutations(range(len(story))))
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    whole = named(story, list(times), next(numbers))
    for one_world in (world, other):
        await one_world.rows(f"TRUNCATE {PEOPLE}")  # no names but ours
    one_by_one = [await world.send(one, source=source) for source, one in whole]
    split = []
    for source, batch in batches(whole, itertools.cycle(sizes)):
        split.append(await other.send(*batch, source=source))
        again = await other.send(*batch, batch[0], source=source)
        assert again.stored == 0
    assert sum(outcome.stored for outcome in one_by_one) == sum(outcome.stored for outcome in split)
    assert [d.code for outcome in one_by_one for d in outcome.dropped] == [d.code for o in split for d in o.dropped]
    assert await world.feeds() == await other.feeds()
    assert await shape(world) == await shape(other)
    await other.check()


async def shape(world: World) -> list[list[str]]:
    """Everyone's choices, profile by profile, without ids and keys: which of two newcomers is the root is chance."""
    found: dict[UUID, list[str]] = {}
    for draft in (await world.drafts()).values():
        state = draft.state
        masks = (state.granted, state.refused, state.blocked, state.objected, state.expiries)
        found.setdefault(state.root, []).append(repr((masks, state.identified, state.ledger_count, state.event_count)))
    return sorted(sorted(members) for members in found.values())


# --- at once ------------------------------------------------------------------------------------------------------------


def crowd() -> list[list[Message]]:
    """Batches about five people who overlap; their order decides nothing that a destination sees."""
    made: list[list[Message]] = []
    clock = itertools.count(1)

    def at() -> str:
        return isoformat(START - 10**9 + 10**6 * next(clock))  # type: ignore[arg-type]

    for turn in range(6):
        for person in range(5):
            user, device, near = f"u-{person}", f"d-{person}-{turn % 3}", f"u-{(person + 1) % 5}"
            made.append(
                [
                    identify(user, email=f"p{person}-{turn % 3}@example.com", language=f"l{turn}", at=at()),
                    order(user, 7.25, at=at()),
                    order(None, 11.5, anon=device, at=at()),
                    order(near, 0.1, at=at()),
                    message("track", user, anon=device, event="Signed In", timestamp=at()),
                ]
            )
    made.extend([preference(f"u-{person}", advertising=False, at=at())] for person in (1, 3))
    return made


async def test_eight_writers_of_the_same_people_end_where_one_does(world: World, other: World) -> None:
    work = crowd()
    for batch in work:
        await other.send(*batch)
    chooser = random.Random(7)  # noqa: S311 - an order, no secret
    shares = [chooser.sample(work, len(work) // 2) for _ in range(TASKS)]
    missing = [batch for batch in work if not any(batch is one for share in shares for one in share)]

    async def write(share: list[list[Message]]) -> None:
        for batch in share:
            await world.send(*batch)

    await asyncio.gather(*(write([*share, *missing]) for share in shares))
    await world.check()
    assert await world.feeds() == await other.feeds()
    stands = [await world.stands(f"u-{person}") for person in range(5)]
    assert [one["advertising"] in {"withdrawn", "denied"} for one in stands] == [False, True, False, True, False]
    assert await world.count("dedup") == await other.count("dedup")
    assert sum(d.state.event_count for d in (await world.drafts()).values()) == await world.count("event")


async def test_writers_and_choices_at_once_leave_one_truth(world: World) -> None:
    """Orders from four writers while two others withdraw and grant: state, chain, masks and keys agree, whoever wins."""
    await world.send(order("u-1", 1))

    async def buy() -> None:
        for _ in range(6):
            await world.send(order("u-1", 1), order("u-1", 1, anon="d-1", agree=None))

    async def waver() -> None:
        for yes in (False, True, False, True):
            await world.send(preference("u-1", analytics=yes, advertising=not yes))

    await asyncio.gather(buy(), buy(), buy(), buy(), waver(), waver(), world.settle())
    await world.settle()
    await world.check()
    one = (await world.stands("u-1"))["analytics"]
    held = any(c.wrapped.held >> 4 & 1 for d in (await world.drafts()).values() for c in d.compartments.values())
    assert one in {"granted", "withdrawn", "denied"}
    assert held <= (one == "granted")
