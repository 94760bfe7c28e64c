"""Claims about turns: an act of a person goes between the slices of a batch, and a batch is never stopped by acts."""

import asyncio

import pytest

from tests.worlds import World, identify, order, say
from vault.flows import turns


async def test_h8_a_withdrawal_is_answered_while_a_batch_is_decided(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 60)  # the batch waits for the act, however slow this machine is
    await world.send(*[identify(f"u-{n}", email=f"u-{n}@example.com") for n in range(2)])
    await world.choose(say("marketing", "granted"), user="u-1")
    ended: list[str] = []

    async def act() -> None:
        with world.vault.turns.first():
            await began.wait()
            await world.choose(say("marketing", "withdrawn"), user="u-1")
            ended.append("act")

    async def batch() -> None:
        began.set()
        await world.send(*[order("u-0", 20 + n) for n in range(3 * turns.SLICE)])
        ended.append("batch")

    began = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(act())
        group.create_task(batch())
    assert ended == ["act", "batch"]
    assert (await world.stands("u-1"))["marketing"] == "withdrawn"


async def test_a_batch_ends_though_acts_never_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.001)
    forever, at_work = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        with world.vault.turns.first():
            at_work.set()
            await forever.wait()

    other = asyncio.create_task(act())
    await at_work.wait()
    outcome = await world.send(*[order("u-0", 20 + n) for n in range(3 * turns.SLICE)])
    forever.set()
    await other
    assert outcome.stored == 3 * turns.SLICE


async def test_a_batch_that_is_an_act_does_not_wait_for_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of consent may come among the events of a page."""
    monkeypatch.setattr(turns, "PATIENCE", 3600)
    async with asyncio.timeout(60):
        with world.vault.turns.first():
            await world.send(*[order("u-0", 20 + n) for n in range(3 * turns.SLICE)])
    assert (await world.count("dedup")) == 3 * turns.SLICE


async def test_people_of_one_batch_who_are_written_meanwhile_lose_nothing(world: World) -> None:
    """A batch that pauses rests on versions: what others wrote between its slices is decided again."""
    await world.send(*[identify(f"u-{n}", email=f"u-{n}@example.com") for n in range(4)])
    async with asyncio.TaskGroup() as group:
        for part in range(3):
            orders = [order(f"u-{n % 4}", 1 + part) for n in range(2 * turns.SLICE)]
            group.create_task(world.send(*orders))
        for n in range(4):
            group.create_task(world.choose(say("advertising", "withdrawn"), user=f"u-{n}"))
    assert await world.count("dedup") == 4 + 3 * 2 * turns.SLICE + 4
    for n in range(4):
        assert (await world.stands(f"u-{n}"))["advertising"] in {"withdrawn", "denied"}
