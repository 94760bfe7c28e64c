"""Who may begin now, who waits, who is sent away: bounded work and bounded queues for each class of doors.

A gate has slots. Who finds none free waits, unless the wait would be longer than the gate's patience by what requests took
lately; then it is sent away at once, before anything was read, asked or opened (threats section 4.2). Classes share no
slots, with one exception: choices and requests of people that find the desk full use the ingest's slots. So they are sent
away only when ingest is, too.

A tracking call takes its slot when its body is there, so that slow senders hold none. One that would be sent away is read
first if little enough of that goes on, since it may hold a change of consent, which goes in by the desk.
Must not know: who asks (`api.limits`), or what anything means.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from enum import StrEnum
from typing import Any, Final

from litestar import Request
from litestar.types import Receive

from api import body as front
from vault.config import Limits
from vault.errors import Overloaded, VaultError
from vault.events.decode import MAX_BODY
from vault.events.message import CONSENT_EVENT
from vault.flows.reserve import reserved

Timer = Callable[[], float]  # seconds, from anywhere, never backwards
Release = Callable[[], None]


class Door(StrEnum):
    """The classes, from the one that gives way first to the one that never does."""

    INGEST = "ingest"  # tracking calls: clients keep what was refused and send it again
    READ = "read"  # feeds, lookups, settings of SDKs
    DESK = "desk"  # choices, reports of unsubscribes, requests of people, staff
    OPEN = "open"  # health, figures, documents, preflights: always answered


# Seconds that one may have to wait for a slot. Tracking and feeds lose nothing by coming again; a choice or a request of a
# person that is sent away may not come again, so it waits rather.
PATIENCE: Final = {Door.INGEST: 0.5, Door.READ: 0.5, Door.DESK: 10.0}
# seconds from the slot to the beginning of the answer; then it is given up, so that a database that hangs holds nobody
DEADLINE: Final = {Door.INGEST: 15.0, Door.READ: 30.0, Door.DESK: 30.0}
ARRIVING: Final = 1.0  # seconds for which a call that is still being read counts as one who will wait
MAX_WAITING: Final = 256  # a gate; whatever the times say, memory has an end
FIRST_GUESS: Final = 0.02  # seconds that a request takes, until some have been seen
_WEIGHT: Final = 0.1  # of the newest in the running mean
LOOKS: Final = 32  # bodies read at once for a change of consent, of 500 KB at most each
LOOK_SECONDS: Final = 5.0  # for such a body to arrive
ARRIVAL: Final = "profile_vault.arrival"  # in the scope of a tracking call: says that it is there
URGENT: Final = "profile_vault.urgent"  # in the scope: such a body holds a change of consent
_CHANGE: Final = CONSENT_EVENT.encode()


class Gate:
    """The slots of one class, and the queue before them."""

    def __init__(self, slots: int, patience: float, *, timer: Timer = time.monotonic) -> None:
        """`patience` in seconds."""
        self.slots = slots
        self._free = slots
        self._patience = patience
        self._timer = timer
        self._queue: deque[asyncio.Future[None]] = deque()
        self._mean = FIRST_GUESS
        self._arriving = 0

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def wait(self) -> float:
        """Seconds that the next one would wait, by what requests took lately."""
        ahead = len(self._queue) + self._arriving + 1 - self._free
        return max(0, ahead) * self._mean / self.slots

    @property
    def full(self) -> bool:
        """Would the next one be sent away?"""
        if not self._queue and self._arriving < max(1, self._free):
            return False  # a slot is free, or a single one would wait: times are a guess
        return len(self._queue) >= MAX_WAITING or self.wait > self._patience

    def arrives(self) -> Release:
        """Somebody will come to `enter` soon: call what it answers just before, or when it does not come."""
        self._arriving += 1
        counted = True

        def gone() -> None:
            nonlocal counted
            if counted:
                counted = False
                timer.cancel()
                self._arriving -= 1

        timer = asyncio.get_running_loop().call_later(ARRIVING, gone)  # a slow sender must not shut the gate
        return gone

    async def enter(self) -> Release:
        """A slot; call what it answers to give it back. Raises Overloaded."""
        if self.full:
            raise Overloaded
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        return self._holding()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(2 * self._patience):  # the guess was wrong
                await turn
        except TimeoutError:
            self._withdraw(turn)
            raise Overloaded from None
        except BaseException:
            self._withdraw(turn)
            raise

    def _withdraw(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # the slot came in the same moment
            self._pass_on()
        elif turn in self._queue:
            self._queue.remove(turn)

    def _holding(self) -> Release:
        since = self._timer()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._mean += _WEIGHT * (self._timer() - since - self._mean)
                self._pass_on()

        return release

    def _pass_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Admission:
    """The gates of one process."""

    def __init__(self, limits: Limits, *, timer: Timer = time.monotonic) -> None:
        """Slots as the settings have them."""
        slots = {
            Door.INGEST: limits.ingest_at_once,
            Door.READ: limits.reads_at_once,
            Door.DESK: limits.desk_at_once,
        }
        self.gates = {door: Gate(count, PATIENCE[door], timer=timer) for door, count in slots.items()}
        self._looking = 0

    def gate_for(self, door: Door) -> Door:
        """The class whose gate a request of `door` goes through now."""
        gates = self.gates
        overflows = door is Door.DESK and gates[door].full and not gates[Door.INGEST].full
        return Door.INGEST if overflows else door

    @asynccontextmanager
    async def at_work(self, door: Door) -> AsyncIterator[None]:
        """A slot for as long as the work takes, and no longer than its deadline. Raises Overloaded."""
        through = self.gate_for(door)
        release = await self.gates[through].enter()
        try:
            with reserved() if through is Door.DESK else nullcontext():
                async with asyncio.timeout(DEADLINE[door]):
                    yield
        except TimeoutError:
            raise Overloaded(code="given_up") from None
        finally:
            release()

    async def second_look(self, receive: Receive, headers: dict[bytes, bytes]) -> Receive | None:
        """Of a tracking call that would be sent away: its body, to be read again, if it holds a change of consent."""
        if self._looking >= LOOKS:
            return None
        self._looking += 1
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                body = await _gathered(receive)
        except TimeoutError:
            return None
        finally:
            self._looking -= 1
        if body is None or not _says_change(body, headers.get(b"content-encoding")):
            return None
        return _again(body, receive)


def admission_of(app: Any) -> Admission:
    """The gates of this application; made at first use, when the vault and its settings are there."""
    made = app.state.get("admission")
    if not isinstance(made, Admission):
        vault = app.state.get("vault")
        made = Admission(Limits() if vault is None else vault.settings.limits)
        app.state.admission = made
    return made


def tracking(request: Request[Any, Any, Any], body: bytes) -> Any:
    """For tracking calls, once their body is there: a slot to work in, by the desk's gate if it changes a consent."""
    gone: Any = request.scope.get(ARRIVAL)
    if gone is not None:
        gone()
    urgent = request.scope.get(URGENT) or changes_consent(body)
    return admission_of(request.app).at_work(Door.DESK if urgent else Door.INGEST)


def changes_consent(body: bytes) -> bool:
    """Does this body of a tracking call name the change event? One that spells it with escapes goes as any other."""
    return _CHANGE in body


async def _gathered(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _says_change(body: bytes, encoding: bytes | None) -> bool:
    if encoding is None or encoding == b"identity":
        return changes_consent(body)
    try:
        return changes_consent(front.inflate(body, limit=MAX_BODY))
    except VaultError:
        return False


def _again(body: bytes, receive: Receive) -> Receive:
    first = True

    async def replay() -> Any:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
