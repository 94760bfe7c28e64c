"""Tracking calls, choices and purposes. Paths as Segment's (standards 1.1), and the two that only RudderStack's browser SDK has."""

from typing import Any, Final

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from api import body as front
from api.admission import tracking
from api.ingest import browser
from api.ingest.cors import OpenToBrowsers
from api.ingest.intake import header_source, look_into, take_beacon, take_tracking
from api.ingest.wire import Chosen, Consents, Taken, TakenFromServer, act_of, taken
from api.metrics import Metrics
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
        came = await take_tracking(request)
        async with tracking(request, came.body):
            source = await look_into(request, came)
            outcome = await receive(vault, source, came.body, kind)
        metrics.received(outcome.stored, [one.code for one in outcome.dropped])
        return taken(outcome) if source.server else Taken()

    return take


@post("/consents", status_code=200, summary="Take the choices of one person")
async def consents(request: Request[Any, Any, Any], vault: NamedDependency[Vault]) -> Chosen:
    """Write choices to the ledger. The answer tells the state after them; a client source may only lower."""
    source = await header_source(request, acts=True)
    outcome = await choose(vault, source, act_of(await front.read_own(request, Consents)))
    return Chosen(outcome.sequence, outcome.state, outcome.ignored)


@get("/purposes", summary="List the purposes")
async def purposes(request: Request[Any, Any, Any], vault: NamedDependency[Vault]) -> dict[str, Any]:
    """The purposes a choice can be about, with the notice in force for each."""
    await header_source(request)
    return browse.purposes(vault)


@post("/beacon/v1/batch", status_code=200, name="ingest:beacon", summary="Take a batch of RudderStack's beacon")
async def beacon(
    request: Request[Any, Any, Any], vault: NamedDependency[Vault], metrics: NamedDependency[Metrics]
) -> Taken:
    """A batch from a page that is being left. A beacon has no headers of its own, so the write key is in the query."""
    came = await take_beacon(request)
    async with tracking(request, came.body):
        source = await look_into(request, came)
        outcome = await receive(vault, source, came.body, "batch")
    metrics.received(outcome.stored, [one.code for one in outcome.dropped])
    return Taken()


router = Router(
    "/v1",
    route_handlers=[
        *(_tracking(*item) for item in TRACKING.items()),
        consents,
        purposes,
        browser.settings,
        browser.metrics,
    ],
    middleware=[OpenToBrowsers],
    tags=["sources"],
)
rudder = Router("/", route_handlers=[beacon, browser.source_config], middleware=[OpenToBrowsers], tags=["sources"])
