"""Audiences: their declarations, conditions as a tree of structs. Judging is `vault.audiences.expression`.

A leaf tests one trait, plain or computed. A group holds at least one condition: an empty one would let everyone in.
"""

from decimal import Decimal
from typing import Literal, get_args

import msgspec

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
