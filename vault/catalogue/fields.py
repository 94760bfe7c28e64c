"""Traits, events and their properties: the typed fields that may be stored, and the purposes each is collected for."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.numbers import MAX_ACCOUNT_TRAIT, MAX_EVENT, MAX_TRAIT
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
    """One message of the tracking API that may be stored. The properties of `group` calls are account traits."""

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
GROUP: Final = "group"  # the type of call that tells of accounts


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
            if group.name == GROUP:
                _check_account_traits(section, event, events)
    return events


def account_traits(events: Iterable[Event]) -> dict[str, Property]:
    """The account traits of all group calls by name, each for every purpose that one of the calls collects it for."""
    found: dict[str, Property] = {}
    for event in events:
        for one in event.properties.values() if event.type == GROUP else ():
            known = found.get(one.name, one)
            found[one.name] = msgspec.structs.replace(known, purposes=known.purposes | one.purposes)
    return found


def _check_account_traits(section: Section, event: Event, events: Mapping[tuple[str, str], Event]) -> None:
    """An account has one trait of a name, whichever call says it: the same number, type and category in all of them."""
    known = account_traits(other for other in events.values() if other is not event)
    numbers = {one.number: one.name for one in known.values()}
    for one in event.properties.values():
        same = known.get(one.name)
        if same is not None and (same.number, same.type, same.category) != (one.number, one.type, one.category):
            section.problem(
                "properties",
                f"has `{one.name}` otherwise than another group call",
                "an account trait has one number, type and category",
            )
        if numbers.get(one.number, one.name) != one.name:
            section.problem(
                "properties",
                f"gives `{one.name}` the number of `{numbers[one.number]}`",
                "account traits of all group calls are numbered together",
            )


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
        properties={
            one.name: _read_property(one, mask, numbers, purposes, MAX_ACCOUNT_TRAIT if kind == GROUP else MAX_PROPERTY)
            for one in section.inside("properties")
        },
    )
    section.done()
    _check_special(section, event.sensitivity, event.purposes, purposes)
    return event


def _read_property(
    section: Section, mask: int, taken: dict[int, str], purposes: Mapping[str, Purpose], highest: int
) -> Property:
    section.check_name()
    found = Property(
        number=section.number(1, highest, taken),
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
