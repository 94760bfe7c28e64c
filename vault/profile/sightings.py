"""The identifiers of one kind that a profile is known by: one field, whose JSON is a list of sightings.

Each sighting is [value, first said at, last said at, source]. Pure. Which of them a recipient gets is its contract's word
(`last`, `first`, `all`); an address that was replaced is outdated, so `last` never falls back to an older one.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from vault.errors import Unreadable

Which = Literal["last", "first", "all"]


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """One value and when it was said; times in microseconds since 1970 UTC."""

    value: str
    first_said_at: int
    last_said_at: int
    source: int

    def __repr__(self) -> str:
        return "Sighting(...)"


MOST_BYTES: Final = (
    16_384  # of the sightings of one kind in one set of purposes: each new one is sealed with all of them
)
_decoder: Final = msgspec.json.Decoder(list[Sighting])


def read_sightings(plaintext: bytes) -> list[Sighting]:
    """The sightings of a field. Raises `Unreadable`."""
    try:
        return _decoder.decode(plaintext)
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def write_sightings(sightings: Iterable[Sighting]) -> bytes:
    """The JSON of a field, in order of value, so that the same sightings give the same bytes."""
    return msgspec.json.encode(sorted(sightings, key=_by_value))


def join(sightings: Iterable[Sighting]) -> list[Sighting]:
    """One sighting a value, in whatever order and from however many members they came; ordered by value."""
    joined: dict[str, Sighting] = {}
    for new in sightings:
        old = joined.get(new.value)
        joined[new.value] = new if old is None else _both(old, new)
    return sorted(joined.values(), key=_by_value)


def fitting(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Those said last, as many as fit into `MOST_BYTES`: whoever orders every day has some hundred order numbers of late.

    The older values are forgotten here; their tags still find the person, and the events that named them keep them.
    """
    left = MOST_BYTES - 2
    kept = []
    for one in sorted(sightings, key=lambda s: (-s.last_said_at, s.value)):
        left -= len(msgspec.json.encode(one)) + 1
        if left < 0:
            break
        kept.append(one)
    return kept


def choose(sightings: Iterable[Sighting], which: Which) -> tuple[str, ...]:
    """The values that a contract asks for; those said last stand in front."""
    joined = join(sightings)
    if not joined:
        return ()
    if which == "first":
        return (min(joined, key=lambda s: (s.first_said_at, s.value)).value,)
    newest_first = sorted(joined, key=lambda s: (-s.last_said_at, s.value))
    return (newest_first[0].value,) if which == "last" else tuple(s.value for s in newest_first)


def _both(a: Sighting, b: Sighting) -> Sighting:
    later = max(a, b, key=lambda s: (s.last_said_at, s.source))
    return Sighting(a.value, min(a.first_said_at, b.first_said_at), later.last_said_at, later.source)


def _by_value(sighting: Sighting) -> str:
    return sighting.value
