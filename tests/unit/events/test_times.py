"""When something was said."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros, from_datetime
from vault.events.times import read_time, said_at

NOON = from_datetime(datetime(2026, 11, 23, 12, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2026-11-23T12:00:00Z", 0),
        ("2026-11-23T12:00:00.000Z", 0),
        ("2026-11-23t12:00:00z", 0),
        ("2026-11-23T12:00:00+00:00", 0),
        ("2026-11-23T12:00:00.123456+00:00", 123_456),
        ("2026-11-23T12:00:00.1Z", 100_000),
        ("2026-11-23T12:00:00.123456789Z", 123_456),
        ("2026-11-23T13:00:00+01:00", 0),
        ("2026-11-23T06:30:00-0530", 0),
        ("2026-11-23T12:00Z", 0),
        ("2026-11-23T12:00:00", 0),
        ("2026-11-23 12:00:00Z", 0),
        ("2026-11-23T11:59:60Z", -1),
    ],
)
def test_the_forms_that_clients_write(text: str, offset: int) -> None:
    assert read_time(text) == NOON + offset


def test_a_day_alone_is_its_beginning() -> None:
    assert read_time("2026-11-23") == NOON - 12 * 3600 * 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "now",
        "1790000000",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T12:00:61Z",
        "2026-11-23T12:00:00+24:00",
        "2026-11-23T12:00:00+01:60",
        "0000-01-01T00:00:00Z",
        "2026-11-23T12:00:00Zx",
        " 2026-11-23",
        "٢٠٢٦-11-23T12:00:00Z",
        "2026-11-23T12:00:00²Z",
        "2026-W48-1",
        "20261123T120000Z",
        "2026-11-23T12:00:00.Z",
        "2026-1_1-23",
    ],
)
def test_b10_anything_else_is_no_time(text: str | None) -> None:
    assert read_time(text) is None


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-1439, 1439))
def test_what_python_writes_is_read_exactly(at: datetime, minutes: int) -> None:
    try:
        local = at.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    assert read_time(local.isoformat()) == from_datetime(at)


@pytest.mark.parametrize(
    ("said", "sent", "expected"),
    [
        pytest.param(None, None, 100, id="unknown: when received"),
        pytest.param(None, 90, 100, id="unknown, though sent"),
        pytest.param(40, None, 40, id="no sending time: the clock is believed"),
        pytest.param(40, 100, 40, id="a right clock"),
        pytest.param(1040, 1100, 40, id="a clock that is ahead"),
        pytest.param(-960, -900, 40, id="a clock that is behind"),
        pytest.param(40, 90, 50, id="ten on the way"),
        pytest.param(5000, None, 100, id="C2: never later than received"),
        pytest.param(5000, 60, 100, id="C2: said after it was sent"),
        pytest.param(-5, None, 0, id="C2: never before 1970"),
        pytest.param(0, 10**18, 0, id="C2: sent in the far future"),
    ],
)
def test_c2_the_sender_s_clock_is_corrected_and_clamped(said: int | None, sent: int | None, expected: int) -> None:
    assert said_at(said, sent, Micros(100)) == expected


times = st.none() | st.integers(-(10**17), 10**17)


@given(times, times, st.integers(0, 10**16))
def test_c2_no_clock_says_more_than_its_receipt(said: int | None, sent: int | None, received: int) -> None:
    assert 0 <= said_at(said, sent, Micros(received)) <= received
