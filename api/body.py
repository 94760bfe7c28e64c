"""The front layer for bodies: bytes from the wire to bytes that a JSON parser may safely see.

Promises: inflating is counted while it happens, and a body that drips is given up (threats G7); what fails is a 400, 408 or
413 of ours, never a 500, and no error holds a byte of the body. Own doors (everything but tracking) are stricter:
`application/json` or NDJSON, no duplicate key, no NaN, no number outside int64 or finite double, no NUL, no lone surrogate
(G3, G4, G5), no unknown member (G13).
Must not know: what a message means.
"""

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterable, Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from api.misfit import misfit
from api.room import GUEST, Guest, enter_desk, room_of, who_of
from vault.errors import Invalid, TooLarge
from vault.events.clean import scan
from vault.flows.feedback import MAX_LINES

MAX_OWN_BYTES: Final = 65_536  # a form, never a document
MAX_FEEDBACK_BYTES: Final = 512_000  # NDJSON of reports: the longest line a contract can mean, 1,000 times
BODY_SECONDS: Final = 30.0  # for a whole body: 500 KB in 30 s is a telephone at the edge of its net
JSON: Final = frozenset({"application/json"})
NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json"})
_INT64: Final = 2**63
_CHUNK: Final = 65_536  # inflate step: at most this much more than the limit is ever held
_GZIP: Final = 16 + zlib.MAX_WBITS  # gzip framing only, no raw deflate

_NO_SUCH_BODY: Final = "The body is not one JSON object with the members and types of this call; /schema lists them."
_Wire = TypeVar("_Wire", bound=msgspec.Struct)


async def received(request: Request[Any, Any, Any], *, limit: int) -> bytes:
    """The whole body of a request, for which there is room. Raises Overloaded, and what `read` raises."""
    guest = request.scope.get(GUEST)
    if not isinstance(guest, Guest):
        guest = room_of(request.app).admit(who_of(request.scope))
        request.scope[GUEST] = guest  # type: ignore[typeddict-unknown-key]  # who answers the request lets it go
    return await read(request.stream(), request.headers.get("content-encoding"), limit=limit, grows=guest.grow)


def _no_matter(_size: int) -> None:
    """Nobody counts."""


async def read(
    stream: AsyncIterable[bytes],
    encoding: str | None,
    *,
    limit: int,
    seconds: float = BODY_SECONDS,
    grows: Callable[[int], None] = _no_matter,
) -> bytes:
    """The whole body, inflated when `encoding` is gzip. `limit` in bytes holds for what came and for what it inflates to.

    `grows` is told of every piece, and may end it.

    Raises:
        TooLarge: over the limit. Invalid: another encoding, a broken or unfinished gzip stream, or a body that was broken
            off, or not there in `seconds`.
    """
    wanted = (encoding or "identity").strip().lower()
    if wanted not in {"gzip", "x-gzip", "identity"}:
        raise Invalid("Send gzip or no content encoding.", code="unsupported_encoding")
    try:
        async with asyncio.timeout(seconds):
            raw = await _whole(stream, limit, grows)
    except TimeoutError:
        raise Invalid(f"A body is sent within {BODY_SECONDS:.0f} seconds.", code="too_slow") from None
    except InternalServerException:  # the framework's word for a client that hung up; nobody reads this answer
        raise Invalid("The body was broken off.", code="incomplete_body") from None
    if wanted == "identity":
        return raw
    body = inflate(raw, limit=limit)
    grows(max(0, len(body) - len(raw)))
    return body


async def _whole(stream: AsyncIterable[bytes], limit: int, grows: Callable[[int], None]) -> bytes:
    """All of it. A bytearray, since a million chunks of one byte must not become a million objects."""
    raw = bytearray()
    async for chunk in stream:
        raw += chunk
        grows(len(chunk))
        if len(raw) > limit:
            raise TooLarge(f"The limit is {limit} bytes.")
    return bytes(raw)


def require_type(content_type: str | None, allowed: frozenset[str] = JSON) -> None:
    """Own doors take JSON types only, so that a foreign page cannot post without a preflight (threats G5)."""
    if (content_type or "").partition(";")[0].strip().lower() not in allowed:
        wanted = "application/json" if allowed is JSON else "NDJSON as application/x-ndjson"
        raise Invalid(f"Send {wanted}: the header Content-Type says what a body is.", code="unsupported_media_type")


