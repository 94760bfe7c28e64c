"""The one clock. Times inside the vault are whole microseconds since 1970-01-01 UTC (`Micros`); datetimes live at the doors."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, NewType, Protocol

Micros = NewType("Micros", int)

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the time. Tests pass their own; everything else passes `SystemClock`."""

    def now(self) -> Micros:
        """Microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Micros:
        """Microseconds since 1970-01-01 UTC."""
        return Micros(time.time_ns() // 1000)


def to_datetime(at: Micros) -> datetime:
    """The same instant as an aware UTC datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=at)


def from_datetime(at: datetime) -> Micros:
    """The same instant in microseconds. Raises ValueError for a datetime without a zone."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return Micros((at - _EPOCH) // timedelta(microseconds=1))


def isoformat(at: Micros) -> str:
    """RFC 3339 in UTC with milliseconds, as in `2026-11-23T20:20:42.123Z`."""
    return to_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(at: Micros) -> int:
    """Whole days since 1970-01-01 UTC."""
    return at // DAY
