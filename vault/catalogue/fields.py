"""Traits, events and their properties: the typed fields that may be stored, and the purposes each is collected for."""

from typing import Literal

import msgspec

from vault.clock import Micros

FieldType = Literal["text", "number", "integer", "boolean", "date", "time", "list", "object"]
Sensitivity = Literal["normal", "special"]  # special: GDPR Art. 9
Authority = Literal["any", "server"]  # which class of source may write it
EventType = Literal["track", "page", "screen", "group"]


class Trait(msgspec.Struct, frozen=True, kw_only=True):
    """A named, typed field of the profile."""

    number: int
    name: str
    type: FieldType
    category: str  # Fideslang data category
    purposes: int  # mask of what it may be collected for
    sensitivity: Sensitivity = "normal"
    authority: Authority = "any"
    search: Literal["none", "exact", "words"] = "none"
    retention: Micros | None = None  # shorter than that of its purposes, or None


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """A named, typed field of one event. Its number is unique within the event."""

    number: int
    name: str
    type: FieldType
    category: str
    purposes: int  # mask; part of the event's


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the tracking API that may be stored. Of `group` calls the traits are the properties."""

    number: int
    name: str  # `*`: any name of that type (page, screen and group only)
    type: EventType
    purposes: int
    sensitivity: Sensitivity = "normal"  # special: the name itself is sealed, its stored number is 0
    retention: Micros | None = None
    authority: Authority = "any"
    properties: dict[str, Property]
