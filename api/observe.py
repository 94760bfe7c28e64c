"""Around every request: who may begin now, an id, one line in the access log, one count. Route templates only, no path.

A request id is random and is answered as `request-id`, so that a caller can name a request without naming a person. What is
sent away by `api.admission` is answered here, before the framework sees it: refusing must cost next to nothing, or it is
the overload. It leaves no line of its own, but one a second with their number.
"""

import asyncio
import time
from contextlib import ExitStack, nullcontext
from typing import Any, Final

import structlog
from litestar import Litestar
from litestar.types import Message, Receive, Scope, Send

from api import front
from api.admission import DEADLINE, URGENT, Door, admission_of, arrived
from api.auth import bearer_or_basic
from api.doors import door_of
from api.guards import closed
from api.ingest.cors import ANY_ORIGIN
from api.limits import VERDICT, OverRate, limits_of
from api.metrics import Metrics
from api.problems import REFUSAL, bare
from api.room import GUEST, TURN
from vault.errors import Overloaded, RateLimited, Unavailable, VaultError
from vault.flows.reserve import reserved
from vault.ids import random_token

NO_ROUTE: Final = "(none)"  # what asks for paths that do not exist must not fill the log with them
SHED: Final = "(shed)"  # what was sent away before it was routed
SPREAD: Final = 5  # seconds: those who are sent away come back spread over so many, not all at once
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ID_BYTES: Final = 9
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_log = structlog.get_logger("access")


class Observed(Litestar):
    """A Litestar application that watches its own requests from outside, so that 404s and faults are counted too."""

    metrics: Metrics
    _sent_away = 0
    _untold = 0
    _told_at = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, then tell."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        await self._watch(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route what has the shape of a request; refuse the rest before the framework sees it."""
        try:
            front.check(scope)
        except VaultError as refused:
            status, headers, body = bare(refused)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await super().__call__(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = random_token(ID_BYTES)
        status = 500  # what the server answers for us if nothing was sent

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {b"request-id": request_id.encode(), b"x-content-type-options": b"nosniff"}
                verdict: Any = getattr(scope.get(REFUSAL), "verdict", None) or scope.get(VERDICT)
                if verdict is not None:
                    own |= {name.lower().encode(): text.encode() for name, text in verdict.headers().items()}
                others = [header for header in message["headers"] if header[0] not in own]
                message["headers"] = [*others, *own.items()]
            await send(message)

        door = door_of(str(scope.get("method")), scope["path"])
        shed = False
        try:
            await self._admit(door, scope, receive, watched)
        except Overloaded as refused:
            shed = True
            await self._send_away(door, refused, watched)
        finally:
            arrived(scope)
            guest: Any = scope.pop(GUEST, None)  # type: ignore[typeddict-item]
            if guest is not None:
                guest.leave()
            self._tell(scope, status, time.perf_counter() - started, request_id, shed=shed)

    # --- who may begin ------------------------------------------------------------------------------------------------

    async def _admit(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Overloaded if nothing was begun."""
        if door is Door.OPEN:
            with reserved():
                await self._answer(scope, receive, send)
            return
        if self.state.get("vault") is None:
            await self._refuse(door, closed(self.state), send)
            return
        admission = admission_of(self)
        headers = dict(scope["headers"])
        who = limits_of(self).name_of(bearer_or_basic(headers.get(b"authorization", b"").decode("latin-1")))
        if door is Door.INGEST:
            if admission.is_full(door, who):
                again = await admission.second_look(receive, headers, who)
                if again is None:
                    raise Overloaded
                scope[URGENT] = True  # type: ignore[typeddict-unknown-key]
                receive = again
            await self._answer(scope, receive, send)  # it takes its slot once its body is there
            return
        if admission.is_full(door, who):
            raise Overloaded
        with reserved() if door is Door.DESK else nullcontext():
            await self._in_time(door, scope, receive, send, who)

    async def _in_time(self, door: Door, scope: Scope, receive: Receive, send: Send, who: str) -> None:
        """Slot and deadline last from the end of the body, if there is one, until the answer begins.

        How slowly a client sends or takes in must hold up nobody.
        """
        admission, loop = admission_of(self), asyncio.get_running_loop()
        begun = False
        held = ExitStack()
        try:
            async with asyncio.timeout(None) as deadline:

                async def enter(caller: str) -> None:
                    held.callback(await admission.gates[admission.gate_for(door, caller)].enter(caller))
                    if door is Door.DESK:
                        held.enter_context(self.state.vault.turns.first())
                    deadline.reschedule(loop.time() + DEADLINE[door])

                async def begins(message: Message) -> None:
                    nonlocal begun
                    if not begun:
                        begun = True
                        deadline.reschedule(None)
                        held.close()
                    await send(message)

                if door is Door.DESK and scope.get("method") not in _WITHOUT_BODY:
                    scope[TURN] = enter  # type: ignore[typeddict-unknown-key]
                else:
                    await enter(who)
                await self._answer(scope, receive, begins)
        except TimeoutError:
            if begun:
                raise
            raise Overloaded(code="given_up") from None
        finally:
            held.close()

    async def _send_away(self, door: Door, refused: Overloaded, send: Send) -> None:
        """503, with a time to come back that differs from one to the next."""
        self.metrics.sent_away(door, refused.reason)
        await self._refuse(door, refused, send)

    async def _refuse(self, door: Door, refused: Unavailable, send: Send) -> None:
        self._sent_away += 1
        status, headers, body = bare(refused)
        spread = str(1 + self._sent_away % SPREAD).encode()
        headers = [(name, spread if name == b"retry-after" else value) for name, value in headers]
        if door is Door.INGEST:
            headers += ANY_ORIGIN
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # --- what is told ---------------------------------------------------------------------------------------------------

    def _tell(self, scope: Scope, status: int, seconds: float, request_id: str, *, shed: bool) -> None:
        route = SHED if shed else str(scope.get("path_template") or NO_ROUTE)
        method = str(scope.get("method"))
        method = method if method in _METHODS else "OTHER"
        self.metrics.answered(method, route, status, seconds)
        # Taken out: an error holds the frames that raised it, they hold the scope, and such a ring of addresses and
        # queries would wait for the collector (threats G7).
        refusal: Any = scope.pop(REFUSAL, None)  # type: ignore[typeddict-item]
        self._count(refusal, door_of(method, str(scope.get("path"))))
        if refusal is not None:
            refusal.__traceback__ = None
        if shed:
            self._untold += 1
            now = time.monotonic()
            if now - self._told_at >= 1.0:
                _log.warning("overload", sent_away=self._untold)
                self._untold, self._told_at = 0, now
            return
        _log.info(
            "request", method=method, route=route, status=status, ms=round(seconds * 1000, 2), request_id=request_id
        )

    def _count(self, refusal: Any, door: Door) -> None:
        """What a handler refused for want of room or rate; what never reached one is counted where it is sent away."""
        if isinstance(refusal, OverRate):
            self.metrics.limited(refusal.kind)
        elif isinstance(refusal, RateLimited):
            self.metrics.limited("stranger")
        elif isinstance(refusal, Overloaded):
            self.metrics.sent_away(door, refusal.reason)
