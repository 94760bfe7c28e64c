"""Audiences: their declarations, conditions as a tree of structs. Judging is `vault.audiences.expression`.

A leaf tests one trait, plain or computed. A group holds at least one condition: an empty one would let everyone in.
"""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any as Anything
from typing import Final, Literal, cast, get_args

import msgspec

from vault.catalogue.numbers import MAX_AUDIENCE
from vault.catalogue.purposes import Purpose
from vault.catalogue.toml import Section, TomlFile

Operator = Literal[
    "equals",
    "not_equals",
    "one_of",
    "less",
    "at_most",
    "greater",
    "at_least",
    "contains",
    "starts_with",
    "exists",
    "before",
    "after",
]
OPERATORS: frozenset[str] = frozenset(get_args(Operator))

Scalar = str | int | Decimal | bool
Value = Scalar | tuple[Scalar, ...]


class Test(msgspec.Struct, frozen=True, tag="test"):
    """One trait compared with one value (`one_of`: with several; `before`, `after`: with RFC 3339 text)."""

    __test__ = False  # not a test class

    trait: str
    op: Operator
    value: Value


class All(msgspec.Struct, frozen=True, tag="all"):
    """Every condition holds."""

    conditions: "tuple[Condition, ...]"


class Any(msgspec.Struct, frozen=True, tag="any"):
    """At least one condition holds."""

    conditions: "tuple[Condition, ...]"


class None_(msgspec.Struct, frozen=True, tag="none"):  # noqa: N801 - the word of the file; `None` is taken
    """Surely no condition holds."""

    conditions: "tuple[Condition, ...]"


Condition = All | Any | None_ | Test


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """A set of profiles, judged on what its purpose may see."""

    number: int
    name: str
    title: str
    purpose: int  # purpose number
    condition: Condition
    anonymous: bool = False  # may hold profiles without a user id or e-mail address


_MAX_DEPTH: Final = 8  # nesting that a reviewer can still read
TEXT_OPS: Final = frozenset({"starts_with", "contains"})
NUMBER_OPS: Final = frozenset({"less", "at_most", "greater", "at_least"})
TIME_OPS: Final = frozenset({"before", "after"})


def read_audiences(file: TomlFile, purposes: Mapping[str, Purpose], readable: Mapping[str, int]) -> dict[str, Audience]:
    """The audiences of `audiences.toml`; `readable` maps traits, plain and computed, to the purposes that may see them."""
    taken: dict[int, str] = {}
    return {section.name: _read(section, taken, purposes, readable) for section in file.tables()}


def traits_in(condition: Condition) -> frozenset[str]:
    """The names of the traits that a condition reads."""
    if isinstance(condition, Test):
        return frozenset((condition.trait,))
    return frozenset().union(*(traits_in(part) for part in condition.conditions))


def _read(
    section: Section, taken: dict[int, str], purposes: Mapping[str, Purpose], readable: Mapping[str, int]
) -> Audience:
    section.check_name()
    purpose = purposes.get(section.choice("purpose", purposes))
    audience = Audience(
        number=section.number(1, MAX_AUDIENCE, taken),
        name=section.name,
        title=section.text("title"),
        purpose=0 if purpose is None else purpose.number,
        condition=_condition(section, section.raw("condition"), 1),
        anonymous=section.flag("anonymous"),
    )
    section.done()
    for trait in sorted(traits_in(audience.condition)):
        if trait not in readable:
            section.problem("condition", f"reads `{trait}`, which is no trait", "declare it, or correct the name")
        elif purpose is not None and not readable[trait] & purpose.mask:
            section.problem("condition", f"reads `{trait}`, which `{purpose.name}` may not see", "use another trait")
    return audience


def _condition(section: Section, raw: Anything, depth: int) -> Condition:
    """One node of the tree; a faulty one is noted and reads as an empty group."""
    empty = All(())
    if not isinstance(raw, dict) or depth > _MAX_DEPTH:
        section.problem("condition", "is no condition", 'write { trait = "…", at_least = 1 } or { all = [ … ] }')
        return empty
    for word, group in (("all", All), ("any", Any), ("none", None_)):
        if word in raw:
            parts = raw[word]
            if len(raw) != 1 or not isinstance(parts, list) or not parts:
                section.problem("condition", f"has a faulty `{word}`", "write it alone, with at least one condition")
                return empty
            return group(tuple(_condition(section, part, depth + 1) for part in parts))
    operators = [key for key in raw if key != "trait"]
    trait = raw.get("trait")
    if not isinstance(trait, str) or len(operators) != 1 or operators[0] not in OPERATORS:
        section.problem("condition", "has a faulty test", f"write `trait` and one of {', '.join(sorted(OPERATORS))}")
        return empty
    return Test(trait, cast("Operator", operators[0]), _value(section, operators[0], raw[operators[0]]))


def _value(section: Section, operator: str, value: Anything) -> Value:
    if operator == "one_of":
        if isinstance(value, list) and value and all(_is_scalar(item) for item in value):
            return tuple(value)
        section.problem("condition", "has a faulty `one_of`", "write a list of texts or numbers")
        return ()
    fits = _is_scalar(value)
    if operator in TEXT_OPS:
        fits = isinstance(value, str)
    elif operator in NUMBER_OPS:
        fits = fits and isinstance(value, int | Decimal) and not isinstance(value, bool)
    elif operator in TIME_OPS:
        if isinstance(value, dt.date | dt.datetime):
            value = value.isoformat()
        fits = isinstance(value, str) and _is_time(value)
    elif operator == "exists":
        fits = value is True  # that a trait does not exist cannot be known, so it cannot be asked
    if not fits:
        section.problem("condition", f"gives `{operator}` a value that does not fit", "see docs/reference/policies.md")
        return ""
    return cast("Value", value)


def _is_scalar(value: Anything) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, Decimal) and value.is_finite())


def _is_time(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
