"""Around every request: an id for it, one line in the access log, one count. Route templates only, no path, no address.

A request id is random and is answered as `request-id`, so that a caller can name a request without naming a person.
"""

import time
from typing import Any, Final

import structlog
from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Receive, Scope, Send

from api import front
from api.metrics import Metrics
from api.problems import bare
from vault.errors import VaultError
from vault.ids import random_token

NO_ROUTE: Final = "(none)"  # what asks for paths that do not exist must not fill the log with them
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID_BYTES: Final = 9
_log = structlog.get_logger("access")


class Observed(Litestar):
    """A Litestar application that watches its own requests from outside, so that 404s and faults are counted too."""

    metrics: Metrics

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
        request_id = random_token(_ID_BYTES)
        status = 500  # what the server answers for us if nothing was sent

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableScopeHeaders.from_message(message)
                headers["request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            route = str(scope.get("path_template") or NO_ROUTE)
            method = str(scope.get("method"))
            method = method if method in _METHODS else "OTHER"
            self.metrics.answered(method, route, status, seconds)
            _log.info(
                "request",
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1000, 2),
                request_id=request_id,
            )
