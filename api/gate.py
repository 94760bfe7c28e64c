"""The slots of one class of doors, and the queue before them: fair to every caller.

Promises: a slot that comes free goes to whoever waits and holds the fewest; one caller never holds the last slot, nor more
than half of the queue (threats section 4.2). So a caller that sends as much as it can waits for itself, and others do not.
Who would have to wait longer than the gate's patience, by what its requests took lately and by those who go before it, is
sent away at once.
Must not know: who the callers are. A name is a name; all strangers have one together, the empty one.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

from vault.errors import Overloaded

Timer = Callable[[], float]  # seconds, from anywhere, never backwards
Release = Callable[[], None]

ARRIVING: Final = 1.0  # seconds for which a call that is still being read counts as one who will wait
MAX_WAITING: Final = 256  # a gate; whatever the times say, memory has an end
FIRST_GUESS: Final = 0.02  # seconds that a request takes, until some have been seen
MAX_MEANS: Final = 1_000  # callers whose times are remembered
_WEIGHT: Final = 0.1  # of the newest in the running mean


class Gate:
    """The slots of one class, and the queue before them."""

    def __init__(self, slots: int, patience: float, *, timer: Timer = time.monotonic) -> None:
        """`patience` in seconds."""
        self.slots = slots
        self._free = slots
        self._share = max(1, slots - 1)  # of one caller
        self._patience = patience
        self._timer = timer
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # no empty ones
        self._held: Counter[str] = Counter()
        self._arriving: Counter[str] = Counter()
        self._means: OrderedDict[str, float] = OrderedDict()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def is_full(self, who: str = "") -> bool:
        """Would the next one of this caller be sent away?"""
        own = self._coming(who)
        lanes = self.slots
        before = own
        seconds = (own + 1) * self._mean(who)
        for other in {*self._queues, *self._arriving} - {who}:
            if self._held[other] >= self._share:
                lanes -= self._held[other]  # it waits for itself: what comes free elsewhere is not for it
                continue
            turns = min(self._coming(other), own + 1)
            before += turns
            seconds += turns * self._mean(other)
        free = self._free if self._held[who] < self._share else 0
        if before < max(1, free):
            return False  # a slot is free, or a single one would wait: times are a guess
        if self.waiting >= MAX_WAITING or len(self._queues.get(who, ())) >= MAX_WAITING // 2:
            return True
        return seconds * max(0, before + 1 - free) / (before + 1) / max(1, lanes) > self._patience

    def arrives(self, who: str) -> Release:
        """A known caller will come to `enter` soon: call what it answers just before, or when it does not come."""
        self._arriving[who] += 1
        counted = True

        def gone() -> None:
            nonlocal counted
            if counted:
                counted = False
                timer.cancel()
                _less(self._arriving, who)

        timer = asyncio.get_running_loop().call_later(ARRIVING, gone)  # a slow sender must not shut the gate
        return gone

    async def enter(self, who: str = "") -> Release:
        """A slot; call what it answers to give it back. Raises Overloaded."""
        if self.is_full(who):
            raise Overloaded
        if self._free and self._held[who] < self._share:
            self._free -= 1
            self._held[who] += 1
        else:
            await self._wait(who)
        return self._holding(who)

    def _coming(self, who: str) -> int:
        return len(self._queues.get(who, ())) + self._arriving[who]

    def _mean(self, who: str) -> float:
        return self._means.get(who, FIRST_GUESS)

    async def _wait(self, who: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(who, deque()).append(turn)
        try:
            async with asyncio.timeout(2 * self._patience):  # the guess was wrong
                await turn
        except TimeoutError:
            self._withdraw(who, turn)
            raise Overloaded from None
        except BaseException:
            self._withdraw(who, turn)
            raise

    def _withdraw(self, who: str, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # the slot came in the same moment
            self._pass_on(who)
            return
        queue = self._queues.get(who)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[who]

    def _holding(self, who: str) -> Release:
        since = self._timer()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                mean = self._mean(who)
                self._means[who] = mean + _WEIGHT * (self._timer() - since - mean)
                self._means.move_to_end(who)
                if len(self._means) > MAX_MEANS:
                    self._means.popitem(last=False)
                self._pass_on(who)

        return release

    def _pass_on(self, giver: str) -> None:
        _less(self._held, giver)
        while self._queues:
            taker = min(self._queues, key=lambda who: self._held[who])  # the one that began to wait first, of equals
            if self._held[taker] >= self._share:
                break
            queue = self._queues.pop(taker)
            turn = queue.popleft()
            if queue:
                self._queues[taker] = queue  # behind those who hold as few
            if not turn.done():
                self._held[taker] += 1
                turn.set_result(None)
                return
        self._free += 1


def _less(counts: Counter[str], who: str) -> None:
    """One less; what is nothing is forgotten, since names have no end."""
    counts[who] -= 1
    if counts[who] <= 0:
        del counts[who]
