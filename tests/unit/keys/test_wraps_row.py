"""The row of wraps as bytes: one form for one meaning, and one error for everything else (threats A12)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.catalogue.numbers import RIGHTS, bits
from vault.errors import Unreadable
from vault.keys.compartments import (
    Wrap,
    Wrapped,
    newest,
    next_generation,
    pack_wraps,
    parse_wraps,
    purposes_with_wraps,
    without,
)
from vault.keys.compartments import holdings_of as wrapped_holdings
from vault.keys.kept import scan_wraps
from vault.state.record import holdings, holdings_of

MASKS = st.integers(min_value=0, max_value=2**63 - 1)
HEAD = 59
WRAP = 51


@st.composite
def compartments(draw: st.DrawFn) -> Wrapped:
    """A compartment with some of its wraps already gone."""
    purposes = draw(st.one_of(MASKS, st.integers(min_value=0, max_value=255)))
    held = [p for p in bits(purposes) if draw(st.booleans())] if purposes.bit_count() < 12 else list(bits(purposes))
    if purposes and not held:
        held = list(bits(purposes))[:1]
    epoch = draw(st.integers(min_value=1, max_value=65535))
    wraps = [Wrap(p, epoch, draw(st.binary(min_size=48, max_size=48))) for p in (*held, RIGHTS)]
    return Wrapped(
        draw(st.binary(min_size=16, max_size=16)),
        purposes,
        draw(st.integers(min_value=0, max_value=2**15 - 1)),
        draw(st.binary(min_size=32, max_size=32)),
        tuple(wraps),
    )


ROWS = st.lists(
    compartments(), max_size=4, unique_by=(lambda one: one.compartment_id, lambda one: (one.purposes, one.generation))
)


def sample() -> tuple[Wrapped, ...]:
    def one(number: int, purposes: int) -> Wrapped:
        wraps = tuple(Wrap(p, 1, bytes((number, p)) * 24) for p in (*bits(purposes), RIGHTS))
        return Wrapped(bytes((number,)) * 16, purposes, 1, bytes((number,)) * 32, wraps)

    return one(1, 0b101), one(2, 0b010), one(3, 0)


@given(ROWS)
def test_a_row_reads_back_as_it_was_written(row: list[Wrapped]) -> None:
    packed = pack_wraps(row)
    assert parse_wraps(packed) == tuple(row)
    assert len(packed) == 1 + sum(HEAD + WRAP * len(one.wraps) for one in row)


@given(ROWS, st.data())
def test_a12_a_cut_or_lengthened_row_is_unreadable(row: list[Wrapped], data: st.DataObject) -> None:
    packed = pack_wraps(row)
    boundaries, at = {1}, 1
    for one in row:
        at += HEAD + WRAP * len(one.wraps)
        boundaries.add(at)
    cut = data.draw(st.integers(min_value=0, max_value=len(packed)))
    if cut not in boundaries:
        with pytest.raises(Unreadable):
            parse_wraps(packed[:cut])
    with pytest.raises(Unreadable):
        parse_wraps(packed + bytes(data.draw(st.integers(min_value=1, max_value=HEAD))))


@given(st.binary(max_size=400))
def test_a12_arbitrary_bytes_are_unreadable_or_the_one_form(row: bytes) -> None:
    for candidate in (row, b"\x02" + row):
        try:
            parsed = parse_wraps(candidate)
        except Unreadable:
            continue
        assert pack_wraps(parsed) == candidate


def replaced(**changes: Any) -> list[Wrapped]:
    first, *rest = sample()
    return [first._replace(**changes), *rest]


@pytest.mark.parametrize(
    "row",
    [
        replaced(wraps=()),
        replaced(wraps=sample()[0].wraps[:-1]),
        replaced(wraps=sample()[0].wraps[::-1]),
        replaced(wraps=(sample()[0].wraps[0], *sample()[0].wraps)),
        replaced(wraps=(Wrap(1, 1, bytes(48)), *sample()[0].wraps[-1:])),
        replaced(wraps=(*sample()[0].wraps[:-1], Wrap(64, 1, bytes(48)))),
        replaced(purposes=1 << 63 | 0b101),
        replaced(generation=2**15),
        replaced(compartment_id=sample()[1].compartment_id),
        [*sample(), sample()[0]._replace(compartment_id=bytes(16))],
    ],
    ids=[
        "no wraps",
        "no rights",
        "order",
        "twice",
        "not its purpose",
        "purpose 64",
        "mask bit 63",
        "generation",
        "same id",
        "same place",
    ],
)
def test_a12_a_row_with_a_second_meaning_is_unreadable(row: list[Wrapped]) -> None:
    with pytest.raises(Unreadable):
        pack_wraps(row)
    body = b"\x02"
    for one in row:
        body += (
            one.compartment_id + one.purposes.to_bytes(8, "big") + one.generation.to_bytes(2, "big") + one.commitment
        )
        body += bytes((len(one.wraps),)) + b"".join(bytes((w.purpose, 0, w.epoch)) + w.blob for w in one.wraps)
    with pytest.raises(Unreadable):
        parse_wraps(body)


@pytest.mark.parametrize("row", [b"", b"\x00", b"\x01" + pack_wraps(sample())[1:], b"\x02" + bytes(1 << 20)])
def test_a12_another_format_or_a_huge_row_is_unreadable(row: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_wraps(row)


@pytest.mark.parametrize(
    "change",
    [{"compartment_id": bytes(15)}, {"commitment": bytes(33)}, {"wraps": (Wrap(RIGHTS, 1, bytes(47)),), "purposes": 0}],
)
def test_a_part_of_another_length_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        pack_wraps(replaced(**change))


def test_a_person_without_compartments_has_a_row() -> None:
    assert parse_wraps(pack_wraps([])) == ()


@given(ROWS, MASKS)
def test_taking_purposes_away_leaves_every_other_wrap_byte_for_byte(row: list[Wrapped], mask: int) -> None:
    left, removed = without(row, mask)
    before = {(one.compartment_id, w.purpose): w for one in row for w in one.wraps}
    after = {(one.compartment_id, w.purpose): w for one in left for w in one.wraps}
    assert set(removed) == set(before) - set(after)
    assert len(removed) == len(set(removed))
    assert all(before[key] == kept for key, kept in after.items())
    assert purposes_with_wraps(left) == purposes_with_wraps(row) & ~mask
    heads = {one.compartment_id: one[:4] for one in row}
    assert all(heads[one.compartment_id] == one[:4] for one in left)
    assert parse_wraps(pack_wraps(left)) == left
    assert without(left, mask) == (left, ())


def test_a_compartment_that_loses_its_last_purpose_goes_with_its_rights_wrap() -> None:
    first, second, third = sample()
    left, removed = without(sample(), 0b010)
    assert left == (first, third)
    assert removed == ((second.compartment_id, 1), (second.compartment_id, RIGHTS))


def test_a_compartment_made_for_rights_alone_stays_whatever_is_refused() -> None:
    left, removed = without(sample(), 2**63 - 1)
    assert left == (sample()[2],)
    assert len(removed) == 5


def test_only_a_whole_compartment_of_the_newest_generation_takes_new_values() -> None:
    first = sample()[0]
    later = first._replace(compartment_id=bytes(16), generation=2)
    assert newest([first, later], 0b101) == later
    assert newest([later, first], 0b101) == later
    broken = without([later], 0b001)[0][0]
    assert broken.held == 0b100
    assert not broken.whole
    assert newest([first, broken], 0b101) is None
    assert newest([first], 0b111) is None


def test_a_new_generation_is_above_all_that_were_seen() -> None:
    first = sample()[0]
    assert next_generation([], [], 0b101) == 1
    assert next_generation([first], [], 0b101) == 2
    assert next_generation([first], [7, 3], 0b101) == 8
    assert next_generation([first], [], 0b111) == 1


@given(ROWS)
def test_a_reader_who_cuts_nothing_out_sees_the_same_compartments(row: list[Wrapped]) -> None:
    """And what the state row vouches for comes to the same bytes."""
    kept, parts = scan_wraps(pack_wraps(row))
    assert list(kept) == [(one.purposes, one.generation) for one in row]
    for one, found in zip(row, kept.values(), strict=True):
        assert found[:4] == one[:4]
        assert found.held == one.held
        assert list(found.names) == [wrap.purpose for wrap in one.wraps]
    assert holdings_of(parts) == holdings(wrapped_holdings(row))


@given(ROWS.map(pack_wraps) | st.just(pack_wraps(sample())), st.data())
def test_a12_both_readers_refuse_the_same_bytes(row: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(row)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[at] = data.draw(st.integers(0, 255))
    blob = bytes(spoilt) * data.draw(st.sampled_from((1, 1, 1, 2)))
    try:
        told: object = [one[:3] for one in parse_wraps(blob)]
    except Unreadable:
        told = None
    try:
        seen: object = [one[:3] for one in scan_wraps(blob)[0].values()]
    except Unreadable:
        seen = None
    assert seen == told


def test_a12_one_id_or_one_place_twice_is_unreadable_to_both() -> None:
    one, two, _ = sample()
    for bad in (two._replace(compartment_id=one.compartment_id), two._replace(purposes=one.purposes, wraps=one.wraps)):
        blob = pack_wraps([one]) + pack_wraps([bad])[1:]
        for read in (parse_wraps, scan_wraps):
            with pytest.raises(Unreadable):
                read(blob)
