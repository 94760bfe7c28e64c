"""Claims about computed traits: exact, and the same whatever the order and however the events are spread."""

import json
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.catalogue.computed import Computed, ComputedKind
from vault.clock import Micros
from vault.errors import Unreadable
from vault.profile.computed import Accumulator, Moment, contribution, fold, join, read_states, visible, write_states

AMOUNTS = (
    st.decimals(-(10**9), 10**9, places=2) | st.decimals(-1, 1, places=20) | st.integers(-(10**15), 10**15).map(Decimal)
)


def trait(kind: ComputedKind, **options: Any) -> Computed:
    fields: dict[str, Any] = {
        "number": 1, "name": "x", "kind": kind, "event": 1, "property": "revenue", "currency_property": "currency",
        "currency": "USD", "type": "number", "category": "user.behavior", "purposes": 1, "version": 1, "title": "X",
    }  # fmt: skip
    return Computed(**(fields | options))


SUM = trait("sum")
COUNT = trait("count", property=None, currency_property=None, currency=None)
FIRST = trait("first", currency_property=None, currency=None)
LAST = trait("last", currency_property=None, currency=None)
EVENTS = st.lists(
    st.tuples(AMOUNTS, st.integers(0, 5), st.binary(min_size=16, max_size=16)),
    unique_by=lambda event: event[2],
    max_size=12,
)
Events = list[tuple[Decimal, int, bytes]]


def order(amount: object = "9.95", currency: str | None = '"USD"') -> dict[str, bytes]:
    properties = {"revenue": str(amount).encode()}
    return properties if currency is None else {**properties, "currency": currency.encode()}


def after(computed: Computed, events: Events) -> Accumulator | None:
    state = None
    for amount, said_at, key in events:
        state = fold(computed, state, order(format(amount, "f")), Micros(said_at), key)
    return state


@pytest.mark.parametrize("computed", [SUM, COUNT, FIRST, LAST], ids=lambda c: c.kind)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_neither_order_nor_spread_over_members_changes_the_result(
    computed: Computed, events: Events, chance: random.Random, cut: int
) -> None:
    whole = after(computed, events)
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert after(computed, shuffled) == whole
    assert join(computed, [after(computed, shuffled[:cut]), after(computed, shuffled[cut:])]) == whole
    assert join(computed, [after(computed, shuffled[cut:]), after(computed, shuffled[:cut])]) == whole


@given(EVENTS)
def test_a_sum_is_exact(events: Events) -> None:
    shown = visible(SUM, after(SUM, events))
    if not events:
        assert shown is None
    else:
        assert shown is not None
        assert Fraction(shown.decode()) == sum(Fraction(amount) for amount, _, _ in events)
        assert b"e" not in shown.lower()
        json.loads(shown)


def test_tenths_add_up_as_people_do() -> None:
    state = None
    for n in range(10):
        state = fold(SUM, state, order("0.1"), Micros(n), bytes(16))
    assert visible(SUM, state) == b"1"


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("0", b"0"), ("-0", b"0"), ("-0.0", b"0"), ("10.00", b"10"), ("100", b"100"), ("1E2", b"100"), ("1e-2", b"0.01"),
        ("-5.50", b"-5.5"),
        ("123456789012345678901", b"123456789012345678901"), ("0.00000000000000000001", b"0.00000000000000000001"),
    ],
)  # fmt: skip
def test_a_number_is_what_its_text_says(text: str, total: bytes) -> None:
    assert visible(SUM, fold(SUM, None, order(text), Micros(1), bytes(16))) == total


@pytest.mark.parametrize(
    "text",
    ["null", "true", '"9.95"', "[1]", "{}", "", "NaN", "Infinity", "-",
     "1e21", "1e999999999", "0.000000000000000000001", "9" * 41, "1_000", "١"],
)  # fmt: skip
def test_what_is_no_plain_number_does_not_count(text: str) -> None:
    assert contribution(SUM, order(text), Micros(1), bytes(16)) is None


@pytest.mark.parametrize("currency", [None, '"EUR"', '""', "null", "5", "{"])
def test_another_or_no_currency_does_not_count(currency: str | None) -> None:
    assert contribution(SUM, order("5", currency), Micros(1), bytes(16)) is None


@pytest.mark.parametrize("currency", ['"USD"', '"usd"', '" USD "'])
def test_the_currency_counts_however_it_is_written(currency: str) -> None:
    assert contribution(SUM, order("5", currency), Micros(1), bytes(16)) == Accumulator(1, "5")


