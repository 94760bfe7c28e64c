"""Buckets: what they let through, when they say to come again, and that there is an end to them (threats G17, G21)."""

import pytest

from api.limits import MAX_BUCKETS, Bucket, OverRate, RateLimits
from vault.config import Limits
from vault.errors import RateLimited, Unauthenticated


class Timer:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def timer() -> Timer:
    return Timer()


async def known(name: str = "somebody") -> str:
    return name


async def unknown() -> str:
    raise Unauthenticated


def test_a_bucket_gives_what_it_holds_and_then_as_fast_as_it_fills() -> None:
    bucket = Bucket(rate=2.0, size=4.0, now=0.0)
    assert [bucket.take(0.0)[0] for _ in range(5)] == [True] * 4 + [False]
    assert bucket.take(0.49)[0] is False
    assert bucket.take(0.5)[0] is True
    assert bucket.take(0.5)[0] is False
    assert [bucket.take(100.0)[0] for _ in range(5)] == [True] * 4 + [False]  # never more than it holds


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(rate=1.0, size=2.0, now=50.0)
    bucket.take(50.0)
    bucket.take(50.0)
    assert bucket.take(10.0)[0] is False
    assert bucket.take(11.0)[0] is True  # it fills from there on, not from 50 on


@pytest.mark.parametrize(("rate", "seconds"), [(100.0, 1), (1.0, 1), (0.5, 2), (0.1, 10)])
def test_who_is_refused_is_told_whole_seconds_after_which_one_call_passes(rate: float, seconds: int) -> None:
    bucket = Bucket(rate=rate, size=1.0, now=0.0)
    bucket.take(0.0)
    passes, verdict = bucket.take(0.0)
    assert (passes, verdict.remaining, verdict.reset) == (False, 0, seconds)
    assert bucket.take(float(seconds))[0] is True


def test_each_principal_and_kind_has_a_bucket_of_its_own(timer: Timer) -> None:
    limits = RateLimits(Limits(source_rate=1, lookup_rate=1, staff_rate=1), timer=timer)
    for _ in range(2):
        limits.source(1)
    with pytest.raises(OverRate):
        limits.source(1)
    limits.source(2)
    limits.source(1, acts=True)  # a source that spent its rate may still say choices
    limits.lookup("warehouse")
    limits.staff("warehouse")
    limits.destination("warehouse", 60)
    limits.destination("warehouse", 60, way_back=True)


def test_a_contracts_rate_is_a_minutes(timer: Timer) -> None:
    limits = RateLimits(Limits(), timer=timer)
    for _ in range(30):
        limits.destination("crm", 30)
    with pytest.raises(OverRate) as refused:
        limits.destination("crm", 30)
    assert refused.value.retry_after == 2
    assert refused.value.verdict.headers() == {
        "x-ratelimit-limit": "30",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "2",
    }
    timer.at += 2
    limits.destination("crm", 30)
    limits.destination("crm", 60)  # a new contract counts at once


def test_the_rates_are_those_of_all_processes_together(timer: Timer) -> None:
    limits = RateLimits(Limits(processes=4, staff_rate=40), timer=timer)
    assert limits.staff("olivia").limit == 100  # a quarter of ten seconds' worth


def test_there_is_an_end_to_buckets(timer: Timer) -> None:
    limits = RateLimits(Limits(), timer=timer)
    for number in range(MAX_BUCKETS + 50):
        limits.source(number)
    assert limits.count == MAX_BUCKETS


async def test_g21_strangers_are_limited_together_and_lock_nobody_out_who_is_known(timer: Timer) -> None:
    limits = RateLimits(Limits(stranger_rate=1), timer=timer)
    assert await limits.admit("mine", known()) == "somebody"
    for number in range(10):  # ten seconds' worth
        with pytest.raises(Unauthenticated):
            await limits.admit(f"guess-{number}", unknown())
    with pytest.raises(RateLimited) as refused:
        await limits.admit("guess-11", unknown())
    assert refused.value.reason == "too_many_strangers"
    with pytest.raises(RateLimited):
        await limits.admit("new but right", known())  # nobody can tell without asking
    assert await limits.admit("mine", known()) == "somebody"
    timer.at += 1
    assert await limits.admit("new but right", known()) == "somebody"


async def test_a_secret_that_is_not_good_any_more_is_a_strangers(timer: Timer) -> None:
    limits = RateLimits(Limits(stranger_rate=1), timer=timer)
    await limits.admit("mine", known())
    with pytest.raises(Unauthenticated):
        await limits.admit("mine", unknown())  # revoked
    for _ in range(9):
        with pytest.raises(Unauthenticated):
            await limits.admit("guess", unknown())
    with pytest.raises(RateLimited):
        await limits.admit("mine", known())


async def test_who_shows_no_credential_uses_up_nobodys_tries(timer: Timer) -> None:
    limits = RateLimits(Limits(stranger_rate=1), timer=timer)
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            await limits.admit(None, unknown())
    assert await limits.admit("mine", known()) == "somebody"
