"""Computed traits: their declarations. The arithmetic is `vault.profile.computed`."""

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.fields import Event, FieldType, read_category
from vault.catalogue.numbers import MAX_COMPUTED
from vault.catalogue.purposes import Purpose, purpose_mask
from vault.catalogue.toml import Section, TomlFile

ComputedKind = Literal["sum", "count", "first", "last"]


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """One trait derived from the events of one kind, for some of the purposes that these were collected for."""

    number: int
    name: str
    kind: ComputedKind
    event: int  # event number
    property: str | None = None  # what is summed or kept; None: count events, or keep the time at which they were said
    currency_property: str | None = None  # a sum counts an event only if this property ...
    currency: str | None = None  # ... holds this currency (ISO 4217)
    type: FieldType
    category: str
    purposes: int
    version: int  # raised when the definition changes: states of another version count for nothing
    title: str


CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_MAX_VERSION: Final = 1_000_000
_TYPES: Final[dict[str, tuple[FieldType, ...]]] = {"sum": ("number",), "count": ("integer",)}


def read_computed(
    file: TomlFile, purposes: Mapping[str, Purpose], events: Mapping[tuple[str, str], Event]
) -> dict[str, Computed]:
    """The computed traits of `computed.toml`."""
    taken: dict[int, str] = {}
    return {section.name: _read(section, taken, purposes, events) for section in file.tables()}


def _read(
    section: Section,
    taken: dict[int, str],
    purposes: Mapping[str, Purpose],
    events: Mapping[tuple[str, str], Event],
) -> Computed:
    section.check_name()
    name = section.choice("event", [name for kind, name in events if kind == "track"])
    event = events.get(("track", name))
    computed = Computed(
        number=section.number(1, MAX_COMPUTED, taken),
        name=section.name,
        kind=section.choice("kind", get_args(ComputedKind)),
        event=0 if event is None else event.number,
        property=section.optional("property"),
        currency_property=section.optional("currency_property"),
        currency=section.optional("currency"),
        type=section.choice("type", get_args(FieldType)),
        category=read_category(section),
        purposes=purpose_mask(section, "purposes", purposes),
        version=section.integer("version", 1, _MAX_VERSION),
        title=section.text("title"),
    )
    section.done()
    _check(section, computed)
    if event is not None:
        _check_sources(section, computed, event, purposes)
    return computed


def _check(section: Section, computed: Computed) -> None:
    if computed.kind == "sum" and computed.property is None:
        section.problem("kind", "is sum, of no `property`", "name the property that is summed")
    if computed.type not in _TYPES.get(computed.kind, (computed.type,)):
        section.problem("type", f"does not fit a {computed.kind}", f"write {_TYPES[computed.kind][0]}")
    if (computed.currency is None) != (computed.currency_property is None):
        section.problem(None, "has only one of `currency` and `currency_property`", "write both or neither")
    if computed.currency is not None and CURRENCY.fullmatch(computed.currency) is None:
        section.problem("currency", "is no currency", "write three capitals, as in USD")


def _check_sources(section: Section, computed: Computed, event: Event, purposes: Mapping[str, Purpose]) -> None:
    """A trait may be computed only for purposes that everything it is computed from was collected for."""
    allowed = event.purposes
    for key, name in (("property", computed.property), ("currency_property", computed.currency_property)):
        if name is None:
            continue
        found = event.properties.get(name)
        if found is None:
            section.problem(key, f"is `{name}`, which the event does not have", "name one of its properties")
            continue
        allowed &= found.purposes
        if key == "property" and computed.kind == "sum" and found.type not in ("number", "integer"):
            section.problem(key, f"is `{name}`, which is no number", "sum a number")
    for purpose in purposes.values():
        if purpose.mask & computed.purposes & ~allowed:
            section.problem("purposes", f"names `{purpose.name}`, which its source is not collected for", "take it out")
