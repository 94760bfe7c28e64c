"""Claims about reading ahead: each part once and in order, one ahead and no more, nothing left running."""

import asyncio
from contextlib import aclosing

import pytest

from vault.flows.release.ahead import ahead


class Table:
    """Remembers what was asked of it, and what it answered."""

    def __init__(self, broken: int | None = None) -> None:
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.broken = broken

    async def read(self, part: int) -> int:
        self.asked.append(part)
        await asyncio.sleep(0)
        if part == self.broken:
            raise OSError("the table is gone")
        self.answered.append(part)
        return part * 10


async def test_every_part_comes_once_in_order_with_what_was_read_of_it() -> None:
    for count in range(5):
        table = Table()
        assert [one async for one in ahead(table.read, range(count))] == [(n, n * 10) for n in range(count)]
        assert table.answered == list(range(count))


async def test_one_part_is_read_while_another_is_at_hand_and_never_two() -> None:
    table = Table()
    async with aclosing(ahead(table.read, range(4))) as parts:
        async for part, _ in parts:
            for _ in range(3):
                await asyncio.sleep(0)
            assert table.asked == list(range(min(part + 2, 4)))


async def test_who_stops_early_leaves_no_reading_behind() -> None:
    table = Table()
    async with aclosing(ahead(table.read, range(4))) as parts:
        async for _ in parts:
            break
    assert table.asked == table.answered == [0, 1]


async def follow(table: Table, seen: list[int], fail_at: int | None = None) -> None:
    async with aclosing(ahead(table.read, range(4))) as parts:
        async for part, _ in parts:
            seen.append(part)
            if part == fail_at:
                raise ValueError("mine")


async def test_what_fails_ahead_fails_when_its_turn_comes_and_not_before() -> None:
    table, seen = Table(broken=2), []
    with pytest.raises(OSError, match="gone"):
        await follow(table, seen)
    assert seen == [0, 1]
    assert table.asked == [0, 1, 2]


async def test_a_failure_of_the_caller_is_the_one_that_is_told() -> None:
    table, seen = Table(broken=1), []
    with pytest.raises(ValueError, match="mine"):
        await follow(table, seen, fail_at=0)
    assert table.asked == [0, 1]
