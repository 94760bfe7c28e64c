"""How often one credential may ask: a token bucket for each principal and kind of call; one for all strangers together.

Promises: a bucket belongs to a principal, never to an address, so no header moves anyone into another (threats G17); the
number of buckets has an end; a source that spent its rate may still say choices. Strangers cost a question to the database
each: when too many came, only secrets that were good before are asked about, so an attack locks nobody out who is at work
(G21). What was good before is remembered by digest and decides nothing but that; identity is asked anew each time.

Buckets are this process's own; the rates of the settings are shared out by `processes` (ADR 0062). Times are seconds of a
clock that is passed in.
"""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from litestar.connection import ASGIConnection

from api.room import WHO
from vault.config import Limits
from vault.errors import RateLimited, Unauthenticated, Unavailable

Timer = Callable[[], float]

MAX_BUCKETS: Final = 10_000  # the longest unused is forgotten, and so is full again
MAX_KNOWN: Final = 10_000  # digests of 32 bytes
ADMIT_SECONDS: Final = 5.0  # to find out who asks
VERDICT: Final = "profile_vault.rate"  # where the scope of a request carries its verdict
# seconds of their rate that principals may spend at once
SOURCE_BURST: Final = 2.0
BURST: Final = 10.0
MINUTE: Final = 60.0

_Found = TypeVar("_Found")


class Verdict(NamedTuple):
    """What a bucket said: its size, what is left, and whole seconds until a request passes again (0: now)."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """As clients of Segment read them."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset),
        }


class OverRate(RateLimited):
    """A bucket was empty. `kind` is that of the bucket, for the figures."""

    def __init__(self, kind: str, verdict: Verdict) -> None:
        super().__init__(_HINTS[kind], retry_after=max(1, verdict.reset))
        self.kind = kind
        self.verdict = verdict


class Bucket:
    """Tokens that come back at a steady rate, up to `size`."""

    __slots__ = ("_at", "_left", "rate", "size")

    def __init__(self, rate: float, size: float, now: float) -> None:
        """Full. `rate` in tokens a second."""
        self.rate = rate
        self.size = max(1.0, size)
        self._left = self.size
        self._at = now

    def left(self, now: float) -> float:
        """Tokens there now."""
        self._left = min(self.size, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now
        return self._left

    def take(self, now: float) -> tuple[bool, Verdict]:
        """One token, if there is one."""
        passes = self.left(now) >= 1.0
        if passes:
            self._left -= 1.0
        missing = 1.0 - self._left
        reset = 0 if missing <= 0 else max(1, math.ceil(missing / self.rate))
        return passes, Verdict(int(self.size), int(self._left), reset)


class RateLimits:
    """The buckets of one process."""

    def __init__(self, limits: Limits, *, timer: Timer = time.monotonic) -> None:
        """Rates as the settings have them."""
        self._limits = limits
        self._timer = timer
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._known: OrderedDict[bytes, None] = OrderedDict()
        rate = limits.stranger_rate / limits.processes
        self._strangers = Bucket(rate, rate * BURST, timer())

    async def admit(self, secret: str | None, ask: Awaitable[_Found]) -> _Found:
        """What `ask` finds out about the holder of this secret. Raises what it raises, and RateLimited for strangers."""
        if secret is None:
            return await ask  # nobody is asked about nothing, so it costs nothing
        digest = _digest(secret)
        if digest not in self._known and self._strangers.left(self._timer()) < 1.0:
            if asyncio.iscoroutine(ask):
                ask.close()
            raise RateLimited("Too many unknown credentials come in; try again.", code="too_many_strangers")
        try:
            async with asyncio.timeout(ADMIT_SECONDS):
                found = await ask
        except TimeoutError:
            raise Unavailable("The database does not answer.", code="database_unavailable") from None
        except Unauthenticated:
            self._strangers.take(self._timer())
            self._known.pop(digest, None)
            raise
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    def name_of(self, secret: str | None) -> str:
        """What the gates call the holder of a secret that was good before; all others have one name together, and it is empty."""
        digest = b"" if secret is None else _digest(secret)
        return digest[:12].hex() if digest in self._known else ""

    def source(self, source_id: int, *, acts: bool = False) -> Verdict:
        """A call of a source. Choices have a bucket of their own. Raises RateLimited."""
        rate = float(self._limits.source_rate)
        return self._spend("acts" if acts else "source", str(source_id), rate, SOURCE_BURST * rate)

    def destination(self, name: str, rate: int, *, way_back: bool = False) -> Verdict:
        """A call of a destination by its contract's rate, in requests a minute. The way back has a bucket of its own."""
        return self._spend("way_back" if way_back else "destination", name, rate / MINUTE, rate)

    def lookup(self, name: str) -> Verdict:
        """A lookup of a destination. Raises RateLimited."""
        rate = float(self._limits.lookup_rate)
        return self._spend("lookup", name, rate, BURST * rate)

    def staff(self, staff_id: str) -> Verdict:
        """A call of a member of staff, or of their program. Raises RateLimited."""
        rate = float(self._limits.staff_rate)
        return self._spend("staff", staff_id, rate, BURST * rate)

    @property
    def count(self) -> int:
        """How many buckets there are."""
        return len(self._buckets)

    def _spend(self, kind: str, name: str, rate: float, size: float) -> Verdict:
        """One token of this bucket. Rate and size are those of all processes together."""
        now = self._timer()
        share = self._limits.processes
        key = (kind, name)
        bucket = self._buckets.get(key)
        if bucket is None or bucket.rate != rate / share:  # a new contract has a new rate
            bucket = self._buckets[key] = Bucket(rate / share, size / share, now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        passes, verdict = bucket.take(now)
        if not passes:
            raise OverRate(kind, verdict)
        return verdict


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


_HINTS: Final = {
    "source": "Send more messages a call, or raise `source_rate`.",
    "acts": "Send several choices a call, or raise `source_rate`.",
    "destination": "The contract's `rate` is its number of requests a minute.",
    "way_back": "The contract's `rate` is its number of requests a minute.",
    "lookup": "Read the feed instead, or raise `lookup_rate`.",
    "staff": "Ask more slowly, or raise `staff_rate`.",
}


def limits_of(app: Any) -> RateLimits:
    """The buckets of this application; made at first use, when the vault and its settings are there."""
    made = app.state.get("limits")
    if not isinstance(made, RateLimits):
        vault = app.state.get("vault")
        made = RateLimits(Limits() if vault is None else vault.settings.limits)
        app.state.limits = made
    return made


async def identified(
    connection: ASGIConnection[Any, Any, Any, Any], secret: str | None, ask: Awaitable[_Found]
) -> _Found:
    """What `ask` finds out about the holder of this secret; from here on the gates know the caller by name."""
    limits = limits_of(connection.app)
    found = await limits.admit(secret, ask)
    connection.scope[WHO] = limits.name_of(secret)  # type: ignore[typeddict-unknown-key]
    return found


def noted(connection: ASGIConnection[Any, Any, Any, Any], verdict: Verdict) -> None:
    """Let the answer tell it."""
    connection.scope[VERDICT] = verdict  # type: ignore[typeddict-unknown-key]
