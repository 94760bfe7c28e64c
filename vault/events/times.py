"""When something was said: strict reading of the times in a message, and the correction of the sender's clock. Pure.

Times are microseconds since 1970 UTC. ASCII digits only (threats B10); a time that cannot be read is no time, and the
message then counts as said when it was received.
"""

import datetime as dt
import re
from typing import Final

from vault.clock import Micros, from_datetime

# RFC 3339 and what ISO 8601 clients make of it: seconds and zone may be missing (then UTC), offsets with or without colon.
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?)?",
    re.ASCII,
)
_LAST_SECOND: Final = 59


def read_time(text: str | None) -> int | None:
    """The instant that a text names, in microseconds; before 1970 it is negative. None if it names none.

    A leap second is read as the last microsecond before it.
    """
    found = _TIME.fullmatch(text) if text else None
    if found is None:
        return None
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
