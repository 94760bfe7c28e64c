"""What a drop counter is: how many messages, by type, fitting name and reason. Holds names and numbers, never values."""

from typing import Final, NamedTuple

import msgspec

PROPERTY: Final = "property"
TRAIT: Final = "trait"


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


def property_of(kind: str, event: str) -> str:
    """The `type` of a dropped property of a listed event."""
    return f"{PROPERTY}:{kind}:{event}"


def parts_of(kind: str) -> tuple[str, str | None]:
    """A counter's `type` as people read it, and the event `TYPE:NAME` of a property where it is known."""
    front, _, event = kind.partition(":")
    return front, event or None
