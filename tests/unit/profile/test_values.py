"""Claims about the bytes of a compartment's fields: one form, read back exactly, anything else unreadable."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import TooLarge, Unreadable
from vault.profile.values import EMPTY, FieldHead, Provenance, pack_fields, parse_fields, scan_fields, splice

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "fields.json").read_text())
HEADS = st.builds(
    FieldHead,
    field=st.integers(0, 0xFFFF),
    version=st.integers(0, 2**32 - 1),
    source=st.integers(0, 0xFFFF),
    event_key=st.binary(min_size=16, max_size=16),
    authority=st.integers(0, 255),
    said_at=st.integers(0, 2**64 - 1),
    length=st.just(0),
)


@st.composite
def fields(draw: st.DrawFn) -> list[tuple[FieldHead, bytes]]:
    heads = draw(st.lists(HEADS, unique_by=lambda head: head.field, max_size=6))
    sealed = [draw(st.binary(min_size=28, max_size=60)) for _ in heads]
    return [(head._replace(length=len(value)), value) for head, value in zip(heads, sealed, strict=True)]


@given(fields())
def test_what_was_packed_is_read_back_in_order_of_field(made: list[tuple[FieldHead, bytes]]) -> None:
    heads, values = parse_fields(pack_fields(made))
    assert list(zip(heads, values, strict=True)) == sorted(made)
    assert all(isinstance(head, FieldHead) for head in heads)
    assert pack_fields(reversed(made)) == pack_fields(made)


@given(fields(), st.data())
def test_what_is_spliced_is_what_would_be_packed(made: list[tuple[FieldHead, bytes]], data: st.DataObject) -> None:
    """Set anew, added or taken out, in any mixture: the same bytes, found at the same places."""
    known = {entry[0].field: entry for entry in made}
    others = {entry[0].field: entry for entry in data.draw(fields())}
    again = data.draw(st.sets(st.sampled_from(sorted(known)))) if known else set()
    changes: dict[int, tuple[FieldHead, bytes] | None] = dict(others)
    for field in sorted(again):
        value = data.draw(st.none() | st.binary(min_size=28, max_size=60))
        changes[field] = None if value is None else (known[field][0]._replace(length=len(value)), value)
    whole = pack_fields([entry for entry in {**known, **changes}.values() if entry is not None])
    spliced = splice(scan_fields(pack_fields(made)), changes)
    assert spliced.blob == whole
    assert tuple(spliced) == tuple(scan_fields(whole))


def test_a_splice_refuses_what_packing_refuses() -> None:
    with pytest.raises(ValueError, match="length"):
        splice(scan_fields(EMPTY), {1: (head(1), bytes(29))})
    full = scan_fields(pack_fields([(head(n), bytes(28)) for n in range(255)]))
    with pytest.raises(TooLarge):
        splice(full, {300: (head(300), bytes(28))})
    assert splice(full, {300: (head(300), bytes(28)), 7: None}).form.numbers[-1] == 300


@given(fields(), st.data())
def test_a12_a_cut_or_longer_blob_is_unreadable(made: list[tuple[FieldHead, bytes]], data: st.DataObject) -> None:
    blob = pack_fields(made)
    cut = data.draw(st.integers(0, len(blob) - 1))
    for bad in (blob[:cut], blob + b"\0", bytes((2,)) + blob[1:], bytes((0,)) + blob[1:]):
        with pytest.raises(Unreadable):
            parse_fields(bad)


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: b"\x01\x01" + tail))
def test_bytes_that_read_are_the_one_form_of_what_they_say(blob: bytes) -> None:
    try:
        heads, values = parse_fields(blob)
    except Unreadable:
        return
    assert pack_fields(zip(heads, values, strict=True)) == blob


@given(fields(), st.data())
def test_a12_any_changed_count_is_unreadable(made: list[tuple[FieldHead, bytes]], data: st.DataObject) -> None:
    blob = bytearray(pack_fields(made))
    blob[1] = data.draw(st.integers(len(made) + 1, 255))
    with pytest.raises(Unreadable):
        parse_fields(bytes(blob))


def head(field: int, length: int = 28) -> FieldHead:
    return FieldHead(field, 1, 1, bytes(16), 1, 1, length)


def test_a_compartment_without_fields_is_two_bytes() -> None:
    assert parse_fields(EMPTY) == ((), ())
    assert pack_fields([]) == EMPTY


def test_a_field_stands_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        pack_fields([(head(1), bytes(28)), (head(1), bytes(28))])


@pytest.mark.parametrize("made", [[(head(1), bytes(29))], [(head(1), bytes(28)), (head(2), bytes(29))]])
def test_a_head_tells_the_length_of_its_value(made: list[tuple[FieldHead, bytes]]) -> None:
    with pytest.raises(ValueError, match="length"):
        pack_fields(made)


def test_more_than_255_fields_do_not_fit() -> None:
    assert len(parse_fields(pack_fields([(head(n), bytes(28)) for n in range(255)]))[0]) == 255
    with pytest.raises(TooLarge):
        pack_fields([(head(n), bytes(28)) for n in range(256)])


def test_the_provenance_of_a_head_is_its_middle() -> None:
    assert FieldHead(1, 2, 3, b"k" * 16, 4, 5, 28).provenance == Provenance(3, b"k" * 16, 4, 5)


@pytest.mark.parametrize("vector", VECTORS["rows"], ids=lambda v: v["name"])
def test_vectors_read_as_they_say(vector: dict[str, Any]) -> None:
    blob = bytes.fromhex(vector["bytes"])
    if vector["expected"] == "unreadable":
        with pytest.raises(Unreadable):
            parse_fields(blob)
        return
    heads, values = parse_fields(blob)
    assert [[*one[:3], one.event_key.hex(), *one[4:]] for one in heads] == vector["heads"]
    assert [value.hex() for value in values] == [value.replace(" ", "") for value in vector["values"]]
    assert pack_fields(zip(heads, values, strict=True)) == blob
