"""Narrowings as bytes: exact both ways, nothing else decodes, and no field could hold a name or a value."""

from typing import get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros
from vault.errors import Unreadable
from vault.journal.narrowing import (
    Begun,
    EpochDestroyed,
    Erasure,
    Narrowing,
    Objection,
    PolicyApplied,
    PolicyIntended,
    Refusal,
    RefusalKind,
    RemovedWraps,
    Restriction,
    Tombstone,
    decode,
    encode,
)

TIMES = st.integers(min_value=0, max_value=2**62).map(Micros)
MASKS = st.integers(min_value=0, max_value=2**63 - 1)
NARROWINGS: st.SearchStrategy[Narrowing] = st.one_of(
    st.builds(
        Erasure,
        TIMES,
        st.uuids(),
        st.lists(st.uuids(), max_size=3).map(tuple),
        st.lists(
            st.builds(Tombstone, st.binary(min_size=16, max_size=16), st.integers(1, 9), TIMES, st.booleans(), MASKS),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(
        Refusal, TIMES, st.uuids(), MASKS, st.sampled_from(RefusalKind), st.integers(0, 2**40), st.integers(0, 3)
    ),
    st.builds(Objection, TIMES, st.uuids(), MASKS, st.integers(0, 2**40), st.integers(0, 3)),
    st.builds(Restriction, TIMES, st.uuids()),
    st.builds(
        RemovedWraps,
        TIMES,
        st.uuids(),
        st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 63)), max_size=3).map(tuple),
    ),
    st.builds(PolicyApplied, TIMES, st.integers(1, 99), st.binary(min_size=32, max_size=32)),
    st.builds(PolicyIntended, TIMES, st.integers(1, 99), st.binary(min_size=32, max_size=32)),
    st.builds(Begun, TIMES),
    st.builds(EpochDestroyed, TIMES, st.integers(0, 63), st.integers(1, 2**16 - 1)),
)


@given(NARROWINGS)
def test_a_narrowing_reads_back_as_it_was_written(narrowing: Narrowing) -> None:
    assert decode(encode(narrowing)) == narrowing


@given(st.one_of(st.binary(max_size=60), NARROWINGS.map(lambda one: encode(one)[:-1])))
def test_a12_other_bytes_are_unreadable(payload: bytes) -> None:
    try:
        narrowing = decode(payload)
    except Unreadable:
        return
    assert decode(encode(narrowing)) == narrowing


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        b"\x91\xa9unknown/1",
        msgspec.msgpack.encode(["refusal/1", 1, "x" * 16, 1]),
        msgspec.msgpack.encode(["refusal/1", 1, bytes(16), 1, 9]),
    ],
)
def test_a12_an_unknown_kind_or_a_wrong_type_is_unreadable(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(payload)


def test_f7_no_field_can_hold_text() -> None:
    def kinds(annotation: object) -> set[object]:
        inner = get_args(annotation)
        return {kind for part in inner for kind in kinds(part)} if inner else {annotation}

    for struct in (*get_args(Narrowing), Tombstone):
        for field in msgspec.structs.fields(struct):
            assert kinds(field.type) <= {Micros, int, bool, bytes, UUID, RefusalKind, Tombstone, Ellipsis}


def test_the_stored_bytes_of_an_old_entry_still_read() -> None:
    stored = bytes.fromhex("95a9726566757361" + "6c2f3105c410" + "00" * 15 + "07" + "0601")
    assert decode(stored) == Refusal(Micros(5), UUID(int=7), 6, RefusalKind.DECIDED)
    assert decode(bytes((0x94,)) + stored[1:-1]) == Refusal(Micros(5), UUID(int=7), 6)
