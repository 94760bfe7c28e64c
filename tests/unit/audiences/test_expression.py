"""Claims about judging: surely in, or not in. What is unknown counts for nobody, whatever is built around it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.audiences.expression import judge, read_value, traits_of
from vault.catalogue.audiences import All, Condition, None_, Operator, Test, Value
from vault.catalogue.audiences import Any as AnyOf
from vault.errors import Unreadable

NAMES = ["a", "b", "c"]
KNOWN = st.dictionaries(
    st.sampled_from(NAMES),
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "xy", "2026-01-01"]),
)
TESTS = st.builds(
    Test,
    st.sampled_from(NAMES),
    st.sampled_from(
        ["equals", "not_equals", "less", "at_most", "greater", "at_least", "contains", "exists", "before", "after"]
    ),
    st.integers(-3, 3) | st.booleans() | st.sampled_from(["x", "xy", "2026-06-01"]),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    TESTS,
    lambda inner: st.builds(
        lambda group, parts: group(tuple(parts)),
        st.sampled_from([All, AnyOf, None_]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def holds(op: Operator, value: Any, wanted: Value) -> bool:
    return judge(Test("a", op, wanted), {"a": value})


@pytest.mark.parametrize(
    ("op", "value", "wanted", "answer"),
    [
        ("equals", "x", "x", True), ("equals", "x", "X", False), ("equals", 1, 1, True), ("equals", 1, Decimal("1.00"), True),
        ("equals", 0.1, Decimal("0.1"), True), ("equals", True, 1, False), ("equals", 1, True, False), ("equals", "1", 1, False),
        ("not_equals", "x", "y", True), ("not_equals", "x", "x", False), ("not_equals", "1", 1, False),
        ("one_of", "x", ("y", "x"), True), ("one_of", "x", ("y",), False), ("one_of", True, (1, 2), False),
        ("less", 1, 2, True), ("less", 2, 2, False), ("at_most", 2, 2, True), ("at_most", 3, 2, False),
        ("greater", 3, 2, True), ("greater", 2, 2, False), ("at_least", 2, 2, True), ("at_least", 1, 2, False),
        ("at_least", Decimal("199.99"), 200, False), ("at_least", Decimal("200.00"), 200, True),
        ("at_least", "300", 200, False), ("at_least", True, 0, False), ("less", float("nan"), 1, False),
        ("contains", "shoes and socks", "socks", True), ("contains", "shoes", "socks", False),
        ("contains", ["a", "b"], "b", True), ("contains", ["a", 1], "b", False), ("contains", 5, "5", False),
        ("starts_with", "shoes", "sho", True), ("starts_with", "shoes", "hoe", False), ("starts_with", ["sho"], "sho", False),
        ("exists", "", True, True), ("exists", False, True, True), ("exists", None, True, False),
        ("before", "2026-01-01", "2026-01-02", True), ("before", "2026-01-01T00:00:00Z", "2026-01-01", False),
        ("before", "2026-01-01T01:00:00+02:00", "2026-01-01", True), ("after", "2026-01-01T00:00:01", "2026-01-01T00:00:00Z", True),
        ("after", "soon", "2026-01-01", False), ("after", 5, "2026-01-01", False), ("before", "2026-01-01", "later", False),
    ],
)  # fmt: skip
def test_each_operator_means_what_its_name_says(op: Operator, value: Any, wanted: Value, answer: bool) -> None:
    assert holds(op, value, wanted) is answer


@given(CONDITIONS)
def test_about_whom_nothing_is_known_is_in_no_audience(condition: Condition) -> None:
    assert not judge(condition, {})
    assert not judge(None_((condition,)), {})


@given(CONDITIONS, KNOWN)
def test_nobody_is_in_an_audience_and_in_its_negation(condition: Condition, known: dict[str, Any]) -> None:
    assert not (judge(condition, known) and judge(None_((condition,)), known))


@given(CONDITIONS, KNOWN, st.sampled_from(NAMES))
def test_knowing_less_never_changes_a_sure_answer_to_its_opposite(
    condition: Condition, known: dict[str, Any], hidden: str
) -> None:
    less = {name: value for name, value in known.items() if name != hidden}
    if judge(condition, less):
        assert judge(condition, known)
    if judge(None_((condition,)), less):
        assert not judge(condition, known)


@given(CONDITIONS, KNOWN)
def test_null_is_as_unknown_as_absent(condition: Condition, known: dict[str, Any]) -> None:
    present = {name: value for name, value in known.items() if value is not None}
    assert judge(condition, known) is judge(condition, present)


@given(CONDITIONS, KNOWN)
def test_only_the_named_traits_matter(condition: Condition, known: dict[str, Any]) -> None:
    named = traits_of(condition)
    assert judge(condition, known) is judge(condition, {name: known[name] for name in named if name in known})


@given(st.lists(CONDITIONS, min_size=1, max_size=3), KNOWN)
def test_groups_follow_their_parts(parts: list[Condition], known: dict[str, Any]) -> None:
    group = tuple(parts)
    assert judge(All(group), known) is all(judge(part, known) for part in parts)
    assert judge(AnyOf(group), known) is any(judge(part, known) for part in parts)
    assert judge(None_(group), known) is all(judge(None_((part,)), known) for part in parts)


@pytest.mark.parametrize("group", [All(()), AnyOf(()), None_(())])
def test_an_empty_group_lets_nobody_in(group: Condition) -> None:
    assert not judge(group, {"a": 1})
    assert not judge(None_((group,)), {"a": 1})


def test_numbers_are_read_exactly() -> None:
    assert read_value(b"0.10000000000000000001") == Decimal("0.10000000000000000001")
    assert read_value(b"200") == 200
    assert read_value(b'"x"') == "x"
    with pytest.raises(Unreadable):
        read_value(b"{")
