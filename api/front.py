"""The shape of a request, judged before it is routed: address, query, headers. Bodies are judged in `api.body`.

Promises: what two readers could read in two ways is refused, so that a proxy's rule and the vault's route never differ
(threats G14): a path that says the same by other bytes, a parameter or a deciding header that comes twice. What is taken
is small: the framework keeps addresses and queries it has seen, and must not be made to keep much (G7). A header that
claims another sender, host or method decides nothing here or later (G17). No error holds a byte of the request.
Must not know: routes, but for the tracking paths, whose real clients double a slash.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from vault.errors import Invalid, TooLarge

MAX_URL: Final = 8_192  # bytes of path and query; the longest of ours, a lookup of 200 traits, has some 6,000
MAX_HEAD: Final = 32_768  # bytes of all header names and values; browsers behind proxies send some 2,000
MAX_HEADERS: Final = 100  # real clients send 10 to 30
MAX_PARAMETERS: Final = 16  # of a query; ours name at most 3, tracking clients add one against caches

# Those that decide something: who asks, how the body reads, where it ends. Twice, each reader would pick another.
_SINGLE: Final = frozenset(
    {b"authorization", b"content-encoding", b"content-length", b"content-type", b"host", b"transfer-encoding"}
)
_HIDDEN_SEPARATOR: Final = re.compile(rb"%(?:2f|5c)", re.IGNORECASE)  # a slash or backslash that is no separator yet
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff\ufffd]")  # \ufffd: what a server makes of broken UTF-8
_REPEATED_SLASH: Final = re.compile("/{2,}")
_TRACKING: Final = re.compile(r"/v1/(?:identify|track|page|screen|group|alias|batch|import|[itpsgab])/?")


def check(scope: Mapping[str, Any]) -> None:
    """Pass a request of good shape. Raises Invalid, TooLarge."""
    raw = bytes(scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape"))
    query = bytes(scope.get("query_string", b""))
    if len(raw) + len(query) > MAX_URL:
        raise TooLarge(f"Path and query have at most {MAX_URL} bytes.", code="url_too_long")
    check_headers(scope["headers"])
    if scope.get("http_version") == "1.1" and all(name != b"host" for name, _ in scope["headers"]):
        raise Invalid("HTTP/1.1 needs a Host header.", code="invalid_header")
    _check_path(raw, scope["path"])
    _check_query(query)


def check_version(version: str) -> None:
    """Pass HTTP/1.0 and 1.1. The parser takes others, too: a line without a version is HTTP/0.9 to it. Raises Invalid."""
    if version not in {"1.0", "1.1"}:
        raise Invalid("Speak HTTP/1.1.", code="invalid_http")


def check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Pass headers that are few, small, and say once what decides. Raises Invalid, TooLarge."""
    seen = set()
    size = 0
    for count, (name, value) in enumerate(headers, 1):
        size += len(name) + len(value)
        if count > MAX_HEADERS or size > MAX_HEAD:
            raise TooLarge(f"At most {MAX_HEADERS} headers and {MAX_HEAD} bytes of them.", code="headers_too_large")
        if name in _SINGLE:
            if name in seen:
                raise Invalid("A header that may come once came twice.", code="repeated_header")
            seen.add(name)
        if name == b"upgrade":  # the parser would end the message here, and read its body as the next request
            raise Invalid("Speak HTTP/1.1 and ask for no upgrade.", code="invalid_header")
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Invalid("Transfer-Encoding is chunked or absent.", code="invalid_header")


def _check_path(raw: bytes, path: str) -> None:
    """One address, one spelling. Letters may be percent-encoded; what separates or climbs may not."""
    if _HIDDEN_SEPARATOR.search(raw) or _UNFIT.search(path):
        raise Invalid("The path holds bytes that no path here has.", code="invalid_path")
    if any(segment in {".", ".."} for segment in path.split("/")):
        raise Invalid("The path holds dot segments.", code="invalid_path")
    # SDKs configured with a trailing slash after the host send `//v1/batch`
    if "//" in path and not _TRACKING.fullmatch(_REPEATED_SLASH.sub("/", path)):
        raise Invalid("The path holds empty segments.", code="invalid_path")


def _check_query(query: bytes) -> None:
    if not query:
        return
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:  # not ASCII, not UTF-8 behind the percent signs, or too many
        raise Invalid(f"A query is at most {MAX_PARAMETERS} parameters in UTF-8.", code="invalid_query") from None
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Invalid("A parameter that may come once came twice.", code="repeated_parameter")
    if any(_UNFIT.search(text) for pair in pairs for text in pair):
        raise Invalid("The query holds characters that no parameter has.", code="invalid_query")
