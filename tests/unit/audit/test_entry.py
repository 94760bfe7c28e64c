"""Audit entries hold ids, names and digests, and their bytes are fixed (threats F5, F7)."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.audit.entry import Entry, Tag, parse, salted
from vault.clock import Micros
from vault.errors import Unreadable

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/audit-entry.json").read_text())
ID = UUID("0197a000-0000-7000-8000-000000000001")


def entry(**changes: object) -> Entry:
    given = {"entry_id": ID, "at": Micros(1), "tag": Tag.POLICY_VERSION_APPLIED, "actor": "operator", "policy": 1}
    return Entry(**(given | changes))  # type: ignore[arg-type]


words = st.from_regex(r"[a-z][a-z_.-]{0,20}", fullmatch=True)
values = words | st.integers(-(2**53) + 1, 2**53 - 1) | st.binary(min_size=32, max_size=32).map(bytes.hex)
entries = st.builds(
    Entry,
    entry_id=st.uuids(),
    at=st.integers(0, 2**53 - 1),
    tag=st.sampled_from(Tag),
    actor=st.uuids().map(lambda one: f"staff:{one}"),
    policy=st.integers(0, 2**31 - 1),
    subject=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    detail=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), values | st.lists(values), max_size=5
    ),
)


@given(entries)
def test_an_entry_comes_back_from_its_leaf(made: Entry) -> None:
    assert parse(made.leaf()) == made


@given(entries)
def test_f5_a_leaf_is_one_line(made: Entry) -> None:
    assert b"\n" not in made.leaf()
    assert made.leaf().isascii()


@pytest.mark.parametrize(
    "value",
    [
        "jane@example.com",
        "Jane Doe",
        "two\nlines",
        "\x1b[31m",
        "+49 170 1234567",
        "491701234567",
        "0170-12.34-567",
        "",
        "x" * 201,
        "é",
        2**53,
        1.5,
        None,
        b"bytes",
        ["fine", "not fine"],
        {"deep": "er"},
    ],
)
def test_f7_what_could_carry_a_personal_value_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="audit"):
        entry(detail={"what": value}).leaf()
    if isinstance(value, str):
        with pytest.raises(ValueError, match="audit"):
            entry(actor=value).leaf()


def test_names_of_details_and_subjects_have_one_form() -> None:
    with pytest.raises(ValueError, match="name"):
        entry(detail={"Jane Doe": 1}).leaf()
    with pytest.raises(ValueError, match="salted"):
        entry(subject=str(ID)).leaf()


def test_an_entry_over_its_size_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        entry(detail={"many": ["a" * 200] * 50}).leaf()


def test_a_subject_cannot_be_told_without_the_salt_and_two_entries_do_not_join() -> None:
    assert salted(b"salt-one", ID.bytes) != salted(b"salt-two", ID.bytes)
    assert salted(b"ab", b"c") != salted(b"a", b"bc")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_leaf_are_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(data)


@given(entries, st.data())
def test_no_second_writing_of_a_leaf_is_read(made: Entry, data: st.DataObject) -> None:
    leaf = made.leaf()
    place = data.draw(st.integers(0, len(leaf)))
    with pytest.raises(Unreadable):
        parse(leaf[:place] + b" " + leaf[place:])


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_the_bytes_are_those_of_the_vectors(vector: dict[str, str]) -> None:
    leaf = vector["leaf"].encode()
    assert parse(leaf).leaf() == leaf


def test_the_salted_subject_is_that_of_the_vectors() -> None:
    vector = VECTORS["salted"]
    assert salted(bytes.fromhex(vector["salt"]), UUID(vector["subject_id"]).bytes) == vector["subject"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vectors_are_unreadable(vector: dict[str, str]) -> None:
    with pytest.raises(Unreadable):
        parse(vector["leaf"].encode())
