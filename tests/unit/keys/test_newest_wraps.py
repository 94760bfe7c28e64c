"""Wraps of a later backup over those of older data: later epochs, and nothing else, come from it."""

from vault.keys.compartments import RIGHTS, WRAP_BYTES, Wrap, Wrapped, newest_wraps, pack_wraps, parse_wraps


def compartment(number: int, wraps: dict[int, int], purposes: int = 0b110, fill: int = 0) -> Wrapped:
    """Wraps by purpose and epoch; a blob tells its epoch and `fill`."""
    made = tuple(
        Wrap(purpose, epoch, bytes((epoch, fill)) * (WRAP_BYTES // 2)) for purpose, epoch in sorted(wraps.items())
    )
    return Wrapped(bytes((number,)) * 16, purposes, number, bytes((number,)) * 32, made)


def test_a_later_epoch_is_taken_and_an_earlier_one_is_not() -> None:
    row = pack_wraps([compartment(1, {1: 1, 2: 3, RIGHTS: 1})])
    made = parse_wraps(newest_wraps(row, pack_wraps([compartment(1, {1: 2, 2: 2, RIGHTS: 2}, fill=9)])))
    assert [(one.purpose, one.epoch, one.blob[1]) for one in made[0].wraps] == [(1, 2, 9), (2, 3, 0), (RIGHTS, 2, 9)]


def test_nothing_is_widened_and_what_the_later_one_does_not_know_stays() -> None:
    row = pack_wraps([compartment(1, {2: 1, RIGHTS: 1}), compartment(2, {1: 1, 2: 1, RIGHTS: 1})])
    other = pack_wraps([compartment(1, {1: 2, 2: 2, RIGHTS: 2}), compartment(3, {1: 2, 2: 2, RIGHTS: 2})])
    made = parse_wraps(newest_wraps(row, other))
    assert [one.held for one in made] == [0b100, 0b110]
    assert {wrapped.epoch for wrapped in made[1].wraps} == {1}


def test_a13_wraps_of_another_compartment_under_the_same_id_are_not_taken() -> None:
    forged = compartment(1, {1: 2, 2: 2, RIGHTS: 2})._replace(commitment=bytes(32))
    row = pack_wraps([compartment(1, {1: 1, 2: 1, RIGHTS: 1})])
    assert newest_wraps(row, pack_wraps([forged])) == row
