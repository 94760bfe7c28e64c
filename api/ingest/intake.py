"""From a request to a source and its clean bytes. Asks who it is before it reads, wherever a header says so."""

from typing import Any, Final

from litestar import Request

from api import body as front
from api.admission import changes_consent
from api.auth import bearer_or_basic
from api.guards import vault_of
from api.limits import OverRate, limits_of, noted
from vault.errors import Invalid, Unauthenticated
from vault.events.clean import scan, tolerate_nan
from vault.events.decode import MAX_BODY, write_key_of
from vault.flows.admit import admit_source
from vault.flows.watch import tell_refused
from vault.sources.store import Source

NO_HEADER: Final = (
    "Send the write key that `profile-vault sources add` printed as user name of HTTP Basic, or as Bearer token: this call"
    " takes it in the header `Authorization` only."
)
GZIP: Final = b"\x1f\x8b"  # no JSON begins so: some clients and proxies compress and do not say it
NO_KEY: Final = (
    "Send the write key that `profile-vault sources add` printed: as user name of HTTP Basic, as Bearer token, "
    "or as `writeKey` in the body."
)


async def known_source(request: Request[Any, Any, Any], secret: str | None, *, acts: bool = False) -> Source:
    """The source of this write key, within its rate. Raises Unauthenticated, RateLimited."""
    source = await _identified(request, secret)
    noted(request, limits_of(request).source(source.source_id, acts=acts))
    return source


async def header_source(request: Request[Any, Any, Any], *, acts: bool = False) -> Source:
    """The source that the `Authorization` header names. Raises Unauthenticated, RateLimited."""
    try:
        return await known_source(request, bearer_or_basic(request.headers.get("authorization")), acts=acts)
    except Unauthenticated:
        raise Unauthenticated(NO_HEADER) from None


async def take_tracking(request: Request[Any, Any, Any]) -> tuple[Source, bytes]:
    """The source and the body of a tracking call: any content type, NaN tolerated (standards section 1.4).

    Raises Unauthenticated, RateLimited, Invalid, TooLarge.
    """
    header = request.headers.get("authorization")
    if header is not None:
        source = await _identified(request, bearer_or_basic(header))
        over = _spent(request, source)
        body = await _body_of(request, source) if over is None else await _saying_choices(request, over)
    else:
        body = await _tracking_body(request)
        source = await _identified(request, write_key_of(body))
        over = _spent(request, source)
        if over is not None and not changes_consent(body):
            raise over
    if over is not None:
        noted(request, limits_of(request).source(source.source_id, acts=True))
    return source, body


async def _identified(request: Request[Any, Any, Any], secret: str | None) -> Source:
    try:
        return await limits_of(request).admit(secret, admit_source(vault_of(request), secret))
    except Unauthenticated:
        raise Unauthenticated(NO_KEY) from None


def _spent(request: Request[Any, Any, Any], source: Source) -> OverRate | None:
    """None if the call is within the source's rate."""
    try:
        noted(request, limits_of(request).source(source.source_id))
    except OverRate as over:
        return over
    return None


async def _saying_choices(request: Request[Any, Any, Any], over: OverRate) -> bytes:
    """The body of a call over the rate, if it changes a consent: that has a rate of its own. Raises `over`."""
    body = await _tracking_body(request)
    if not changes_consent(body):
        raise over
    return body


async def take_beacon(request: Request[Any, Any, Any]) -> tuple[Source, bytes]:
    """The source and the body of a beacon, whose key is in its address: so only keys of client sources, which are public.

    Raises Unauthenticated, RateLimited, Invalid, TooLarge.
    """
    source = await known_source(request, request.query_params.get("writeKey"))
    if source.server:
        raise Unauthenticated(NO_KEY)
    return source, await _body_of(request, source)


async def _body_of(request: Request[Any, Any, Any], source: Source) -> bytes:
    """The body of a source that is known; one that is refused is told to whoever watches it, by its code."""
    try:
        return await _tracking_body(request)
    except Invalid as error:
        await tell_refused(vault_of(request), source, error.reason, error.hint)
        raise


async def _tracking_body(request: Request[Any, Any, Any]) -> bytes:
    encoding = request.headers.get("content-encoding")
    body = await front.read(request.stream(), encoding, limit=MAX_BODY)
    if encoding is None and body.startswith(GZIP):
        body = front.inflate(body, limit=MAX_BODY)
    scan(body)
    return tolerate_nan(body)
