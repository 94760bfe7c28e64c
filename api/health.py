"""For operators, on loopback only: is it alive, is it ready, its figures."""

from typing import Any

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency

from api.guards import operator_only
from api.metrics import CONTENT_TYPE, Metrics
from vault.errors import Unavailable
from vault.flows import ready
from vault.flows.vault import Vault


@get("/livez", summary="Is the process alive?", media_type="text/plain")
async def livez() -> str:
    """Says `ok` whatever else is wrong: a restart would not help against a missing database."""
    return "ok"


@get("/readyz", summary="Can it serve now?")
async def readyz(request: Request[Any, Any, Any], vault: NamedDependency[Vault]) -> Response[dict[str, Any]]:
    """200 with figures and known limits, or 503. One-process mode and missing rollback protection are told here."""
    worker = request.app.state.get("worker", "elsewhere")
    body: dict[str, Any] = {"ready": False, "worker": worker}
    try:
        found = await ready.check(vault)
    except Unavailable as error:
        body["code"] = error.reason
        return Response(body, status_code=503, headers={"cache-control": "no-store"})
    body |= {
        "ready": worker != "stopped",
        "policy": found.policy,
        "rollback_protection": found.rollback_protection,
        "worker_seen": found.worker_seen,
        "backlog": found.backlog,
        "notes": list(found.notes),
        "role": found.role,
        "doors": list(found.doors),
        "duties": list(found.duties),
        "purposes": list(found.purposes),
    }
    return Response(body, status_code=200 if body["ready"] else 503, headers={"cache-control": "no-store"})


@get("/metrics", summary="Figures for Prometheus", media_type="text/plain")
async def metrics(vault: NamedDependency[Vault], metrics: NamedDependency[Metrics]) -> Response[bytes]:
    """No label names a person, an address or an event."""
    try:
        for queue, rows in (await ready.check(vault)).backlog.items():
            metrics.waiting(queue, rows)
    except Unavailable:
        metrics.waiting("changes", -1)  # unknown, and visibly so
    return Response(metrics.text(), media_type=CONTENT_TYPE)


router = Router("/", route_handlers=[livez, readyz, metrics], guards=[operator_only], tags=["operators"])
