"""Computed traits: their declarations. The arithmetic is `vault.profile.computed`."""

from typing import Literal

import msgspec

from vault.catalogue.fields import FieldType

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
