"""Object numbers never meet, and a mask is the set of its bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.catalogue import numbers as n

PURPOSES = st.integers(0, n.MAX_PURPOSE)


@given(st.sets(PURPOSES))
def test_a_mask_is_the_set_of_its_bits(purposes: set[int]) -> None:
    mask = 0
    for purpose in purposes:
        mask |= n.bit(purpose)
    assert list(n.bits(mask)) == sorted(purposes)
    assert 0 <= mask < 2**63  # fits the database's signed column


@pytest.mark.parametrize("number", [-1, 63, 64])
def test_rights_and_other_numbers_are_no_bit(number: int) -> None:
    with pytest.raises(ValueError, match="purpose"):
        n.bit(number)


@pytest.mark.parametrize("mask", [-1, 1 << 63, 1 << 70])
def test_a_mask_with_a_bit_of_no_purpose_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        list(n.bits(mask))


def test_the_ranges_of_object_numbers_never_meet_and_fit_two_bytes() -> None:
    ranges = [
        set(range(1, n.MAX_TRAIT + 1)),
        {n.identifier_object(k) for k in range(1, n.MAX_KIND + 1)},
        {n.ACCUMULATORS, n.MEMBERSHIPS},
        {n.event_object(e) for e in range(n.MAX_EVENT + 1)},
        {n.computed_object(c) for c in range(1, n.MAX_COMPUTED + 1)},
        {n.audience_object(a) for a in range(1, n.MAX_AUDIENCE + 1)},
    ]
    union = set().union(*ranges)
    assert len(union) == sum(map(len, ranges))
    assert max(union) <= 0xFFFF


def test_the_numbers_are_those_that_stored_bytes_were_written_with() -> None:
    assert (n.RIGHTS, n.ACCUMULATORS, n.MEMBERSHIPS) == (63, 0x8000, 0x8001)
    assert n.identifier_object(1) == 0x4001
    assert n.event_object(1) == 0xA001
    assert n.computed_object(1) == 0xC001
    assert n.audience_object(1) == 0xE001
