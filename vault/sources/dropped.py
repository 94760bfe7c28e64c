"""What a drop counter is: how many messages, by type, fitting name and reason. Holds names and numbers, never values."""

from typing import NamedTuple

import msgspec


class Drop(NamedTuple):
    """The thing that was not stored, and why. `name` is a catalogue or fit name, else `(unfit name)`."""

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
