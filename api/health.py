"""For operators, on loopback only: is it alive, is it ready, its figures."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from litestar import HttpMethod, Request, Response, Router, get, route
from litestar.di import NamedDependency

from api.admission import admission_of
from api.guards import operator_only
from api.metrics import CONTENT_TYPE, Metrics
from api.problems import RETRY_AFTER
from vault.errors import Locked, Unavailable
from vault.flows import figures, ready

_PROBED: Final = (HttpMethod.GET, HttpMethod.HEAD)  # load balancers probe with either
_NOT_KEPT: Final = {"cache-control": "no-store"}
SOON: Final = 2.0  # seconds; whoever asks for health must have an answer while the database hangs

_Answer = TypeVar("_Answer")


@route("/livez", http_method=_PROBED, summary="Is the process alive?", media_type="text/plain")
async def livez() -> str:
    """Says `ok` whatever else is wrong: a restart would not help against a missing database."""
    return "ok"


@route("/readyz", http_method=_PROBED, summary="Can it serve now?")
async def readyz(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """200 with figures and known limits, or 503. One-process mode and missing rollback protection are told here.

    A vault that is locked says so, and why, in words to act on.
    """
    worker = request.app.state.get("worker", "elsewhere")
    body: dict[str, Any] = {"ready": False, "worker": worker}
    vault = request.app.state.get("vault")
    if vault is None:
        locked = request.app.state.get("locked") or Locked()
        body |= {"code": locked.reason, "message": str(locked)}
        return Response(body, status_code=503, headers={**_NOT_KEPT, "retry-after": str(RETRY_AFTER)})
    try:
        found = await _asked(ready.check(vault))
    except Unavailable as error:
        body["code"] = error.reason
        return Response(body, status_code=503, headers=_NOT_KEPT)
    fault = vault.journal.fault or vault.database.fault
    if fault is not None:
        body["code"] = fault
    body |= {
        "ready": worker != "stopped" and fault is None,
        "policy": found.policy,
        "key_service": found.key_service,
        "rollback_protection": found.rollback_protection,
        "worker_seen": found.worker_seen,
        "backlog": found.backlog,
        "notes": list(found.notes),
        "role": found.role,
        "doors": list(found.doors),
        "duties": list(found.duties),
        "purposes": list(found.purposes),
        "integrity": {"findings": found.findings, "swept_at": found.swept_at},
        "database_role": found.database_role,
    }
    return Response(body, status_code=200 if body["ready"] else 503, headers=_NOT_KEPT)


@get("/metrics", summary="Figures for Prometheus", media_type="text/plain")
async def metrics(request: Request[Any, Any, Any], metrics: NamedDependency[Metrics]) -> Response[bytes]:
    """No label names a person, an address or an event. Always answered: without a database, with what this process knows."""
    vault = request.app.state.get("vault")
    if vault is None:
        metrics.looked(None)
        return Response(metrics.text(), media_type=CONTENT_TYPE)
    metrics.at_work(admission_of(request.app).gates, vault.database.in_use())
    try:
        metrics.looked(await _asked(figures.look(vault)))
    except Unavailable:
        metrics.looked(None)
    return Response(metrics.text(), media_type=CONTENT_TYPE)


async def _asked(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    """The database's answer, if it comes soon. Raises Unavailable."""
    try:
        async with asyncio.timeout(SOON):
            return await question
    except TimeoutError:
        raise Unavailable("The database does not answer.", code="database_unavailable") from None


router = Router("/", route_handlers=[livez, readyz, metrics], guards=[operator_only], tags=["operators"])
