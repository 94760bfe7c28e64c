"""Cross-origin calls of browser SDKs. Write keys travel in a header or body and cookies never do, so any origin may ask."""

from typing import Final

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

# What SDKs send (standards section 1.4; RudderStack's those of its retries). The wildcard is for what their next release adds:
# it covers everything but `authorization`, and older browsers do not know it.
_HEADERS: Final = (
    "authorization",
    "content-type",
    "content-encoding",
    "x-retry-count",
    "anonymousid",
    "sentat",
    "rsa-recovered",
    "rsa-retry-attempt",
    "rsa-retry-reason",
    "rsa-since-first-attempt",
    "rsa-since-last-attempt",
    "*",
)
PREFLIGHT_HEADERS: Final = {
    "access-control-allow-headers": ", ".join(_HEADERS),
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-max-age": "86400",  # a day; browsers cap it lower themselves
}
# What a page may read beside the body: when to come again, and the number to quote.
EXPOSED: Final = "retry-after, x-ratelimit-reset, request-id"
# What an answer that never came to this layer needs, for a page to read its status and when to come again.
ANY_ORIGIN: Final = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED.encode()),
]


class OpenToBrowsers:
    """Middleware: every answer of these routes, errors too, may be read by the page that asked."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` is the next layer."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding to the start of the answer; Litestar itself answers OPTIONS, with 204."""
        preflight = scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS"

        async def open_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                headers["access-control-allow-origin"] = "*"
                if preflight:
                    headers.update(PREFLIGHT_HEADERS)
                else:
                    headers["access-control-expose-headers"] = EXPOSED
            await send(message)

        await self._app(scope, receive, open_send)
