"""Gates: who gets in, who waits, who is sent away, and in which order classes give way (threats section 4.2, H17)."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from api.admission import Admission, Door
from api.app import build
from api.doors import door_of
from api.gate import MAX_WAITING, Gate
from api.room import STRANGER, Room
from vault.config import Limits
from vault.errors import Overloaded


class Timer:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def gate(slots: int = 2, patience: float = 1.0, timer: Timer | None = None) -> Gate:
    return Gate(slots, patience, timer=timer or Timer())


async def learnt(made: Gate, timer: Timer, seconds: float, who: str = "") -> None:
    """The gate has seen requests of this caller that took so long."""
    for _ in range(200):
        release = await made.enter(who)
        timer.at += seconds
        release()


async def queued(made: Gate, count: int, *callers: str) -> list["asyncio.Task[Callable[[], None]]"]:
    """So many who wait, in turn of these callers."""
    names = itertools.cycle(callers or ("",))
    tasks = [asyncio.create_task(made.enter(next(names))) for _ in range(count)]
    await asyncio.sleep(0)
    assert made.waiting == count
    return tasks


async def test_slots_are_given_to_those_who_wait_in_their_order() -> None:
    made = gate(slots=1)
    release = await made.enter()
    first, second = await queued(made, 2)
    release()
    release()  # giving back twice gives one slot
    await asyncio.sleep(0)
    assert (first.done(), second.done(), made.busy, made.waiting) == (True, False, 1, 1)
    first.result()()
    (await second)()
    assert (made.busy, made.waiting) == (0, 0)


async def test_who_would_wait_too_long_is_sent_away_at_once_and_a_quick_gate_lets_more_wait() -> None:
    for seconds, fit in ((0.5, 4), (0.1, 20)):
        timer = Timer()
        made = gate(slots=2, patience=1.01, timer=timer)
        await learnt(made, timer, seconds)
        held = [await made.enter(), await made.enter("another")]
        tasks = await queued(made, fit)
        with pytest.raises(Overloaded):
            await made.enter()
        for release in held:
            release()
        for task in tasks:
            (await task)()


async def test_one_may_always_wait_however_slow_the_last_ones_were() -> None:
    timer = Timer()
    made = gate(slots=1, patience=1.0, timer=timer)
    await learnt(made, timer, 60.0)
    release = await made.enter()
    (task,) = await queued(made, 1)
    with pytest.raises(Overloaded):
        await made.enter()
    release()
    (await task)()


async def test_memory_has_an_end_however_quick_the_gate_is() -> None:
    timer = Timer()
    made = gate(slots=1, timer=timer)
    for who in "abc":
        await learnt(made, timer, 0.0, who)
    release = await made.enter()
    tasks = await queued(made, MAX_WAITING, *"abc")
    with pytest.raises(Overloaded):
        await made.enter("d")
    release()
    for task in tasks:
        (await task)()


async def test_a_guess_that_was_wrong_ends_the_wait() -> None:
    made = gate(slots=1, patience=0.01)
    release = await made.enter()
    with pytest.raises(Overloaded):
        await made.enter()
    assert made.waiting == 0
    release()
    assert made.busy == 0


async def test_h10_who_gives_up_waiting_loses_nobody_a_slot() -> None:
    made = gate(slots=1)
    release = await made.enter()
    first, second = await queued(made, 2)
    first.cancel()
    release()  # in the same moment
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second)()
    assert (made.busy, made.waiting) == (0, 0)


async def test_those_whose_body_is_still_on_its_way_count_and_a_slow_sender_holds_no_slot() -> None:
    timer = Timer()
    made = gate(slots=1, patience=1.0, timer=timer)
    await learnt(made, timer, 0.5)
    coming = [made.arrives("") for _ in range(3)]
    assert made.busy == 0
    assert made.is_full()
    for gone in coming:
        gone()
        gone()
    assert not made.is_full()


# --- one caller and the others ------------------------------------------------------------------------------------------


async def test_h17_one_caller_never_holds_the_last_slot() -> None:
    made = gate(slots=3)
    held = [await made.enter("greedy"), await made.enter("greedy")]
    waiting = await queued(made, 2, "greedy")
    other = await made.enter("other")
    assert (made.busy, made.waiting) == (3, 2)
    other()
    await asyncio.sleep(0)
    assert (made.busy, made.waiting) == (2, 2)  # what came free is for others
    for release in held:
        release()
    for task in waiting:
        (await task)()
    assert (made.busy, made.waiting) == (0, 0)


async def test_h17_what_comes_free_goes_to_who_holds_the_fewest() -> None:
    made = gate(slots=4)
    first = [await made.enter("greedy") for _ in range(3)]
    last = await made.enter("third")
    greedy = await queued(made, 3, "greedy")
    others = [asyncio.create_task(made.enter(who)) for who in ("a", "b")]
    await asyncio.sleep(0)
    first[0]()
    last()
    await asyncio.sleep(0)
    assert [task.done() for task in (*others, *greedy)] == [True, True, False, False, False]
    for release in (*first[1:], *[task.result() for task in others]):
        release()
    for task in greedy:
        (await task)()
    assert made.busy == 0


async def test_h17_a_caller_that_waits_for_itself_sends_nobody_else_away() -> None:
    timer = Timer()
    made = gate(slots=4, patience=0.5, timer=timer)
    await learnt(made, timer, 5.0, "greedy")  # half a megabyte a call
    held = [await made.enter("greedy") for _ in range(3)]
    tasks = await queued(made, 1, "greedy")
    assert made.is_full("greedy")
    with pytest.raises(Overloaded):
        await made.enter("greedy")
    coming = [made.arrives("greedy") for _ in range(50)]
    assert not made.is_full("quick")
    quick = await made.enter("quick")
    more = await queued_beside(made, "quick")
    quick()
    (await more)()
    for release in (*held, *coming):
        release()
    for task in tasks:
        (await task)()


async def queued_beside(made: Gate, who: str) -> "asyncio.Task[Callable[[], None]]":
    """One more who waits."""
    before = made.waiting
    task = asyncio.create_task(made.enter(who))
    await asyncio.sleep(0)
    assert made.waiting == before + 1
    return task


def test_g7_nobody_holds_all_the_room() -> None:
    room = Room(bodies=8, size=800)
    guests = [room.admit("a") for _ in range(4)]
    with pytest.raises(Overloaded):
        room.admit("a")
    strangers = [room.admit(STRANGER) for _ in range(2)]
    with pytest.raises(Overloaded):
        room.admit(STRANGER)
    guests[0].grow(400)
    with pytest.raises(Overloaded):
        guests[1].grow(1)
    strangers[0].grow(200)
    with pytest.raises(Overloaded):
        strangers[1].grow(1)
    strangers[1].is_of("b")
    strangers[1].grow(200)
    with pytest.raises(Overloaded):  # all of it
        room.admit("c").grow(1)
    for guest in (*guests, *strangers, *strangers):
        guest.leave()
    assert (room.bodies, room.size) == (1, 0)


async def test_a_full_ingest_takes_no_room_of_feeds_and_choices() -> None:
    admission = Admission(Limits(ingest_at_once=1))
    made = admission.gates[Door.INGEST]
    release = await made.enter()
    tasks = await queued(made, 1)
    while not made.is_full():
        tasks += [asyncio.create_task(made.enter())]
        await asyncio.sleep(0)
    for door in (Door.READ, Door.DESK):
        async with admission.at_work(door):
            assert admission.gates[door].busy == 1
    with pytest.raises(Overloaded):
        async with admission.at_work(Door.INGEST):
            pass
    release()
    for task in tasks:
        (await task)()


async def test_choices_are_sent_away_only_when_ingest_is_too() -> None:
    timer = Timer()
    admission = Admission(Limits(ingest_at_once=1, desk_at_once=1), timer=timer)
    desk, ingest = admission.gates[Door.DESK], admission.gates[Door.INGEST]
    await learnt(desk, timer, 30.0)
    await learnt(ingest, timer, 1.0)
    release = await desk.enter()
    tasks = await queued(desk, 1)
    assert desk.is_full()
    async with admission.at_work(Door.DESK):
        assert ingest.busy == 1  # it went in by the other gate
        waiting = await queued(ingest, 1)
        assert ingest.is_full()
        with pytest.raises(Overloaded):
            async with admission.at_work(Door.DESK):
                pass
    release()
    for task in (*tasks, *waiting):
        (await task)()


def test_every_route_has_a_door_and_what_nobody_classed_is_shed_last() -> None:
    app = build()
    doors: dict[str, set[Door]] = {}
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            for method in handler.http_methods - {"OPTIONS"}:
                path = route.path_format.replace("{name}", "warehouse")
                doors.setdefault(str(handler.name or ""), set()).add(door_of(str(method), path))
    assert all(found == {Door.INGEST} for name, found in doors.items() if name.startswith("ingest:"))
    assert {door_of("POST", path) for path in ("/v1/t/", "//v1//batch", "/beacon/v1/batch")} == {Door.INGEST}
    assert door_of("POST", "/v1/consents") is Door.DESK
    assert door_of("POST", "/v1/destinations/crm/reports") is Door.DESK  # they lower consent
    assert door_of("GET", "/v1/destinations/crm/profiles") is Door.READ
    assert door_of("GET", "/v1/spaces/default/collections/users/profiles/a:b/traits") is Door.READ
    assert door_of("POST", "/v1/subjects/x/erasure") is Door.DESK
    assert door_of("POST", "/one-click/whatever") is Door.DESK
    assert door_of("OPTIONS", "/v1/t") is Door.OPEN
    assert {door_of("GET", path) for path in ("/livez", "/readyz", "/metrics", "/schema/openapi.json")} == {Door.OPEN}
