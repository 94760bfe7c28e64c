"""What a drop counter is: how many messages, by type, fitting name and reason. Holds names and numbers, never values."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

PROPERTY: Final = "property"
TRAIT: Final = "trait"
MOST_OWED: Final = 1_000  # counters of a source that wait for a database: names are the senders' to choose


class Drop(NamedTuple):
    """The thing that was not stored, and why. `name` is a catalogue or fit name, else `(unfit name)` or `(sensitive name)`.

    `type` is that of the message; `trait`; or of a property `property:TYPE:EVENT`, the event as the policies list it.
    """

    type: str
    name: str
    reason: str


class DropCount(msgspec.Struct, frozen=True):
    """A counter as it is read: `count` drops between `first_day` and `last_day` (days since 1970-01-01 UTC)."""

    type: str
    name: str
    reason: str
    count: int
    first_day: int
    last_day: int


class Uncounted:
    """Drops of messages that are durable, not yet added to the counters: of each source, at most `MOST_OWED` of them."""

    __slots__ = ("_by_source",)

    def __init__(self) -> None:
        """Nothing is owed."""
        self._by_source: dict[int, Counter[Drop]] = {}

    def owe(self, source_id: int, counts: Mapping[Drop, int]) -> None:
        """These are to be counted. Of more than the limit the rarest are forgotten."""
        owed = self._by_source.setdefault(source_id, Counter())
        owed.update(counts)
        if len(owed) > MOST_OWED:
            self._by_source[source_id] = Counter(dict(owed.most_common(MOST_OWED)))

    def take(self, source_id: int) -> Mapping[Drop, int]:
        """What is owed, for the caller to count, or to owe again."""
        return self._by_source.pop(source_id, {})

    def __repr__(self) -> str:
        return f"Uncounted({len(self._by_source)})"


def property_of(kind: str, event: str) -> str:
    """The `type` of a dropped property of a listed event."""
    return f"{PROPERTY}:{kind}:{event}"


def parts_of(kind: str) -> tuple[str, str | None]:
    """A counter's `type` as people read it, and the event `TYPE:NAME` of a property where it is known."""
    front, _, event = kind.partition(":")
    return front, event or None
