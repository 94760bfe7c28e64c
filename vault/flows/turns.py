"""Whose turn it is in this process: a batch of messages is worked on in slices, and acts of people go between them.

A batch holds the loop for tens of milliseconds, and an act needs the loop five times (asked, admitted, read, journalled,
written): it would wait for a batch each time. So a batch lets others at the loop after every slice, and while an act is at
work waits for its end, though never for long: who says many choices slows batches down and does not stop them. A batch that is
itself an act, as a change of consent that comes by a tracking call, waits for nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final, TypeVar

T = TypeVar("T")

SLICE: Final = 8  # messages, or people, between two pauses: some 2 ms
PATIENCE: Final = 0.02  # seconds that a batch waits for acts at one pause, at most

_is_act: Final = ContextVar("is_act", default=False)  # of the work that asks


class Turns:
    """One a process."""

    __slots__ = ("_acts", "_calm")

    def __init__(self) -> None:
        """Nobody is at work."""
        self._acts = 0
        self._calm = asyncio.Event()
        self._calm.set()

    @contextmanager
    def first(self) -> Iterator[None]:
        """What runs inside goes before batches."""
        self._acts += 1
        self._calm.clear()
        _is_act.set(True)
        try:
            yield
        finally:
            _is_act.set(False)
            self._acts -= 1
            if not self._acts:
                self._calm.set()

    async def pause(self) -> None:
        """Between two slices. Nothing may be held meanwhile but drafts."""
        await asyncio.sleep(0)
        if self._acts and not _is_act.get():
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._calm.wait()

    async def between(self, work: Iterable[T]) -> AsyncIterator[T]:
        """Each piece of the work, with a pause after every slice."""
        for at, one in enumerate(work, start=1):
            yield one
            if at % SLICE == 0:
                await self.pause()

    def __repr__(self) -> str:
        return f"Turns({self._acts})"
