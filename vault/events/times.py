"""When something was said: strict reading of the times in a message, and the correction of the sender's clock. Pure.

Times are microseconds since 1970 UTC. ASCII digits only (threats B10); a time that cannot be read is no time, and the
message then counts as said when it was received.
"""

import datetime as dt
import re
from functools import lru_cache
from typing import Final

from vault.clock import Micros, from_datetime

# RFC 3339 and what ISO 8601 clients make of it: seconds and zone may be missing (then UTC), offsets with or without colon.
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?)?",
    re.ASCII,
)
_LAST_SECOND: Final = 59
# What nearly every client sends: the end of it is read here, the minute is looked up.
_USUAL: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):([0-5][0-9])\.([0-9]{3})Z", re.ASCII)


def read_time(text: str | None) -> int | None:
    """The instant that a text names, in microseconds; before 1970 it is negative. None if it names none.

    A leap second is read as the last microsecond before it.
    """
    if not text:
        return None
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        start, second, milliseconds = usual.groups()
        minute = _minute(start)
        return None if minute is None else minute + int(second) * 1_000_000 + int(milliseconds) * 1_000
    found = _TIME.fullmatch(text)
    return None if found is None else _instant(found)


@lru_cache(maxsize=1024)  # messages come soon after they were said
def _minute(text: str) -> int | None:
    """The instant at which a minute begins; None if there is no such."""
    found = _TIME.fullmatch(text)
    return None if found is None else _instant(found)


def _instant(found: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    micros = int(((fraction or "") + "000000")[:6])
    seconds = int(second or 0)
    if seconds == _LAST_SECOND + 1:
        seconds, micros = _LAST_SECOND, 999_999
    try:
        at = dt.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), seconds, micros, tzinfo=dt.UTC
        )
    except ValueError:
        return None
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:  # a day has 24 hours of 60 minutes
            return None
        offset = (int(hours) * 60 + int(minutes)) * (-60_000_000 if sign == "-" else 60_000_000)
    return from_datetime(at) - offset


def said_at(said: int | None, sent: int | None, received_at: Micros) -> Micros:
    """When it was said by our clock: `received - (sent - said)` as Segment corrects it (standards section 1.2).

    Never later than received, never before 1970 (threats C2). Without a sending time the sender's clock is believed.
    """
    if said is None:
        return received_at
    corrected = said if sent is None else received_at - (sent - said)
    return Micros(max(0, min(corrected, received_at)))
