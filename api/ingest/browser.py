"""What browser SDKs ask for beside their messages: where to send to, which consent categories mean anything, nothing to load.

Promises: no answer is built from a header of the request. The address is `public_url`, else that of the socket the request
came in on, so that a spoofed `Host` or `X-Forwarded-Host` cannot send a page's events elsewhere, not through a cache either
(threats G17). Only keys of client sources work here: a server's key has no business in a browser.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from api import body as front
from api.auth import bearer_or_basic
from api.ingest.intake import known_source
from api.ingest.wire import Taken
from vault.errors import NotFound, Unavailable
from vault.flows.vault import Vault
from vault.sources.store import Source

CACHE: Final = {"cache-control": "public, max-age=300"}  # a new category or address is known to every page in 5 minutes
MAX_SWALLOWED: Final = 65_536  # bytes of a client's metrics; browsers send no more while a page unloads


@get("/projects/{key:str}/settings", summary="Settings for analytics.js", cache_control=None)
async def settings(
    key: FromPath[str], request: Request[Any, Any, Any], vault: NamedDependency[Vault]
) -> Response[dict[str, Any]]:
    """Where the browser SDK sends to, and the consent categories that mean anything here. Client sources only."""
    await _client_source(request, key)
    scheme, host = public_address(vault, request)
    return Response(_settings(vault, key, scheme, f"{host}/v1"), headers=CACHE)


@post("/m", status_code=200, summary="Swallow the SDK's own metrics")
async def metrics(request: Request[Any, Any, Any]) -> Taken:
    """Counters of analytics.js about itself. `settings` turns them off; a page that sends them all the same is not refused."""
    await front.received(request, limit=MAX_SWALLOWED)
    return Taken()


@get("/sourceConfig", summary="Source config for RudderStack's browser SDK", cache_control=None)
async def source_config(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """What rudder-sdk-js loads before it sends: a source that is on, without destinations and without reports on itself."""
    # The address alone decides an answer that caches may keep for everyone; a header decides one that nobody keeps.
    asked = request.query_params.get("writeKey")
    key = asked or bearer_or_basic(request.headers.get("authorization"))
    source = await _client_source(request, key)
    quiet = {"enabled": False}
    config = {"statsCollection": {"errors": quiet, "metrics": quiet}}
    told: dict[str, Any] = {
        "id": f"source-{source.source_id}",
        "name": source.name,
        "writeKey": key,
        "enabled": True,
        "workspaceId": "vault",
        "config": config,
        "destinations": [],
        "dataplanes": {},
    }
    return Response({"source": told}, headers=CACHE if asked else {"cache-control": "no-store"})


async def _client_source(request: Request[Any, Any, Any], key: str | None) -> Source:
    source = await known_source(request, key)
    if source.server:
        raise NotFound
    return source


def public_address(vault: Vault, request: Request[Any, Any, Any]) -> tuple[str, str]:
    """(scheme, host with port and path) under which browsers reach the vault. Raises Unavailable if nothing says so."""
    configured = vault.settings.public_url
    if configured is not None:
        parts = urlsplit(configured)
        return parts.scheme, parts.netloc + parts.path
    server = request.scope.get("server")
    if server is None or server[0].startswith("/"):
        hint = "Set public_url: on a unix socket nothing else says where browsers reach the vault."
        raise Unavailable(hint, code="no_public_url")
    host, port = server
    host = f"[{host}]" if ":" in host else host
    return "http", host if port is None else f"{host}:{port}"


def _settings(vault: Vault, key: str, protocol: str, api_host: str) -> dict[str, Any]:
    segment = {
        "apiKey": key,
        "apiHost": api_host,  # else the SDK would send to Segment
        "protocol": protocol,
        "unbundledIntegrations": [],
        "addBundledMetadata": False,
        "deliveryStrategy": {"strategy": "standard"},
        # in no category: always on, so that a withdrawal is sent, too. Who may use what is judged in the vault
        "consentSettings": {"categories": []},
    }
    enabled = {"__default": {"enabled": True}}
    return {
        "integrations": {"Segment.io": segment},
        "plan": {"track": enabled, "identify": enabled, "group": enabled},
        "metrics": {"sampleRate": 0, "host": api_host, "protocol": protocol},
        "consentSettings": {
            "allCategories": sorted(vault.catalogue.categories),
            "hasUnmappedDestinations": True,  # else the SDK shuts itself off once everything is refused
        },
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
