"""The chain of frames: every edit shows, a crash at any byte costs only what nobody was told about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import Unreadable
from vault.journal import frames
from vault.journal.frames import FRONT, MAX_PAYLOAD_BYTES, START, Head, frame, read

KEY = bytes(range(32))
PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5)
AROUND = FRONT.size + 32


def chain(payloads: list[bytes], head: Head = START) -> tuple[bytes, Head]:
    data = b""
    for payload in payloads:
        whole, head = frame(head, payload, KEY)
        data += whole
    return data, head


def payloads_of(data: bytes, head: Head = START) -> list[bytes]:
    return [payload for payload, _ in read(data, head, KEY)]


@given(PAYLOADS, PAYLOADS)
def test_what_was_appended_reads_back_from_any_head(first: list[bytes], second: list[bytes]) -> None:
    front, middle = chain(first)
    back, end = chain(second, middle)
    assert payloads_of(front + back) == first + second
    assert payloads_of(back, middle) == second
    assert [head for _, head in read(front + back, START, KEY)][-1] == end
    assert end == (len(first) + len(second), end.hash, 8 + len(front + back))


@given(PAYLOADS, st.data())
def test_a_crash_at_any_byte_leaves_the_frames_before_it(payloads: list[bytes], data: st.DataObject) -> None:
    whole, _ = chain(payloads)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    zeros = data.draw(st.sampled_from([0, 1, 4096]))
    complete, at = [], 0
    for payload in payloads:
        at += AROUND + len(payload)
        if at <= cut:
            complete.append(payload)
    assert payloads_of(whole[:cut]) == complete
    if cut - sum(AROUND + len(p) for p in complete) == 0:
        assert payloads_of(whole[:cut] + bytes(zeros)) == complete


def test_a_last_frame_whose_final_pages_never_came_is_not_there() -> None:
    whole, _ = chain([b"first", b"second" * 900])
    lost = whole[:-4000] + bytes(4000)
    assert payloads_of(lost) == [b"first"]
    with pytest.raises(Unreadable):
        payloads_of(lost + b"more")


@given(PAYLOADS, st.data())
def test_f1_any_flipped_bit_before_the_last_frame_is_unreadable(payloads: list[bytes], data: st.DataObject) -> None:
    whole, head = chain(payloads)
    last, _ = chain([b"last"], head)
    changed = bytearray(whole + last)
    bit = data.draw(st.integers(min_value=32, max_value=len(whole) * 8 - 1))  # behind the first length: see below
    changed[bit // 8] ^= 1 << bit % 8
    try:
        read_back = payloads_of(bytes(changed))
    except Unreadable:
        return
    # A length that now points past the end looks like a crash in that frame; the chain ends there, and `verify` with a
    # known head shows that it is short. Nothing false is ever read.
    assert read_back == payloads[: len(read_back)]
    assert len(read_back) < len(payloads) + 1


def test_f1_deleted_swapped_repeated_and_foreign_frames_are_unreadable() -> None:
    head, parts = START, []
    for payload in (b"one", b"two", b"three"):
        whole, head = frame(head, payload, KEY)
        parts.append(whole)
    one, two, three = parts
    foreign, _ = frame(START, b"one", bytes(32))
    for data in (two + three, one + three, two + one + three, one + one, one + three + two, foreign, b"x" * 100):
        with pytest.raises(Unreadable):
            payloads_of(data)


@pytest.mark.parametrize("length", [0, MAX_PAYLOAD_BYTES + 1, 2**32 - 1])
def test_a12_a_length_that_cannot_be_is_unreadable(length: int) -> None:
    whole, _ = chain([b"x"])
    with pytest.raises(Unreadable):
        payloads_of(length.to_bytes(4, "big") + whole[4:])


@pytest.mark.parametrize("payload", [b"", bytes(MAX_PAYLOAD_BYTES + 1)])
def test_an_empty_or_huge_payload_is_a_fault(payload: bytes) -> None:
    with pytest.raises(ValueError, match="1 MiB"):
        frame(START, payload, KEY)


def test_the_chain_starts_at_the_magic_of_the_file() -> None:
    assert START.length == len(frames.MAGIC) == 8
    assert START.number == 0
