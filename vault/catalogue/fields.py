"""Traits, events and their properties: the typed fields that may be stored, and the purposes each is collected for."""

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.numbers import MAX_EVENT, MAX_TRAIT
from vault.catalogue.purposes import Purpose, purpose_mask
from vault.catalogue.taxonomy import DATA_CATEGORIES
from vault.catalogue.toml import Section, TomlFile
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


EVENT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _.:-]{0,79}", re.ASCII)  # design section 4: looks like a name
MAX_PROPERTY: Final = 0xFFFF


def read_category(section: Section) -> str:
    """The Fideslang category of a field."""
    return section.choice("category", DATA_CATEGORIES)


def read_traits(file: TomlFile, purposes: Mapping[str, Purpose]) -> dict[str, Trait]:
    """The traits of `traits.toml`."""
    taken: dict[int, str] = {}
    return {section.name: _read_trait(section, taken, purposes) for section in file.tables()}


def read_events(file: TomlFile, purposes: Mapping[str, Purpose]) -> dict[tuple[str, str], Event]:
    """The events of `events.toml` by type and name."""
    taken: dict[int, str] = {}
    events: dict[tuple[str, str], Event] = {}
    for group in file.tables():
        if group.name not in get_args(EventType):
            group.problem(None, "is no type of call", f"known are {', '.join(get_args(EventType))}")
            continue
        for section in file.tables((group.name,)):
            event = _read_event(section, group.name, taken, purposes)
            events[group.name, event.name] = event
    return events


def _read_trait(section: Section, taken: dict[int, str], purposes: Mapping[str, Purpose]) -> Trait:
    section.check_name()
    trait = Trait(
        number=section.number(1, MAX_TRAIT, taken),
        name=section.name,
        type=section.choice("type", get_args(FieldType)),
        category=read_category(section),
        purposes=purpose_mask(section, "purposes", purposes),
        sensitivity=section.choice("sensitivity", get_args(Sensitivity), "normal"),
        authority=section.choice("authority", get_args(Authority), "any"),
        search=section.choice("search", ("none", "exact", "words"), "none"),
        retention=section.duration("retention"),
    )
    section.done()
    _check_special(section, trait.sensitivity, trait.purposes, purposes)
    return trait


def _read_event(section: Section, kind: str, taken: dict[int, str], purposes: Mapping[str, Purpose]) -> Event:
    if EVENT_NAME.fullmatch(section.name) is None and (section.name != "*" or kind == "track"):
        section.problem(None, "has an unfit name", "use a letter, then at most 79 letters, digits, spaces and `_.:-`")
    mask = purpose_mask(section, "purposes", purposes)
    numbers: dict[int, str] = {}
    event = Event(
        number=section.number(1, MAX_EVENT, taken),
        name=section.name,
        type=kind,  # type: ignore[arg-type]  # one of EventType: the caller has looked
        purposes=mask,
        sensitivity=section.choice("sensitivity", get_args(Sensitivity), "normal"),
        retention=section.duration("retention"),
        authority=section.choice("authority", get_args(Authority), "any"),
        properties={one.name: _read_property(one, mask, numbers, purposes) for one in section.inside("properties")},
    )
    section.done()
    _check_special(section, event.sensitivity, event.purposes, purposes)
    return event


def _read_property(section: Section, mask: int, taken: dict[int, str], purposes: Mapping[str, Purpose]) -> Property:
    section.check_name()
    found = Property(
        number=section.number(1, MAX_PROPERTY, taken),
        name=section.name,
        type=section.choice("type", get_args(FieldType)),
        category=read_category(section),
        purposes=purpose_mask(section, "purposes", purposes, within=mask, required=False),
    )
    section.done()
    return found


def _check_special(section: Section, sensitivity: str, mask: int, purposes: Mapping[str, Purpose]) -> None:
    """Special data only for purposes that name their condition of Art. 9(2)."""
    if sensitivity != "special":
        return
    for purpose in purposes.values():
        if purpose.mask & mask and purpose.art9 is None:
            section.problem(
                "purposes", f"names `{purpose.name}`, which has no `art9`", "special data needs a condition"
            )