async def read_own(request: Request[Any, Any, Any], kind: type[_Wire]) -> _Wire:
    """The body of an own door as its struct. Raises Invalid, TooLarge."""
    require_type(request.headers.get("content-type"))
    raw = await received(request, limit=MAX_OWN_BYTES)
    await enter_desk(request.scope)
    return decode_own(raw, kind)


async def read_lines(request: Request[Any, Any, Any]) -> bytes:
    """The NDJSON of an own door, each line of it strict JSON. Raises Invalid, TooLarge."""
    require_type(request.headers.get("content-type"), NDJSON)
    raw = await received(request, limit=MAX_FEEDBACK_BYTES)
    await enter_desk(request.scope)
    scan(raw)
    lines = [line for line in raw.split(b"\n") if line.strip()]
    if len(lines) > MAX_LINES:
        raise TooLarge(f"At most {MAX_LINES} lines at a time.", code="too_many_lines")
    for line in lines:
        parse_strict(line, code="invalid_line")
    return raw


async def read_nothing(request: Request[Any, Any, Any]) -> None:
    """A call whose path says it all takes no body, or `{}`: members that nothing reads are refused, as everywhere (G13)."""
    raw = await received(request, limit=MAX_OWN_BYTES)
    await enter_desk(request.scope)
    if raw.strip() not in {b"", b"{}"}:
        raise Invalid("This call takes no body.", code="unexpected_body")


def inflate(raw: bytes, *, limit: int) -> bytes:
    """One gzip member, whole and alone, at most `limit` bytes when inflated. Raises TooLarge, Invalid."""
    inflater = zlib.decompressobj(_GZIP)
    out = bytearray()
    pending = raw
    try:
        while pending and not inflater.eof:
            out += inflater.decompress(pending, _CHUNK)
            if len(out) > limit:
                raise TooLarge(f"The limit is {limit} bytes when inflated.")
            pending = inflater.unconsumed_tail
        # the input may be used up while the inflater still holds output back
        while not inflater.eof and (more := inflater.decompress(b"", _CHUNK)):
            out += more
            if len(out) > limit:
                raise TooLarge(f"The limit is {limit} bytes when inflated.")
    except zlib.error:
        raise Invalid("The gzip stream is broken.", code="invalid_gzip") from None
    if not inflater.eof or inflater.unused_data:  # cut short, or a second member or rubbish behind the first
        raise Invalid("The body must be one whole gzip member.", code="invalid_gzip")
    return bytes(out)


def decode_own(body: bytes, kind: type[_Wire]) -> _Wire:
    """A body of an own door as its struct. Raises Invalid, naming members of ours and nothing that was sent."""
    scan(body)
    value = parse_strict(body)
    try:
        return msgspec.convert(value, kind)
    except (ValueError, OverflowError) as error:  # msgspec's are ValueErrors; a time before the first year overflows
        raise Invalid(misfit(error, kind) or _NO_SUCH_BODY, code="invalid_json") from None


def parse_strict(body: bytes, *, code: str = "invalid_json") -> Any:
    """One JSON value that reads the same to every parser; `scan` has passed it. Raises Invalid with this code."""
    try:
        value = json.loads(
            # as text: given bytes, it would take a byte order mark, and UTF-16
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_int64,
        )
        _check_text(value)
    except (ValueError, RecursionError):
        raise Invalid(_NO_SUCH_BODY, code=code) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _refuse(_constant: str) -> Any:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _int64(text: str) -> int:
    if len(text) > 20 or not -_INT64 <= (number := int(text)) < _INT64:
        raise ValueError("a number out of range")
    return number


def _check_text(value: Any) -> None:
    """No NUL and no lone surrogate, in keys or values. The depth is known to be small here."""
    if isinstance(value, str):
        value.encode("utf-8")  # UnicodeEncodeError, a ValueError, for a lone surrogate
        if "\0" in value:
            raise ValueError("NUL")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_text(key)
            _check_text(member)
    elif isinstance(value, list):
        for member in value:
            _check_text(member)
