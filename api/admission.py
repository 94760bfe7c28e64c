"""Who may begin now, who waits, who is sent away: bounded work and bounded queues for each class of doors.

Each class has a gate (`api.gate`), and is fair to every caller within it. Who is sent away is sent away at once, before
anything was read, asked or opened (threats section 4.2). Classes share no slots, with one exception: choices and requests of
people that find the desk full use the ingest's slots. So they are sent away only when ingest is, too.

Whoever sends a body takes the slot when it is there, so that slow senders hold none (`api.room`). A tracking call that would
be sent away is read first if it is small and little enough of that goes on, since it may be a change of consent, which goes
in by the desk.
Must not know: who asks (`api.limits`), or what anything else means.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from enum import StrEnum
from typing import Any, Final

from litestar import Request
from litestar.types import Receive

from api import body as front
from api.gate import Gate, Timer
from api.room import STRANGER, who_of
from vault.config import Limits
from vault.errors import Overloaded, VaultError
from vault.events.decode import is_change
from vault.flows.reserve import reserved
from vault.flows.turns import Turns


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
LOOKS: Final = 32  # bodies read at once for a change of consent; half of them at most for one caller
LOOK_SECONDS: Final = 5.0  # for such a body to arrive
ARRIVAL: Final = "profile_vault.arrival"  # in the scope of a tracking call: says that it is there
URGENT: Final = "profile_vault.urgent"  # in the scope: such a body holds a change of consent
# A body that goes in by the desk as a change of consent, in bytes: what one message may have, so that nobody carries a batch
# past the others by putting a change into it. SDKs send a change by itself, or among the few events of a page.
MAX_URGENT: Final = 32_768


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
        self._looking: Counter[str] = Counter()

    def gate_for(self, door: Door, who: str = STRANGER) -> Door:
        """The class whose gate a request of `door` goes through now."""
        gates = self.gates
        overflows = door is Door.DESK and gates[door].is_full(who) and not gates[Door.INGEST].is_full(who)
        return Door.INGEST if overflows else door

    def is_full(self, door: Door, who: str = STRANGER) -> bool:
        """Would a request of this caller be sent away?"""
        return self.gates[self.gate_for(door, who)].is_full(who)

    @asynccontextmanager
    async def at_work(self, door: Door, who: str = STRANGER) -> AsyncIterator[None]:
        """A slot for as long as the work takes, and no longer than its deadline. Raises Overloaded."""
        through = self.gate_for(door, who)
        release = await self.gates[through].enter(who)
        try:
            with reserved() if through is Door.DESK else nullcontext():
                async with asyncio.timeout(DEADLINE[door]):
                    yield
        except TimeoutError:
            raise Overloaded(code="given_up") from None
        finally:
            release()

    async def second_look(self, receive: Receive, headers: dict[bytes, bytes], who: str) -> Receive | None:
        """Of a tracking call that would be sent away: its body, to be read again, if it holds a change of consent."""
        length = headers.get(b"content-length", b"0")
        if self._looking[who] >= LOOKS // 2 or self._looking.total() >= LOOKS:
            return None
        if not length.isdigit() or len(length) > 9 or int(length) > MAX_URGENT:
            return None
        self._looking[who] += 1
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                body = await _gathered(receive)
        except TimeoutError:
            return None
        finally:
            self._looking[who] -= 1
            if not self._looking[who]:
                del self._looking[who]
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


def arriving(request: Request[Any, Any, Any]) -> None:
    """The caller of a tracking call is known, and its body is on its way."""
    scope: Any = request.scope
    scope[ARRIVAL] = admission_of(request.app).gates[Door.INGEST].arrives(who_of(scope))


def tracking(request: Request[Any, Any, Any], body: bytes) -> Any:
    """For tracking calls, once their body is there: a slot to work in.

    One that changes a consent goes by the desk's gate and, as what comes by the desk's doors, before batches.
    """
    arrived(request.scope)
    admission, who = admission_of(request.app), who_of(request.scope)
    if request.scope.get(URGENT) or changes_consent(body):
        return _act(request.app.state.vault.turns, admission.at_work(Door.DESK, who))
    return admission.at_work(Door.INGEST, who)


@asynccontextmanager
async def _act(turns: Turns, work: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    async with work:
        with turns.first():
            yield


def arrived(scope: Any) -> None:
    """The body of a tracking call is there, or will not come."""
    gone = scope.pop(ARRIVAL, None)
    if gone is not None:
        gone()


def changes_consent(body: bytes) -> bool:
    """Is this small body of a tracking call one that says the change event?"""
    return len(body) <= MAX_URGENT and is_change(body)


async def _gathered(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_URGENT:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _says_change(body: bytes, encoding: bytes | None) -> bool:
    if encoding is None or encoding == b"identity":
        return changes_consent(body)
    try:
        return changes_consent(front.inflate(body, limit=MAX_URGENT))
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
