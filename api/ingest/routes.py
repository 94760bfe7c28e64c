"""Tracking calls, choices, purposes, and the settings that analytics.js asks for. Paths as Segment's (standards 1.1)."""

from typing import Any, Final

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from api import body as front
from api.admission import tracking
from api.ingest.cors import OpenToBrowsers
from api.ingest.intake import header_source, known_source, take_tracking
from api.ingest.wire import Chosen, Consents, Taken, TakenFromServer, act_of, taken
from api.metrics import Metrics
from vault.errors import NotFound
from vault.flows import browse
from vault.flows.choose import choose
from vault.flows.ingest.receive import receive
from vault.flows.vault import Vault

# kind -> its paths: the call by name, its browser letter, and the older spelling of batch
TRACKING: Final[dict[str, tuple[str, ...]]] = {
    "identify": ("/identify", "/i"),
    "track": ("/track", "/t"),
    "page": ("/page", "/p"),
    "screen": ("/screen", "/s"),
    "group": ("/group", "/g"),
    "alias": ("/alias", "/a"),
    "batch": ("/batch", "/b", "/import"),
}


def _tracking(kind: str, paths: tuple[str, ...]) -> HTTPRouteHandler:
    @post(
        list(paths),
        status_code=200,
        name=f"ingest:{kind}",
        summary=f"Take a {kind} call",
        description="A body as Segment's tracking API has it; gzip is fine. Durable when answered.",
    )
    async def take(
        request: Request[Any, Any, Any], vault: NamedDependency[Vault], metrics: NamedDependency[Metrics]
    ) -> Taken | TakenFromServer:
        source, body = await take_tracking(request)
        async with tracking(request, body):
            outcome = await receive(vault, source, body, kind)
        metrics.received(outcome.stored, [one.code for one in outcome.dropped])
        return taken(outcome) if source.server else Taken()

    return take


@post("/consents", status_code=200, summary="Take the choices of one person")
async def consents(request: Request[Any, Any, Any], vault: NamedDependency[Vault]) -> Chosen:
    """Write choices to the ledger. The answer tells the state after them; a client source may only lower."""
    source = await header_source(request, acts=True)
    outcome = await choose(vault, source, act_of(await front.read_own(request, Consents)))
    return Chosen(outcome.sequence, outcome.state)


@get("/purposes", summary="List the purposes")
async def purposes(request: Request[Any, Any, Any], vault: NamedDependency[Vault]) -> dict[str, Any]:
    """The purposes a choice can be about, with the notice in force for each."""
    await header_source(request)
    return browse.purposes(vault)


@get("/projects/{key:str}/settings", summary="Settings for analytics.js", cache_control=None)
async def settings(
    key: FromPath[str], request: Request[Any, Any, Any], vault: NamedDependency[Vault]
) -> dict[str, Any]:
    """Where the browser SDK sends to, and the consent categories that mean anything here. Client sources only."""
    source = await known_source(request, key)
    if source.server:  # a server's key has no business in a browser
        raise NotFound
    segment = {
        "apiKey": key,
        "apiHost": f"{request.url.netloc}/v1",  # else the SDK would send to Segment
        "protocol": request.url.scheme,
        "unbundledIntegrations": [],
        "addBundledMetadata": False,
        "deliveryStrategy": {"strategy": "standard"},
    }
    categories = sorted(vault.catalogue.categories)
    return {
        "integrations": {"Segment.io": segment},
        "plan": {"track": {"__default": {"enabled": True}}, "identify": {"__default": {"enabled": True}}},
        "consentSettings": {"allCategories": categories, "hasUnmappedDestinations": True},
    }


router = Router(
    "/v1",
    route_handlers=[*(_tracking(*item) for item in TRACKING.items()), consents, purposes, settings],
    middleware=[OpenToBrowsers],
    tags=["sources"],
)
