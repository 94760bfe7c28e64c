"""The state row: everything comes back, nothing can be edited, and rows that are not the newest do not match."""

import struct
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros
from vault.crypto.mac import mac
from vault.errors import Unreadable
from vault.state import record
from vault.state.record import Mark, State, digest, fresh, key_version_of, pack, unpack

KEY = bytes(range(32))
ADA = UUID(int=0xADA)
BOB = UUID(int=0xB0B)
MASKS = st.integers(min_value=0, max_value=2**63 - 1)
U32 = st.integers(min_value=0, max_value=2**32 - 1)
U64 = st.integers(min_value=0, max_value=2**64 - 1)
MARKS = st.builds(Mark, MASKS, st.integers(min_value=0, max_value=65535), U32, st.binary(min_size=16, max_size=16))


@st.composite
def states(draw: st.DrawFn) -> State:
    granted = draw(MASKS)
    refused = draw(MASKS) & ~granted
    ends = [p for p in range(63) if granted >> p & 1 and draw(st.booleans())][:5]
    marks = draw(st.lists(MARKS, max_size=4, unique_by=lambda m: (m.purposes, m.generation)))
    return State(
        subject=ADA,
        version=draw(U64),
        granted=granted,
        refused=refused,
        blocked=draw(MASKS),
        objected=draw(MASKS),
        expiries=tuple((p, Micros(draw(U64))) for p in ends),
        restricted=draw(st.booleans()),
        fenced=draw(st.booleans()),
        minor=draw(st.booleans()),
        identified=draw(st.booleans()),
        root=draw(st.uuids()),
        claimed=draw(st.one_of(st.none(), st.uuids())),
        members=draw(U32),
        ledger_count=draw(U32),
        ledger_head=draw(st.binary(min_size=32, max_size=32)),
        keys_version=draw(U32),
        holdings=draw(st.binary(min_size=16, max_size=16)),
        event_count=draw(U64),
        compartments=tuple(sorted(marks, key=lambda m: (m.purposes, m.generation))),
    )


def sample() -> State:
    return State(
        subject=ADA,
        version=4,
        granted=0b1100,
        refused=0b0010,
        expiries=((2, Micros(500)), (3, Micros(300))),
        root=BOB,
        claimed=BOB,
        ledger_count=2,
        keys_version=1,
        event_count=9,
        compartments=(
            Mark(0b0100, 1, 3, digest(b"a")),
            Mark(0b0100, 2, 1, digest(b"b")),
            Mark(0b1000, 1, 2, digest(b"c")),
        ),
    )


def resealed(body: bytes, subject: UUID = ADA) -> bytes:
    """A body under a true MAC: what a wrong program, not an attacker, would write."""
    return body + mac(KEY, record.LABEL, subject.bytes, body)


@given(states(), st.integers(min_value=0, max_value=65535))
def test_a_state_reads_back_as_it_was_written(state: State, key_version: int) -> None:
    row = pack(state, KEY, key_version)
    assert key_version_of(row) == key_version
    assert unpack(ADA, row, KEY, key_version) == state


def test_a_fresh_subject_is_its_own_root_and_chose_nothing() -> None:
    state = fresh(ADA)
    assert unpack(ADA, pack(state, KEY), KEY) == state
    assert state.is_root
    assert (state.version, state.granted, state.refused, state.compartments, state.earliest) == (0, 0, 0, (), None)
    assert not sample().is_root
    assert sample().earliest == 300


@given(states(), st.data())
def test_a20_any_flipped_bit_is_unreadable(state: State, data: st.DataObject) -> None:
    row = bytearray(pack(state, KEY))
    bit = data.draw(st.integers(min_value=0, max_value=len(row) * 8 - 1))
    row[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable):
        unpack(ADA, bytes(row), KEY)


@given(states(), st.data())
def test_a12_a_cut_or_lengthened_row_is_unreadable(state: State, data: st.DataObject) -> None:
    row = pack(state, KEY)
    cut = data.draw(st.integers(min_value=0, max_value=len(row) - 1))
    for changed in (row[:cut], row + bytes(1), row[:-32] + bytes(15) + row[-32:]):
        with pytest.raises(Unreadable):
            unpack(ADA, changed, KEY)


def test_a20_a_row_of_another_subject_or_key_is_unreadable() -> None:
    row = pack(sample(), KEY)
    for subject, key, version in ((BOB, KEY, 1), (ADA, bytes(32), 1), (ADA, KEY, 2)):
        with pytest.raises(Unreadable):
            unpack(subject, row, key, version)


@pytest.mark.parametrize("mask", ["granted", "refused", "blocked", "objected"])
def test_a20_a_flipped_choice_mask_is_unreadable(mask: str) -> None:
    before = pack(sample(), KEY)
    after = pack(msgspec.structs.replace(sample(), **{mask: getattr(sample(), mask) ^ 1 << 40}), KEY)
    with pytest.raises(Unreadable):
        unpack(ADA, after[:-32] + before[-32:], KEY)


