"""Claims about the seal: a value opens in its place, with a permit that reaches it, and never otherwise (threats A)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.canonical import framed
from vault.catalogue.numbers import (
    ACCUMULATORS,
    MEMBERSHIPS,
    RIGHTS,
    audience_object,
    computed_object,
    event_object,
    identifier_object,
)
from vault.errors import TooLarge, Unreadable, Withheld
from vault.keys.compartments import Compartment, Wrapped
from vault.policy.permit import Permit, _issue
from vault.profile.sealing import Opening, open_event, open_field, open_fields, seal_event, seal_field
from vault.profile.values import FieldHead, Provenance, pack_fields, scan_fields

VECTORS = Path(__file__).parents[2] / "vectors"
MARKETING, ANALYTICS, SUPPORT = 6, 4, 1
ADA = UUID("019aa3b0-0000-7000-8000-000000000001")
WHERE = Provenance(3, b"k" * 16, 2, 1_795_465_242_000_000)
KEY = bytes(range(32))


def compartment(**change: Any) -> Compartment:
    place: dict[str, Any] = {
        "compartment_id": b"c" * 16,
        "purposes": 1 << MARKETING | 1 << SUPPORT,
        "generation": 1,
        "commitment": bytes(32),
        "wraps": (),
    }
    key = change.pop("key", KEY)
    subject = change.pop("subject", ADA)
    return Compartment(subject, Wrapped(**place | change), key)


def permit(purpose: int = MARKETING, objects: frozenset[int] | None = None) -> Permit:
    return _issue(actor="test", purpose=purpose, objects=objects, policy=1, reason="test")


@given(st.binary(max_size=300), st.integers(1, 0xFFFF), st.integers(0, 2**32 - 1))
def test_what_was_sealed_opens_again(plaintext: bytes, field: int, version: int) -> None:
    head, sealed = seal_field(compartment(), field, version, WHERE, plaintext)
    assert head == (field, version, *WHERE, len(sealed))
    assert plaintext == open_field(compartment(), head, sealed, permit())
    assert open_fields(compartment(), [(head, sealed)], permit()) == [(head, plaintext)]


def test_two_seals_of_one_value_have_nothing_in_common() -> None:
    first, second = (seal_field(compartment(), 1, 1, WHERE, b'"ada"')[1] for _ in range(2))
    assert first[:12] != second[:12]
    assert first[12:] != second[12:]


@pytest.mark.parametrize(
    "change",
    [
        {"key": KEY[::-1]},
        {"compartment_id": b"d" * 16},
        {"subject": UUID(int=2)},
        {"purposes": 1 << MARKETING},
        {"generation": 2},
    ],
    ids=str,
)
def test_a2_a3_a4_a22_a_value_opens_in_no_other_compartment(change: dict[str, Any]) -> None:
    head, sealed = seal_field(compartment(), 1, 1, WHERE, b"1")
    event = seal_event(compartment(), b"k" * 16, 5, b"{}")
    with pytest.raises(Unreadable):
        open_field(compartment(**change), head, sealed, permit())
    with pytest.raises(Unreadable):
        open_fields(compartment(**change), [(head, sealed)], permit())
    with pytest.raises(Unreadable):
        open_event(compartment(**change), b"k" * 16, 5, event, permit())


@pytest.mark.parametrize(
    "change",
    [
        {"field": 2},
        {"field": identifier_object(1)},
        {"version": 2},
        {"source": 4},
        {"event_key": b"l" * 16},
        {"authority": 3},
        {"said_at": WHERE.said_at + 1},
    ],
    ids=str,
)
def test_a1_a_value_opens_under_no_other_field_version_or_provenance(change: dict[str, Any]) -> None:
    head, sealed = seal_field(compartment(), 1, 1, WHERE, b"1")
    with pytest.raises(Unreadable):
        open_field(compartment(), head._replace(**change), sealed, permit())


@given(st.data())
def test_a12_any_flipped_bit_is_unreadable(data: st.DataObject) -> None:
    head, sealed = seal_field(compartment(), 1, 1, WHERE, b'"ada@example.com"')
    event = seal_event(compartment(), b"k" * 16, 5, b'{"a":1}')
    readers: list[tuple[bytes, Callable[[bytes], bytes]]] = [
        (sealed, lambda bad: open_field(compartment(), head, bad, permit())),
        (event, lambda bad: open_event(compartment(), b"k" * 16, 5, bad, permit())),
    ]
    for whole, read in readers:
        at = data.draw(st.integers(0, len(whole) * 8 - 1))
        bad = bytearray(whole)
        bad[at // 8] ^= 1 << at % 8
        with pytest.raises(Unreadable):
            read(bytes(bad))
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(Unreadable):
            read(whole[:cut])


def test_a_permit_for_another_purpose_opens_nothing() -> None:
    head, sealed = seal_field(compartment(), 1, 1, WHERE, b"1")
    event = seal_event(compartment(), b"k" * 16, 5, b"{}")
    other = permit(ANALYTICS)
    with pytest.raises(Withheld):
        open_field(compartment(), head, sealed, other)
    with pytest.raises(Withheld):
        open_fields(compartment(), [(head, sealed)], other)
    with pytest.raises(Withheld):
        open_event(compartment(), b"k" * 16, 5, event, other)


def test_the_rights_desk_opens_every_compartment() -> None:
    for purposes in (0, 1 << ANALYTICS):
        place = compartment(purposes=purposes)
        head, sealed = seal_field(place, 1, 1, WHERE, b"1")
        assert open_field(place, head, sealed, permit(RIGHTS)) == b"1"


def test_a_permit_opens_only_the_objects_that_it_names() -> None:
    place = compartment()
    fields = [seal_field(place, field, 1, WHERE, str(field).encode()) for field in (1, 2, identifier_object(1))]
    named = permit(objects=frozenset((2, identifier_object(1))))
    with pytest.raises(Withheld):
        open_field(place, *fields[0], named)
    assert [value for _, value in open_fields(place, fields, named)] == [b"2", str(identifier_object(1)).encode()]
    assert open_fields(place, fields, permit(objects=frozenset())) == []


def test_what_is_opened_where_it_stands_is_what_opens_cut_out() -> None:
    place = compartment()
    sealed = [
        seal_field(
            place,
            field,
            field % 7,
            WHERE._replace(source=field % 5),
            b"[%d]" % (field - 0x8001) if field == 0x8001 else b"%d" % field,
        )
        for field in (3, 9, 0x4002, 0x8001)
    ]
    stored = scan_fields(pack_fields(sealed))
    for chosen in ((0, 1, 2, 3), (3, 1), (2,), ()):
        alone = [open_field(compartment(), *sealed[at], permit()) for at in chosen]
        assert Opening(stored.form, chosen, permit()).open(compartment(), stored) == alone
    named = permit(objects=frozenset((3, audience_object(1))))
    assert Opening(stored.form, (0, 3), named).open(compartment(), stored) == [b"3", b"[]"]
    with pytest.raises(Withheld):
        Opening(stored.form, (0, 1), named)
    with pytest.raises(Withheld):
        Opening(stored.form, (0,), permit(ANALYTICS)).open(compartment(), stored)
    with pytest.raises(TypeError):
        Opening(stored.form, (0,), cast("Permit", object()))
    with pytest.raises(ValueError, match="other fields"):
        Opening(stored.form, (0,), permit()).open(compartment(), scan_fields(pack_fields(sealed[:3])))


@given(st.data())
def test_a1_a12_nothing_opens_where_it_stands_once_a_byte_of_it_or_of_its_head_was_flipped(data: st.DataObject) -> None:
    sealed = [seal_field(compartment(), field, 1, WHERE, b'"ada"') for field in (3, 9)]
    blob = bytearray(pack_fields(sealed))
    at = data.draw(st.integers(2, len(blob) - 1))
    blob[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        stored = scan_fields(bytes(blob))
    except Unreadable:
        return
    with pytest.raises(Unreadable):
        Opening(stored.form, (0, 1), permit()).open(compartment(), stored)


def test_a_permit_for_one_computed_trait_shows_none_of_its_neighbours() -> None:
    place = compartment()
    states = b'{"1":{"v":1,"s":"9.95"},"4097":{"v":1,"s":4}}'
    head, sealed = seal_field(place, ACCUMULATORS, 1, WHERE, states)
    seen = open_field(place, head, sealed, permit(objects=frozenset((computed_object(4097), 7))))
    assert msgspec.json.decode(seen) == {"4097": {"v": 1, "s": 4}}
    assert open_field(place, head, sealed, permit()) == states
    with pytest.raises(Withheld):
        open_field(place, head, sealed, permit(objects=frozenset((7, audience_object(1), event_object(1)))))


def test_a_permit_for_one_audience_does_not_tell_of_the_others() -> None:
    place = compartment()
    head, sealed = seal_field(place, MEMBERSHIPS, 1, WHERE, b"[1,2,3]")
    assert (
        open_field(place, head, sealed, permit(objects=frozenset((audience_object(2), audience_object(9))))) == b"[2]"
    )
    assert open_fields(place, [(head, sealed)], permit(objects=frozenset((computed_object(2),)))) == []


@pytest.mark.parametrize("field", [ACCUMULATORS, MEMBERSHIPS])
def test_a_malformed_list_of_entries_is_unreadable(field: int) -> None:
    place = compartment()
    head, sealed = seal_field(place, field, 1, WHERE, b'"x"')
    with pytest.raises(Unreadable):
        open_field(place, head, sealed, permit(objects=frozenset((computed_object(1), audience_object(1)))))


def test_a_permit_for_another_event_opens_nothing() -> None:
    event = seal_event(compartment(), b"k" * 16, 5, b'{"a":1}')
    assert open_event(compartment(), b"k" * 16, 5, event, permit(objects=frozenset((event_object(5),)))) == b'{"a":1}'
    with pytest.raises(Withheld):
        open_event(compartment(), b"k" * 16, 5, event, permit(objects=frozenset((event_object(6), 5))))


def test_an_event_opens_under_no_other_key_or_kind() -> None:
    event = seal_event(compartment(), b"k" * 16, 5, b'{"a":1}')
    for key, kind in ((b"l" * 16, 5), (b"k" * 16, 6), (b"k" * 15, 5)):
        with pytest.raises(Unreadable):
            open_event(compartment(), key, kind, event, permit())


def test_a_field_never_opens_as_an_event_nor_an_event_as_a_field() -> None:
    head, sealed = seal_field(compartment(), 5, 1, WHERE, b"{}")
    event = seal_event(compartment(), b"k" * 16, 5, b"{}")
    with pytest.raises(Unreadable):
        open_event(compartment(), b"k" * 16, 5, b"\x01" + sealed, permit())
    with pytest.raises(Unreadable):
        open_field(compartment(), head, event[1:], permit())


def test_what_only_looks_like_a_permit_opens_nothing() -> None:
    head, sealed = seal_field(compartment(), 1, 1, WHERE, b"1")

    class Forged:
        purpose = MARKETING
        objects = None

    for fake in (Forged(), None):
        with pytest.raises(TypeError):
            open_field(compartment(), head, sealed, cast("Permit", fake))


def test_a_value_over_the_limit_is_refused_before_it_is_sealed() -> None:
    assert seal_field(compartment(), 1, 1, WHERE, bytes(65_507))[0].length == 0xFFFF
    with pytest.raises(TooLarge):
        seal_field(compartment(), 1, 1, WHERE, bytes(65_508))


@given(st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.integers(0, 0xFFFF), st.integers(0, 2**63))
def test_the_associated_data_is_the_framed_list_of_the_page(
    field: int, version: int, source: int, said_at: int
) -> None:
    where = Provenance(source, b"k" * 16, 2, said_at)
    place = compartment()
    expected = framed(
        b"F1",
        place.compartment_id,
        ADA.bytes,
        place.purposes.to_bytes(8, "big"),
        place.generation.to_bytes(2, "big"),
        field.to_bytes(2, "big")
        + version.to_bytes(4, "big")
        + source.to_bytes(2, "big")
        + b"k" * 16
        + b"\x02"
        + said_at.to_bytes(8, "big"),
    )
    _, sealed = seal_field(place, field, version, where, b"1")
    assert place.aead.decrypt(sealed, expected) == b"1"


def test_vectors_of_sealed_values_open_as_they_say() -> None:
    for vector in json.loads((VECTORS / "fields.json").read_text())["sealed"]:
        place = vector_compartment(vector["compartment"])
        head = FieldHead._make([*vector["head"][:3], bytes.fromhex(vector["head"][3]), *vector["head"][4:]])
        sealed = bytes.fromhex(vector["sealed"])
        if vector["expected"] == "unreadable":
            with pytest.raises(Unreadable):
                open_field(place, head, sealed, permit())
        else:
            assert open_field(place, head, sealed, permit()).decode() == vector["plaintext"], vector["name"]


def test_vectors_of_events_open_as_they_say() -> None:
    for vector in json.loads((VECTORS / "event.json").read_text())["events"]:
        place = vector_compartment(vector["compartment"])
        key, sealed = bytes.fromhex(vector["event_key"]), bytes.fromhex(vector["bytes"])
        if vector["expected"] == "unreadable":
            with pytest.raises(Unreadable):
                open_event(place, key, vector["kind"], sealed, permit())
        else:
            assert open_event(place, key, vector["kind"], sealed, permit()).decode() == vector["plaintext"]


def vector_compartment(told: dict[str, Any]) -> Compartment:
    return compartment(
        key=bytes.fromhex(told["field_key"]),
        compartment_id=bytes.fromhex(told["compartment_id"]),
        subject=UUID(told["subject"]),
        purposes=told["purposes"],
        generation=told["generation"],
    )