def test_a_sum_without_a_currency_counts_all() -> None:
    plain = trait("sum", currency_property=None, currency=None)
    assert visible(plain, fold(plain, None, {"revenue": b"5"}, Micros(1), bytes(16))) == b"5"


def test_a_count_of_a_property_needs_the_property() -> None:
    with_property = trait("count")
    assert contribution(with_property, {}, Micros(1), bytes(16)) is None
    assert contribution(with_property, {"revenue": b"null"}, Micros(1), bytes(16)) is None
    assert contribution(with_property, {"revenue": b'"x"'}, Micros(1), bytes(16)) == Accumulator(1, 1)


def test_first_and_last_follow_what_was_said_not_what_came() -> None:
    said = [(5, b"20"), (1, b"10"), (9, b"30")]
    first = last = None
    for at, value in said:
        first = fold(FIRST, first, {"revenue": value}, Micros(at), bytes(16))
        last = fold(LAST, last, {"revenue": value}, Micros(at), bytes(16))
    assert (visible(FIRST, first), visible(LAST, last)) == (b"10", b"30")


def test_at_the_same_microsecond_the_event_key_decides() -> None:
    states = [contribution(LAST, {"revenue": key.hex().encode()}, Micros(1), key) for key in (b"a" * 16, b"b" * 16)]
    assert visible(LAST, join(LAST, states)) == (b"b" * 16).hex().encode()
    assert visible(FIRST, join(FIRST, reversed(states))) == (b"a" * 16).hex().encode()


def test_first_without_a_property_is_the_time_itself() -> None:
    when = trait("first", type="time", property=None, currency_property=None, currency=None)
    state = fold(when, None, {}, Micros(1_795_465_242_123_000), bytes(16))
    assert visible(when, state) == b'"2026-11-23T20:20:42.123Z"'


def test_a_state_of_another_version_counts_for_nothing() -> None:
    old = Accumulator(0, "1000")
    assert visible(SUM, old) is None
    assert join(SUM, [old, Accumulator(1, "5")]) == Accumulator(1, "5")
    assert fold(SUM, old, order("5"), Micros(1), bytes(16)) == Accumulator(1, "5")


@given(EVENTS)
def test_states_are_stored_and_read_back(events: Events) -> None:
    states = {n: state for n, c in enumerate((SUM, COUNT, FIRST, LAST), 1) if (state := after(c, events)) is not None}
    assert read_states(write_states(states)) == states
    assert write_states(dict(reversed(states.items()))) == write_states(states)


def test_the_stored_form_is_that_of_the_page() -> None:
    states = {
        12: Accumulator(1, "9.95"),
        2: Accumulator(3, 4),
        7: contribution(LAST, order("1.10"), Micros(5), b"k" * 16),
    }
    stored = json.loads(write_states({n: s for n, s in states.items() if s}))
    assert stored == {
        "12": {"v": 1, "s": "9.95"},
        "2": {"v": 3, "s": 4},
        "7": {"v": 1, "s": [5, (b"k" * 16).hex(), 1.10]},
    }
    assert b"1.10" in write_states({7: states[7]} if states[7] else {})


@pytest.mark.parametrize(
    "plaintext", [b"", b"[]", b'{"x":{"v":1,"s":1}}', b'{"1":{"v":1}}', b'{"1":{"v":"1","s":1}}', b'{"1":1}']
)
def test_malformed_states_are_unreadable(plaintext: bytes) -> None:
    with pytest.raises(Unreadable):
        read_states(plaintext)


def test_a_state_does_not_print_its_value() -> None:
    assert "9.95" not in repr(Accumulator(1, "9.95"))
    assert "9.95" not in repr(contribution(LAST, order("9.95"), Micros(5), b"k" * 16))


@pytest.mark.parametrize("value", [b'{"card":"4111"}', b"[1]", b'"4111"', b"true"])
@pytest.mark.parametrize("computed", [FIRST, LAST], ids=lambda c: c.kind)
def test_a_value_of_another_type_is_neither_kept_nor_shown(computed: Computed, value: bytes) -> None:
    state = fold(computed, None, {"revenue": b"1"}, Micros(5), b"k" * 16)
    said_at = Micros(1 if computed.kind == "first" else 9)
    assert fold(computed, state, {"revenue": value}, said_at, b"k" * 16) == state
    kept_before = Accumulator(1, Moment(5, (b"k" * 16).hex(), msgspec.Raw(value)))
    assert visible(computed, kept_before) is None