def test_a5_an_older_row_of_values_does_not_match() -> None:
    state = sample()
    state.check_row(0b0100, 1, 3, b"a")
    for purposes, generation, version, fields in (
        (0b0100, 1, 2, b"a"),  # an older version number
        (0b0100, 1, 3, b"older"),  # older bytes under the newest number
        (0b0100, 2, 3, b"a"),  # a20: a raised generation
        (0b0100, 2, 1, b"a"),  # a1: bytes of a sibling
        (0b1100, 1, 3, b"a"),  # a4: an edited purpose tag
        (0b0001, 1, 1, b""),  # a8: an inserted row
    ):
        with pytest.raises(Unreadable):
            state.check_row(purposes, generation, version, fields)


def test_marks_are_written_anew_and_erased_in_order() -> None:
    state = sample()
    new, newer = Mark(0b0001, 1, 1, digest(b"n")), Mark(0b0100, 1, 4, digest(b"m"))
    marks = state.marked((new, newer), frozenset({(0b1000, 1)}))
    assert [(m.purposes, m.generation, m.version) for m in marks] == [(1, 1, 1), (4, 1, 4), (4, 2, 1)]
    pack(msgspec.structs.replace(state, compartments=marks), KEY)
    assert state.mark_of(0b1000, 1) == state.compartments[2]
    assert state.mark_of(0b1000, 2) is None


NONSENSE: list[dict[str, object]] = [
    {"granted": 1 << 63},
    {"granted": -1},
    {"refused": 0b0100},
    {"objected": 1 << 64},
    {"version": 1 << 64},
    {"version": -1},
    {"expiries": ((1, Micros(5)),)},
    {"expiries": ((3, Micros(5)), (2, Micros(5)))},
    {"expiries": ((2, Micros(5)), (2, Micros(5)))},
    {"expiries": ((2, Micros(-5)),)},
    {"claimed": UUID(int=0)},
    {"compartments": (Mark(1 << 63, 1, 1, bytes(16)),)},
    {"members": 1 << 32},
    {"ledger_head": bytes(31)},
    {"compartments": (Mark(1, 1, 1, bytes(17)),)},
    {"compartments": sample().compartments[::-1]},
    {"compartments": sample().compartments[:1] * 2},
]


@pytest.mark.parametrize("change", NONSENSE)
def test_a_state_that_contradicts_itself_is_not_written(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not a state|out of range"):
        pack(msgspec.structs.replace(sample(), **change), KEY)


def body_of(state: State) -> bytearray:
    return bytearray(pack(state, KEY)[:-32])


def test_a12_a_second_form_is_unreadable_even_under_a_true_mac() -> None:
    head = record._HEAD.size
    plain = body_of(sample())
    wrong: list[bytearray] = []
    for at, value in ((0, 0), (0, 2), (43, plain[43] | 32)):  # formats, an unknown flag
        wrong.append(bytearray(plain))
        wrong[-1][at] = value
    unclaimed = bytearray(plain)
    unclaimed[43] &= ~16  # a claimed root without its flag
    nobody = bytearray(plain)
    nobody[60:76] = bytes(16)  # the flag without a root
    refused = bytearray(plain)
    refused[19:27] = plain[11:19]  # granted and refused at once
    swapped = plain[:head] + plain[head + 9 : head + 18] + plain[head : head + 9] + plain[head + 18 :]
    wrong += [unclaimed, nobody, refused, swapped, plain + bytes(9), plain[:-1]]
    assert unpack(ADA, resealed(bytes(plain)), KEY) == sample()
    for body in wrong:
        with pytest.raises(Unreadable):
            unpack(ADA, resealed(bytes(body)), KEY)


@given(st.binary(max_size=400))
def test_a12_arbitrary_bytes_are_unreadable_even_under_a_true_mac(body: bytes) -> None:
    for candidate in (body, b"\x01\x00\x01" + body):
        try:
            state = unpack(ADA, resealed(candidate), KEY)
        except Unreadable:
            continue
        assert pack(state, KEY) == resealed(candidate)


@pytest.mark.parametrize("row", [b"", b"\x01", b"\x01\x00", b"\x02\x00\x01"])
def test_the_key_of_a_row_that_is_none_cannot_be_named(row: bytes) -> None:
    with pytest.raises(Unreadable):
        key_version_of(row)


def test_the_head_has_the_size_that_the_page_states() -> None:
    assert record._HEAD.size == struct.calcsize(">BHQQQQQB16s16sII32sI16sQBH") == 147
    assert len(pack(fresh(ADA), KEY)) == 179


def test_a20_a_row_of_wraps_from_before_a_withdrawal_is_not_the_one_that_the_state_vouches_for() -> None:
    held = [(b"\x01" * 16, 0b11, 1, 0b11), (b"\x02" * 16, 0b100, 1, 0b100)]
    withdrawn = [(b"\x01" * 16, 0b11, 1, 0b01), held[1]]
    assert record.holdings(held) == record.holdings(held[::-1]) != record.holdings(withdrawn)
    assert record.holdings(held[:1]) != record.holdings(held)
    assert record.holdings([]) == bytes(16)
