"""Claims about disclosure records: one form, read back exactly, anything else unreadable."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.disclosures.record import (
    Basis,
    Released,
    objects_of,
    pack_detail,
    pack_objects,
    parse_detail,
    parse_objects,
)
from vault.errors import Unreadable

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "disclosure.json").read_text())
U16 = st.integers(0, 0xFFFF)


@st.composite
def releases(draw: st.DrawFn) -> list[Released]:
    purposes = draw(st.lists(st.integers(0, 62), unique=True, max_size=5))
    return [
        Released(
            purpose,
            draw(st.sampled_from(list(Basis))),
            draw(st.integers(0, 2**32 - 1)),
            tuple(sorted(draw(st.dictionaries(U16, U16, max_size=6)).items())),
        )
        for purpose in purposes
    ]


@given(releases())
def test_what_was_packed_is_read_back(made: list[Released]) -> None:
    assert parse_detail(pack_detail(made)) == tuple(sorted(made))
    assert pack_detail(reversed(made)) == pack_detail(made)


@given(releases(), st.data())
def test_a12_a_cut_or_longer_record_is_unreadable(made: list[Released], data: st.DataObject) -> None:
    blob = pack_detail(made)
    cut = data.draw(st.integers(0, len(blob) - 1))
    for bad in (blob[:cut], blob + b"\0"):
        with pytest.raises(Unreadable):
            parse_detail(bad)


@given(st.binary(max_size=60))
def test_bytes_that_read_are_the_one_form_of_what_they_say(blob: bytes) -> None:
    try:
        read = parse_detail(blob)
    except Unreadable:
        return
    assert pack_detail(read) == blob


@given(st.sets(U16))
def test_object_sets_are_read_back(numbers: set[int]) -> None:
    assert parse_objects(pack_objects(frozenset(numbers))) == numbers


@given(st.binary(max_size=12))
def test_object_sets_have_one_form(blob: bytes) -> None:
    try:
        read = parse_objects(blob)
    except Unreadable:
        return
    assert pack_objects(read) == blob


@given(releases())
def test_the_objects_of_a_record_are_those_of_all_its_purposes(made: list[Released]) -> None:
    assert objects_of(made) == {number for one in made for number, _ in one.items}


def test_bases_are_named_as_in_purposes_toml_and_never_renumbered() -> None:
    assert {basis.title: int(basis) for basis in Basis} == {
        "consent": 1, "contract": 2, "legal_obligation": 3, "vital_interests": 4, "public_task": 5, "legitimate_interests": 6,
    }  # fmt: skip
    assert Basis.named("legitimate_interests") is Basis.LEGITIMATE_INTERESTS
    with pytest.raises(KeyError):
        Basis.named("vibes")


@pytest.mark.parametrize("vector", VECTORS["details"], ids=lambda v: v["name"])
def test_vectors_read_as_they_say(vector: dict[str, Any]) -> None:
    blob = bytes.fromhex(vector["bytes"])
    if vector["expected"] == "unreadable":
        with pytest.raises(Unreadable):
            parse_detail(blob)
        return
    expected = tuple(
        Released(one["purpose"], one["basis"], one["ledger"], tuple(map(tuple, one["items"])))
        for one in vector["released"]
    )
    assert parse_detail(blob) == expected
    assert pack_detail(expected) == blob


@pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda v: v["name"])
def test_vectors_of_object_sets_read_as_they_say(vector: dict[str, Any]) -> None:
    blob = bytes.fromhex(vector["bytes"])
    if vector["expected"] == "unreadable":
        with pytest.raises(Unreadable):
            parse_objects(blob)
    else:
        assert sorted(parse_objects(blob)) == vector["objects"]
