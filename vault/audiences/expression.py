"""Is a person in an audience: a condition judged on what its purpose may see. Pure.

Three answers inside: yes, no, unknown. Outside only "surely in" counts: what is unknown is never true, nor is its
negation (design section 8), so a person about whom we may know nothing is neither in "spent 200 or more" nor in "none of
those who spent 200 or more". Values of different types cannot be compared: that is unknown too, never a guess.
"""

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from vault.catalogue.audiences import All, Condition, None_, Test
from vault.errors import Unreadable

Known = Mapping[str, Any]
"""Trait name to JSON value, numbers exact (`read_value`). A name that is absent, or null, is unknown."""

_exact: Final = msgspec.json.Decoder(float_hook=Decimal)


def judge(condition: Condition, known: Known) -> bool:
    """True only if the person is surely in."""
    return _judge(condition, known) is True


def read_value(raw: bytes) -> Any:
    """A JSON value for `judge`; numbers with a fraction become exact decimals. Raises `Unreadable`."""
    try:
        return _exact.decode(raw)
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def traits_of(condition: Condition) -> frozenset[str]:
    """The names of the traits that a condition reads: what must be opened to judge it."""
    if isinstance(condition, Test):
        return frozenset((condition.trait,))
    return frozenset().union(*(traits_of(part) for part in condition.conditions))


def _judge(condition: Condition, known: Known) -> bool | None:
    if isinstance(condition, Test):
        value = known.get(condition.trait)
        return None if value is None else _holds(condition.op, value, condition.value)
    answers = [_judge(part, known) for part in condition.conditions]
    if not answers:  # an empty group would let everyone in; the catalogue refuses it, and so does the judge
        return None
    if isinstance(condition, All):
        return _all(answers)
    some = _some(answers)
    if isinstance(condition, None_):
        return None if some is None else not some
    return some


def _all(answers: Iterable[bool | None]) -> bool | None:
    answers = list(answers)
    if False in answers:
        return False
    return None if None in answers else True


def _some(answers: Iterable[bool | None]) -> bool | None:
    answers = list(answers)
    if True in answers:
        return True
    return None if None in answers else False


def _holds(op: str, value: Any, wanted: Any) -> bool | None:
    if op == "exists":
        return True  # an unknown one never comes here: that it does not exist cannot be known
    if op == "equals":
        return _equal(value, wanted)
    if op == "not_equals":
        equal = _equal(value, wanted)
        return None if equal is None else not equal
    if op == "one_of":
        return _some(_equal(value, one) for one in wanted)
    if op in ("contains", "starts_with"):
        return _text(op, value, wanted)
    if op in ("before", "after"):
        return _time(op, value, wanted)
    return _number(op, value, wanted)


def _equal(value: Any, wanted: Any) -> bool | None:
    if _is_number(value) and _is_number(wanted):
        return _decimal(value) == _decimal(wanted)
    if type(value) is not type(wanted):  # also keeps true apart from 1, which Python does not
        return None
    return bool(value == wanted)


def _number(op: str, value: Any, wanted: Any) -> bool | None:
    if not (_is_number(value) and _is_number(wanted)):
        return None
    left, right = _decimal(value), _decimal(wanted)
    if op == "less":
        return left < right
    if op == "at_most":
        return left <= right
    if op == "greater":
        return left > right
    if op == "at_least":
        return left >= right
    return None


def _text(op: str, value: Any, wanted: Any) -> bool | None:
    if op == "contains" and isinstance(value, list):
        return _some([_equal(one, wanted) for one in value] or [False])
    if not (isinstance(value, str) and isinstance(wanted, str)):
        return None
    return wanted in value if op == "contains" else value.startswith(wanted)


def _time(op: str, value: Any, wanted: Any) -> bool | None:
    left, right = _instant(value), _instant(wanted)
    if left is None or right is None:
        return None
    return left < right if op == "before" else left > right


def _instant(value: Any) -> dt.datetime | None:
    """An ISO 8601 date or time; without a zone it is UTC, a date is its first instant."""
    if isinstance(value, dt.datetime):
        at = value
    elif isinstance(value, dt.date):
        at = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    elif isinstance(value, str):
        try:
            at = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    else:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _decimal(value: float | Decimal) -> Decimal:
    """A number as people wrote it: 0.1 from a policy file is one tenth, not the nearest binary fraction."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
