"""Every error as one `application/problem+json` (RFC 9457). The one table from error code to HTTP status.

Promises: no answer and no log line holds anything that was sent (threats G6): texts are the fixed sentences of
`vault.errors` and hints made of catalogue names. What nobody expected answers 500 `internal`, and leaves one log line
with the type of the exception only, since its text may hold values. Bodies also carry `code` and `message` at the top,
as tracking clients parse; lookup answers add `error`, as Segment's Profile API has it.
"""

from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from vault.errors import Invalid, NotFound, Overloaded, RateLimited, TooLarge, Unauthenticated, VaultError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:profile-vault:error:"
REFUSAL: Final = "profile_vault.refusal"  # where the scope of a request carries the error that was answered
RETRY_AFTER: Final = 2  # seconds; what is unavailable is usually a restart, and clients add their own back-off

# code of a family -> (status, title). A more exact code inherits from its family; docs/reference/errors.md lists all.
STATUSES: Final[dict[str, tuple[int, str]]] = {
    "invalid_request": (400, "Invalid request"),
    "too_large": (413, "Too large"),
    "rate_limited": (429, "Too many requests"),
    "unauthenticated": (401, "Not authenticated"),
    "forbidden": (403, "Forbidden"),
    "withheld": (403, "Withheld"),
    "not_found": (404, "Not found"),
    "conflict": (409, "Conflict"),
    "gone": (410, "Gone"),
    "integrity": (500, "Integrity failure"),
    "unavailable": (503, "Unavailable"),
    "locked": (503, "Locked"),
    "overloaded": (503, "Overloaded"),
    "config": (500, "Misconfigured"),
    "policy": (500, "Policy unusable"),
    "error": (500, "Error"),
    "internal": (500, "Internal error"),
}
# Codes whose status is not that of their family.
EXACT: Final[dict[str, tuple[int, str]]] = {
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "Not acceptable"),
    "retry": (503, "Try again"),  # a conflict of ours, not of the caller: tracking clients retry 5xx only
    "unsupported_media_type": (415, "Unsupported media type"),
    "url_too_long": (414, "Address too long"),
    "headers_too_large": (431, "Headers too large"),
    "too_slow": (408, "Too slow"),  # tracking clients send again after a 408
}
_BY_STATUS: Final = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
_HINTS: Final = {405: "Use a method that the header Allow of this answer names."}
_SEGMENTS: Final = {"rate_limited": "rate_limit_error"}  # codes that clients of the Profile API know by another name
_log = structlog.get_logger("api")


def status_of(error: VaultError) -> tuple[int, str]:
    """HTTP status and title of an error: by its exact code, else by its family, the nearest class that has one."""
    if error.reason in EXACT:
        return EXACT[error.reason]
    if error.reason in STATUSES:
        return STATUSES[error.reason]
    for family in type(error).__mro__:
        if issubclass(family, VaultError) and family.code in STATUSES:
            return STATUSES[family.code]
    return STATUSES["internal"]


def body_of(code: str, status: int, title: str, message: str) -> dict[str, Any]:
    """The members of every error body."""
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
    }


def answer_vault_error(request: Request[Any, Any, Any], error: VaultError) -> Response[dict[str, Any]]:
    """What the vault refused, told by its fixed sentence and hint."""
    status, title = status_of(error)
    request.scope[REFUSAL] = error  # type: ignore[typeddict-unknown-key]
    if status >= 500 and not isinstance(error, Overloaded):
        _log.error("request.failed", code=error.reason, route=_route(request))
    message = f"{error.sentence} {error.hint}".strip() if status < 500 else error.sentence
    answer = _response(request, error.reason, status, title, message, error.hint if status < 500 else "")
    if isinstance(error, RateLimited):
        answer.headers["retry-after"] = str(error.retry_after)
    return answer


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """What Litestar refused before a handler ran. Its own text may repeat the input, so it is dropped."""
    status = error.status_code
    if status >= 500:
        return answer_unexpected(request, error)
    if status == 413:
        return answer_vault_error(request, TooLarge())
    if status == 404:
        return answer_vault_error(request, NotFound())
    if status == 401:
        return answer_vault_error(request, Unauthenticated())
    hint = _HINTS.get(status, "Compare the path, its parameters and their types with /schema.")
    told = answer_vault_error(request, Invalid(hint, code=_BY_STATUS.get(status, "invalid_request")))
    if status == 405 and (allowed := (error.headers or {}).get("allow")):
        told.headers["allow"] = ", ".join(sorted(allowed.split(", ")))  # methods of ours; RFC 9110 asks for them
    return told


def answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """A fault of ours. The type is logged and nothing else: text, arguments and traceback may hold values."""
    _log.error("request.fault", exception=type(error).__name__, route=_route(request))
    status, title = STATUSES["internal"]
    return _response(request, "internal", status, title, "The vault failed; its log names the kind of fault.")


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Any]] = {
    VaultError: answer_vault_error,
    HTTPException: answer_http_error,
    Exception: answer_unexpected,
}


def _response(
    request: Request[Any, Any, Any], code: str, status: int, title: str, message: str, hint: str = ""
) -> Response[dict[str, Any]]:
    body = body_of(code, status, title, message)
    if _route(request).startswith("/v1/spaces/"):
        body["error"] = {"code": _SEGMENTS.get(code, code), "message": hint or message}
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=_headers(status))


def _headers(status: int) -> dict[str, str]:
    headers = {"cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="profile-vault", Bearer realm="profile-vault"'
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER)
    if status in {408, 413}:
        headers["connection"] = "close"  # what is left of the body would be read for nothing
    return headers


def bare(error: VaultError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """(status, headers, body) of a refusal where no framework has a request yet: before routing, or before HTTP is whole."""
    status, title = status_of(error)
    body = msgspec.json.encode(body_of(error.reason, status, title, f"{error.sentence} {error.hint}".strip()))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **_headers(status)}
    return status, [(name.encode(), value.encode()) for name, value in headers.items()], body


def _route(request: Request[Any, Any, Any]) -> str:
    """The route template: never the path, which may hold an identifier."""
    return str(request.scope.get("path_template") or "(none)")
