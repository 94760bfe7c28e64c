"""Sends bytes to a recipient's URL. Connects to a checked, pinned address only, follows nothing, reads no reply body.

Promises: the certificate is checked for the host that was named, the connection goes to the address that was checked; no
proxy of the environment; redirects are failures; the whole attempt has one deadline, however slowly the other side drips
(threats H1, H2); before the first byte of the message the sender is asked once more (C6). Must not know what it carries.
Never logs a URL.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx
import msgspec

from vault.destinations.address import Network, Resolve, resolve_target, system_resolve
from vault.errors import Invalid

DEADLINE_SECONDS: Final = 20.0  # Standard Webhooks: 15 to 30 seconds
MAX_RETRY_AFTER: Final = 24 * 3600  # seconds; a recipient cannot park its own deletions for longer

_BEFORE_FIRST_BYTE: Final = ".send_request_headers.started"  # httpcore's name for the moment after TLS

# Both write URLs at INFO, and a recipient's URL may hold its secret (threats H2).
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Delivered(msgspec.Struct, frozen=True, tag="delivered"):
    """The recipient said 2xx."""

    status: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It did not take it. `retry_after` is in seconds, where the recipient named one."""

    reason: Literal["address", "unreachable", "timeout", "redirect", "refused", "gone", "stale"]
    status: int | None = None
    retry_after: int | None = None


Outcome = Delivered | Failed


class _Stale(Exception):
    """What was to be sent is too old."""


class Transport:
    """One sender for all webhooks of a process. Close it with `async with`."""

    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolve: Resolve = system_resolve,
        tls: ssl.SSLContext | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        """`networks`: private networks that the operator opened. `deadline`: seconds for one whole attempt."""
        self._networks = tuple(networks)
        self._resolve = resolve
        self._deadline = deadline
        # No connection is kept: the pool knows addresses only, and would hand one host's connection to another host that
        # lives at the same address, with the certificate unchecked for it.
        self._client = httpx.AsyncClient(
            verify=tls or True,
            trust_env=False,
            follow_redirects=False,
            timeout=deadline,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, fresh: Callable[[], bool] = lambda: True
    ) -> Outcome:
        """One attempt. Never raises for what the other side does.

        `fresh` is asked once the connection stands, however long that took; if it says no, nothing is sent: `stale`.
        """
        try:
            async with asyncio.timeout(self._deadline):
                return await self._post(url, headers, body, fresh)
        except TimeoutError:
            return Failed("timeout")
        except _Stale:
            return Failed("stale")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, fresh: Callable[[], bool]) -> Outcome:
        try:
            target = await resolve_target(url, self._networks, self._resolve)
        except Invalid:
            return Failed("address")
        except (OSError, ValueError):
            return Failed("unreachable")

        async def trace(event: str, _details: dict[str, Any]) -> None:
            if event.endswith(_BEFORE_FIRST_BYTE) and not fresh():
                raise _Stale

        sent = {**headers, "host": target.host_header, "accept-encoding": "identity", "user-agent": "profile-vault"}
        try:
            async with self._client.stream(
                "POST", target.url, headers=sent, content=body, extensions={"sni_hostname": target.host, "trace": trace}
            ) as response:
                return _outcome(response)
        except httpx.TimeoutException:
            return Failed("timeout")
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError):
            return Failed("unreachable")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()


def _outcome(response: httpx.Response) -> Outcome:
    """What a status means to the sender. The body is not read: nothing in it can matter, or be too large."""
    status = response.status_code
    if response.is_success:
        return Delivered(status)
    if response.is_redirect or 300 <= status < 400:
        return Failed("redirect", status)
    if status == httpx.codes.GONE:
        return Failed("gone", status)
    return Failed("refused", status, _retry_after(response.headers.get("retry-after", "")))


def _retry_after(text: str) -> int | None:
    """Whole seconds. The form with a date is left out: its meaning hangs on two clocks."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_RETRY_AFTER)):
        return None
    return min(int(text), MAX_RETRY_AFTER)
