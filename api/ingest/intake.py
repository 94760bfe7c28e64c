"""From a request to a source and its bytes. Asks who it is before it reads, wherever a header says so.

Promises: before the source is known nothing is done to a body but that it is gathered, inflated and searched for its key;
what a parser, or whoever spares one the worst, does to it is done in a slot of that source (`look_into`).
"""

from contextlib import suppress
from typing import Any, Final, NamedTuple

from litestar import Request

from api import body as front
from api.admission import MAX_URGENT, arriving, changes_consent
from api.auth import bearer_or_basic
from api.guards import vault_of
from api.limits import OverRate, identified, limits_of, noted
from api.room import GUEST, Guest, who_of
from vault.errors import Invalid, TooLarge, Unauthenticated
from vault.events.clean import scan
from vault.events.decode import MAX_BODY, keys_in, write_key_of
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


class Taken(NamedTuple):
    """What came, before anything of it was read: that waits for a slot."""

    source: Source
    body: bytes
    key: str | None = None  # what the source was found by, if the body itself named it


async def known_source(request: Request[Any, Any, Any], secret: str | None, *, acts: bool = False) -> Source:
    """The source of this write key, within its rate. Raises Unauthenticated, RateLimited."""
    source = await _identified(request, secret)
    noted(request, limits_of(request.app).source(source.source_id, acts=acts))
    return source


async def header_source(request: Request[Any, Any, Any], *, acts: bool = False) -> Source:
    """The source that the `Authorization` header names. Raises Unauthenticated, RateLimited."""
    try:
        return await known_source(request, bearer_or_basic(request.headers.get("authorization")), acts=acts)
    except Unauthenticated:
        raise Unauthenticated(NO_HEADER) from None


async def take_tracking(request: Request[Any, Any, Any]) -> Taken:
    """The source and the body of a tracking call: any content type. The body is not looked into, but for its key.

    Raises Unauthenticated, RateLimited, Invalid, TooLarge, Overloaded.
    """
    header = request.headers.get("authorization")
    if header is None:
        return await _take_by_body(request)
    source = await _identified(request, bearer_or_basic(header))
    over = _spent(request, source)
    if over is not None:
        body = await _saying_choices(request, over)
    else:
        arriving(request)
        body = await _body_of(request, source)
    if over is not None:
        noted(request, limits_of(request.app).source(source.source_id, acts=True))
    return Taken(source, body)


async def take_beacon(request: Request[Any, Any, Any]) -> Taken:
    """The source and the body of a beacon, whose key is in its address: so only keys of client sources, which are public.

    Raises Unauthenticated, RateLimited, Invalid, TooLarge, Overloaded.
    """
    source = await known_source(request, request.query_params.get("writeKey"))
    if source.server:
        raise Unauthenticated(NO_KEY)
    arriving(request)
    return Taken(source, await _body_of(request, source))


async def look_into(request: Request[Any, Any, Any], taken: Taken) -> Source:
    """In its slot: a body that a parser may see, and the source that it is truly from. Raises as `take_tracking` does."""
    source = taken.source
    try:
        scan(taken.body)
    except Invalid as error:
        await tell_refused(vault_of(request), source, error.reason, error.hint)
        raise
    if taken.key is None:
        return source
    key = write_key_of(taken.body)
    if key == taken.key:
        return source
    other = await _identified(request, key)
    if other.source_id != source.source_id:
        noted(request, limits_of(request.app).source(other.source_id))
    return other


async def _take_by_body(request: Request[Any, Any, Any]) -> Taken:
    """Who names the source in the body is a stranger until it is there."""
    body = await _tracking_body(request)
    source, key = await _named_by(request, body)
    over = _spent(request, source)
    if over is not None:
        if not changes_consent(body):
            raise over
        noted(request, limits_of(request.app).source(source.source_id, acts=True))
    guest = request.scope.get(GUEST)
    if isinstance(guest, Guest):
        guest.is_of(who_of(request.scope))
    return Taken(source, body, key)


async def _named_by(request: Request[Any, Any, Any], body: bytes) -> tuple[Source, str]:
    """The first source that is known of those that a body may name."""
    for key in keys_in(body):
        with suppress(Unauthenticated):
            return await _identified(request, key), key
    raise Unauthenticated(NO_KEY)


async def _identified(request: Request[Any, Any, Any], secret: str | None) -> Source:
    try:
        return await identified(request, secret, admit_source(vault_of(request), secret))
    except Unauthenticated:
        raise Unauthenticated(NO_KEY) from None


def _spent(request: Request[Any, Any, Any], source: Source) -> OverRate | None:
    """None if the call is within the source's rate."""
    try:
        noted(request, limits_of(request.app).source(source.source_id))
    except OverRate as over:
        return over
    return None


async def _saying_choices(request: Request[Any, Any, Any], over: OverRate) -> bytes:
    """The body of a call over the rate, if it changes a consent: that has a rate of its own. Raises `over`."""
    try:
        body = await _tracking_body(request, MAX_URGENT)
    except TooLarge:
        raise over from None
    if not changes_consent(body):
        raise over
    return body


async def _body_of(request: Request[Any, Any, Any], source: Source) -> bytes:
    """The body of a source that is known; one that is refused is told to whoever watches it, by its code."""
    try:
        return await _tracking_body(request)
    except Invalid as error:
        await tell_refused(vault_of(request), source, error.reason, error.hint)
        raise


async def _tracking_body(request: Request[Any, Any, Any], limit: int = MAX_BODY) -> bytes:
    body = await front.received(request, limit=limit)
    if request.headers.get("content-encoding") is None and body.startswith(GZIP):
        body = front.inflate(body, limit=limit)
    return body
