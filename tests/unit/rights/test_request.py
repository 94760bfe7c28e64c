"""Claims about the states of a request and the statutory clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros, from_datetime, to_datetime
from vault.errors import Conflict
from vault.rights.request import ANSWERED, FIRST, NEXT, OPEN, TYPES, State, check_move, due, may_extend, months_after


def _at(*parts: int) -> Micros:
    return from_datetime(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("received", "owed", "extended"),
    [
        ((2026, 3, 15, 9, 30), (2026, 4, 15, 9, 30), (2026, 6, 15, 9, 30)),
        ((2026, 1, 31, 23, 59), (2026, 2, 28, 23, 59), (2026, 4, 30, 23, 59)),
        ((2028, 1, 31), (2028, 2, 29), (2028, 4, 30)),
        ((2026, 12, 31), (2027, 1, 31), (2027, 3, 31)),
        ((2026, 11, 30), (2026, 12, 30), (2027, 2, 28)),
    ],
)
def test_an_answer_is_owed_on_the_same_day_of_the_next_month_or_its_last(
    received: tuple[int, ...], owed: tuple[int, ...], extended: tuple[int, ...]
) -> None:
    assert due(_at(*received)) == _at(*owed)
    assert due(_at(*received), extended=True) == _at(*extended)


def test_an_extension_can_be_told_within_the_first_month_only() -> None:
    received = _at(2026, 3, 15)
    assert may_extend(received, _at(2026, 4, 15))
    assert not may_extend(received, Micros(_at(2026, 4, 15) + 1))


@given(received=st.integers(_at(1980, 1, 1), _at(2200, 1, 1)).map(Micros), months=st.integers(1, 24))
def test_months_after_is_in_the_month_that_many_later(received: Micros, months: int) -> None:
    at = to_datetime(received)
    then = to_datetime(months_after(received, months))
    assert (then.year * 12 + then.month) - (at.year * 12 + at.month) == months
    assert then.day <= at.day
    assert then.time() == at.time()


def test_what_is_answered_does_not_open_again_but_an_open_recipient_may_still_answer() -> None:
    check_move(State.PARTLY_COMPLETED, State.COMPLETED)
    for closed in (State.COMPLETED, State.REFUSED, State.CANCELLED):
        assert closed not in OPEN
        for then in set(State) - {closed}:
            with pytest.raises(Conflict):
                check_move(closed, then)
    with pytest.raises(Conflict):
        check_move(State.RECEIVED, State.COMPLETED)


def test_staying_is_no_move() -> None:
    for state in State:
        check_move(state, state)


def test_every_state_and_type_has_its_place_in_the_tables() -> None:
    assert set(NEXT) == set(State)
    assert set(State) == OPEN | ANSWERED
    assert set(FIRST) == set(TYPES)
