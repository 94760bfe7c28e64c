"""Reads one part of a page ahead: the database works on the next while this process opens and shapes the one at hand.

Knows nothing of what is read. One part ahead and no more, so that a page holds two parts in memory however long it is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


async def ahead(read: Callable[[P], Awaitable[R]], parts: Sequence[P]) -> AsyncGenerator[tuple[P, R], None]:
    """Each part with what `read` says of it, in order. Close it (`contextlib.aclosing`): a reading may be under way."""
    reading: asyncio.Future[R] | None = None
    try:
        for index, part in enumerate(parts):
            seen = await (reading or read(part))
            reading = asyncio.ensure_future(read(parts[index + 1])) if index + 1 < len(parts) else None
            yield part, seen
    finally:
        if reading is not None:  # its connection goes back only once it is done
            await asyncio.gather(reading, return_exceptions=True)
