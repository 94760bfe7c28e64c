"""From a request to a source and its clean bytes. Asks who it is before it reads, wherever a header says so."""

from typing import Any, Final

from litestar import Request

from api import body as front
from api.auth import bearer_or_basic
from api.guards import vault_of
from vault.errors import Unauthenticated
from vault.events.clean import scan, tolerate_nan
from vault.events.decode import MAX_BODY, write_key_of
from vault.flows.admit import admit_source
from vault.sources.store import Source

GZIP: Final = b"\x1f\x8b"  # no JSON begins so: some clients and proxies compress and do not say it
NO_KEY: Final = (
    "Send the write key that `profile-vault sources add` printed: as user name of HTTP Basic, as Bearer token, "
    "or as `writeKey` in the body."
)


async def header_source(request: Request[Any, Any, Any]) -> Source:
    """The source that the `Authorization` header names. Raises Unauthenticated."""
    return await _admit(request, bearer_or_basic(request.headers.get("authorization")))


async def take_tracking(request: Request[Any, Any, Any]) -> tuple[Source, bytes]:
    """The source and the body of a tracking call: any content type, NaN tolerated (standards section 1.4).

    Raises Unauthenticated, Invalid, TooLarge.
    """
    if request.headers.get("authorization") is not None:
        source = await header_source(request)
        return source, await _tracking_body(request)
    body = await _tracking_body(request)
    return await _admit(request, write_key_of(body)), body


async def take_beacon(request: Request[Any, Any, Any]) -> tuple[Source, bytes]:
    """The source and the body of a beacon, whose key is in its address: so only keys of client sources, which are public.

    Raises Unauthenticated, Invalid, TooLarge.
    """
    source = await _admit(request, request.query_params.get("writeKey"))
    if source.server:
        raise Unauthenticated(NO_KEY)
    return source, await _tracking_body(request)


async def _admit(request: Request[Any, Any, Any], secret: str | None) -> Source:
    try:
        return await admit_source(vault_of(request), secret)
    except Unauthenticated:
        raise Unauthenticated(NO_KEY) from None


async def _tracking_body(request: Request[Any, Any, Any]) -> bytes:
    encoding = request.headers.get("content-encoding")
    body = await front.read(request.stream(), encoding, limit=MAX_BODY)
    if encoding is None and body.startswith(GZIP):
        body = front.inflate(body, limit=MAX_BODY)
    scan(body)
    return tolerate_nan(body)
