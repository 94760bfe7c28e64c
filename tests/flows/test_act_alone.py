"""Claims about an act that is read by one statement: it ends as by the general way, or it goes that way."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.worlds import World, identify, order, say
from vault.errors import Conflict
from vault.flows import choose as choosing
from vault.flows.choose import ConsentAct, choose
from vault.flows.ingest.item import Item
from vault.journal.narrowing import Refusal

PURPOSES = ("marketing", "analytics", "advertising", "personalisation")


async def _nobody(*_: object) -> None:
    """The general way is taken."""


async def _act(world: World, user: str) -> tuple[Any, ...]:
    """Four grants, data, a withdrawal of two; what the person stands at, and what is stored."""
    await world.send(identify(user, email=f"{user}@example.com"))
    first = await world.choose(*[say(purpose, "granted") for purpose in PURPOSES], user=user)
    await world.send(order(user, 20), identify(user, firstName="Ada"))
    second = await world.choose(say("advertising", "withdrawn"), say("marketing", "objected"), user=user)
    subject = await world.subject(user)
    async with world.vault.database.hot() as connection:
        wraps = await connection.fetchval("SELECT length(wraps) FROM keys.subject_key WHERE subject_id = $1", subject)
        kept = await connection.fetch("SELECT purposes FROM compartment WHERE subject_id = $1 ORDER BY 1", subject)
        salts = await connection.fetchval("SELECT count(*) FROM audit_salt WHERE subject_id = $1", subject)
        marks = await connection.fetchval("SELECT count(*) FROM change_in WHERE subject_id = $1", subject)
    stands = await world.stands(user)
    return first, second, wraps, [row[0] for row in kept], salts, marks, stands


async def test_an_act_alone_and_one_in_a_batch_end_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    whole = choosing.take_alone

    async def seen(*args: Any) -> Any:
        done = await whole(*args)
        taken.append(done is not None)
        return done

    monkeypatch.setattr(choosing, "take_alone", seen)
    alone = await _act(world, "u-1")
    assert taken == [True, True]
    monkeypatch.setattr(choosing, "take_alone", _nobody)
    assert await _act(world, "u-2") == alone


def _between(world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]) -> None:
    """`act` happens once, when the person was read and before the act is written."""
    whole, left = world.vault.journal.append, [act]

    async def append(entries: list[Any]) -> int:
        if left and any(isinstance(one, Refusal) for one in entries):
            await left.pop()()
        return await whole(entries)

    monkeypatch.setattr(world.vault.journal, "append", append)


async def test_b8_who_writes_between_the_reading_and_the_act_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    await world.choose(say("advertising", "granted"), user="u-1")
    _between(world, monkeypatch, lambda: world.send(order("u-1", 20), identify("u-1", firstName="Ada")))
    await world.choose(say("advertising", "withdrawn"), user="u-1")
    assert (await world.stands("u-1"))["advertising"] == "withdrawn"
    subject = await world.subject("u-1")
    async with world.vault.database.hot() as connection:
        masks = await connection.fetch("SELECT purposes FROM event WHERE subject_id = $1", subject)
    assert masks, "what came between was stored"


async def test_the_same_act_twice_is_one_and_another_under_its_id_is_refused(world: World) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    once = ConsentAct(user_id="u-1", anonymous_id=None, message_id="act-1", choices=(say("marketing", "granted"),))
    first = await choose(world.vault, world.sources["shop"], once)
    assert await choose(world.vault, world.sources["shop"], once) == first
    other = ConsentAct(user_id="u-1", anonymous_id=None, message_id="act-1", choices=(say("marketing", "denied"),))
    with pytest.raises(Conflict):
        await choose(world.vault, world.sources["shop"], other)


async def test_a_stranger_goes_the_general_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    whole = choosing.take_alone

    async def seen(vault: Any, source: Any, item: Item) -> Any:
        answers.append(await whole(vault, source, item))
        return answers[-1]

    monkeypatch.setattr(choosing, "take_alone", seen)
    await world.choose(say("marketing", "granted"), user="nobody-yet")
    assert answers == [None]
    assert (await world.stands("nobody-yet"))["marketing"] == "granted"
