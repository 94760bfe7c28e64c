"""Which addresses the vault may call: public ones, and the private networks that the operator names (threats H1).

A host name is resolved once; every address that it has must be allowed, and the connection goes to one of those, never
to a second look-up. The deny list is our own: Python 3.11 calls NAT64, 6to4 and 192.0.0.192 global.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from vault.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) to the addresses of the host as text. Raises OSError when it has none."""

MAX_URL: Final = 2048  # what old clients and proxies take

_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_LOOKS_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# Printable ASCII without space and backslash, which parsers read differently.
_CLEAN: Final = re.compile(r"[!-\[\]-~]+")

# IANA special-purpose registries, read against IPv4 as a whole.
_DENIED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 only global unicast is open, which leaves out loopback, mapped, NAT64, unique local and link local; within it
# these are closed: Teredo and other protocol assignments, documentation, 6to4 (each can carry a private IPv4 address).
_GLOBAL_6: Final = IPv6Network("2000::/3")
_DENIED_6: Final = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class Target(NamedTuple):
    """An address that may be called, and what to say there."""

    scheme: str
    host: str  # for the Host header and the certificate
    port: int
    address: str  # where to connect; IPv6 without brackets
    path: str  # with the query

    @property
    def url(self) -> str:
        """The URL that connects to the pinned address. It may hold secrets in its path: never log it."""
        place = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{place}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """The Host header: without the port where it is the usual one."""
        place = f"[{self.host}]" if ":" in self.host else self.host
        return place if self.port == _PORTS[self.scheme] else f"{place}:{self.port}"


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that the machine's resolver gives."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def allowed(address: Address, networks: Sequence[Network]) -> bool:
    """May this address be called? `networks` are the private networks that the operator opened."""
    if any(address in network for network in networks):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_4)
    return address.scope_id is None and address in _GLOBAL_6 and not any(address in network for network in _DENIED_6)


def split_url(url: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path with query). Raises `Invalid` for what two parsers could read in two ways."""
    if len(url) > MAX_URL or not _CLEAN.fullmatch(url):
        raise Invalid("A webhook URL is printable ASCII of at most 2048 letters.", code="webhook_url")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        raise Invalid("The webhook URL cannot be read.", code="webhook_url") from None
    if scheme not in _PORTS or "@" in parts.netloc or parts.fragment or port == 0:
        raise Invalid("A webhook URL is https, without user, password and fragment.", code="webhook_url")
    if not _is_address(host) and (not _HOST.fullmatch(host) or _LOOKS_NUMERIC.fullmatch(host)):
        raise Invalid("The host of a webhook URL is a plain name or a plain address.", code="webhook_url")
    query = f"?{parts.query}" if parts.query else ""
    return scheme, host, port or _PORTS[scheme], (parts.path or "/") + query


async def resolve_target(url: str, networks: Sequence[Network] = (), resolve: Resolve = system_resolve) -> Target:
    """The one address to connect to. Raises `Invalid` (`webhook_url`, `webhook_address`), OSError if none is found.

    Plain http is for the operator's own networks only.
    """
    scheme, host, port, path = split_url(url)
    texts = [host] if _is_address(host) else await resolve(host, port)
    addresses = [ip_address(text) for text in texts]
    if not addresses:
        raise OSError("no address")
    if not all(allowed(address, networks) for address in addresses):
        raise Invalid("The webhook's host leads to an address that is not open to webhooks.", code="webhook_address")
    if scheme == "http" and not all(any(address in network for network in networks) for address in addresses):
        raise Invalid("Outside the operator's own networks a webhook is https.", code="webhook_address")
    return Target(scheme, host, port, str(addresses[0]), path)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
