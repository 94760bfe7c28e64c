"""Feeds, the way back, and lookups by Segment's Profile API paths. Behind the wall of destinations."""

from typing import Annotated, Any, Final

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from api import body as front
from api.destinations.wire import Acknowledged, include_of
from api.guards import destination_only, provide_destination, provide_vault
from vault.errors import NotFound
from vault.flows import feedback, lookup
from vault.flows.accounts import links as account_links_of
from vault.flows.accounts import traits as account_traits_of
from vault.flows.release import page as release
from vault.flows.vault import Vault

NDJSON: Final = "application/x-ndjson"
_NO_STORE: Final = {"cache-control": "no-store"}
# NEL, LINE SEPARATOR, PARAGRAPH SEPARATOR: in JSON they stand in strings only, and raw if they came so
_OTHER_LINE_ENDS: Final = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))


@get("/v1/destinations/{name:str}/profiles", summary="Read the feed", media_type=NDJSON)
async def profiles(
    vault: NamedDependency[Vault],
    destination: NamedDependency[str],
    cursor: FromQuery[str | None] = None,
    limit: FromQuery[int] = release.MAX_LINES,
) -> Response[bytes]:
    """One page of changes as NDJSON; the last line holds the cursor. Everything in it is on record before the first byte."""
    lines = await release.page(vault, destination, cursor, limit)
    return Response(one_line_each(b"".join(lines)), media_type=NDJSON, headers=_NO_STORE)


@post("/v1/destinations/{name:str}/acknowledgements", status_code=200, summary="Say what was carried out")
async def acknowledgements(
    request: Request[Any, Any, Any], vault: NamedDependency[Vault], destination: NamedDependency[str]
) -> Acknowledged:
    """NDJSON lines, each naming an id or cursor up to which removals and retractions were carried out."""
    return Acknowledged(await feedback.acknowledge(vault, destination, await front.read_lines(request)))


@post("/v1/destinations/{name:str}/reports", status_code=200, summary="Report unsubscribes, complaints and bounces")
async def reports(
    request: Request[Any, Any, Any], vault: NamedDependency[Vault], destination: NamedDependency[str]
) -> dict[str, Any]:
    """NDJSON lines `{"id":…,"kind":"unsubscribed|complained|bounced","purpose"?:…,"at":…}`. A report can only lower."""
    return await feedback.report(vault, destination, await front.read_lines(request))


@get(
    "/v1/spaces/default/collections/users/profiles/{identifier:str}/traits",
    summary="Look up one profile's traits",
)
async def traits(
    request: Request[Any, Any, Any],
    identifier: FromPath[str],
    include: FromQuery[str] = "",
    limit: FromQuery[int] = lookup.DEFAULT_LIMIT,
) -> Response[dict[str, Any]]:
    """What the feed would show of the profile that `kind:value` finds, in the shape of Segment's Profile API."""
    # Not injected: the framework would begin a group of tasks for it, a third of what it costs to answer.
    vault, destination = await provide_vault(request), await provide_destination(request)
    found = await lookup.traits(vault, destination, *named(identifier), include_of(include), limit)
    return Response(found, headers=_NO_STORE)


@get(
    "/v1/spaces/default/collections/users/profiles/{identifier:str}/links",
    summary="Look up the accounts that one profile belongs to",
)
async def links(
    identifier: FromPath[str],
    vault: NamedDependency[Vault],
    destination: NamedDependency[str],
    limit: FromQuery[int] = account_links_of.MAX_LINKS,
    next_: Annotated[str, QueryParameter(name="next")] = "",
) -> Response[dict[str, Any]]:
    """The companies and households of the profile that `kind:value` finds, if the destination may know of them."""
    found = await account_links_of.accounts_of_person(vault, destination, *named(identifier), limit, next_)
    return Response(found, headers=_NO_STORE)


@get(
    "/v1/spaces/default/collections/accounts/profiles/{identifier:str}/traits",
    summary="Look up one account's traits",
)
async def account_traits(
    identifier: FromPath[str],
    vault: NamedDependency[Vault],
    destination: NamedDependency[str],
    include: FromQuery[str] = "",
    limit: FromQuery[int] = lookup.DEFAULT_LIMIT,
) -> Response[dict[str, Any]]:
    """What members' calls said of the account that `group_id:value` names: of each trait the newest that may be shown."""
    found = await account_traits_of.traits(vault, destination, *named(identifier), include_of(include), limit)
    return Response(found, headers=_NO_STORE)


@get(
    "/v1/spaces/default/collections/accounts/profiles/{identifier:str}/links",
    summary="Look up the members of one account",
)
async def account_links(
    identifier: FromPath[str],
    vault: NamedDependency[Vault],
    destination: NamedDependency[str],
    limit: FromQuery[int] = account_links_of.MAX_LINKS,
    next_: Annotated[str, QueryParameter(name="next")] = "",
) -> Response[dict[str, Any]]:
    """The people of the account that `group_id:value` names whose membership the destination may know."""
    found = await account_links_of.members(vault, destination, *named(identifier), limit, next_)
    return Response(found, headers=_NO_STORE)


def named(identifier: str) -> tuple[str, str]:
    """Kind and value of `kind:value`. Raises `NotFound` for anything else."""
    kind, colon, value = identifier.partition(":")
    if not colon or not kind or not value:
        raise NotFound(lookup.MISSING)
    return kind, value


def one_line_each(page: bytes) -> bytes:
    """The page with what else counts as a line's end escaped: many readers split there, and a value could break its line."""
    for raw, escaped in _OTHER_LINE_ENDS:
        if raw in page:
            page = page.replace(raw, escaped)
    return page


def _router(*handlers: HTTPRouteHandler) -> Router:
    return Router(
        "/",
        route_handlers=list(handlers),
        guards=[destination_only],
        dependencies={"destination": provide_destination},
        tags=["destinations"],
    )


router = _router(profiles, traits, links, account_traits, account_links)  # what releases values
back = _router(acknowledgements, reports)  # what writes
