"""Keyed tags and codes: RFC 7693 underneath, parts that cannot be shifted, uses that cannot be mixed."""

import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.canonical import framed
from vault.crypto.blind import TAG_BYTES, Tagger, tag
from vault.crypto.mac import MAC_BYTES, Code, mac, verify_mac
from vault.errors import Unreadable

KEY = bytes(range(32))
PARTS = st.lists(st.binary(max_size=5), max_size=4)


def test_they_are_keyed_blake2b_with_a_personal_label() -> None:
    parts = framed(b"email", b"ada@example.com")
    expected = hashlib.blake2b(parts, digest_size=16, key=KEY, person=b"identifier/1").digest()
    assert tag(KEY, "identifier/1", b"email", b"ada@example.com") == expected
    assert (
        mac(KEY, "state/1", b"x") == hashlib.blake2b(framed(b"x"), digest_size=32, key=KEY, person=b"state/1").digest()
    )


@given(PARTS, PARTS)
def test_no_two_lists_of_parts_give_the_same_tag(some: list[bytes], other: list[bytes]) -> None:
    assert (tag(KEY, "a", *some) == tag(KEY, "a", *other)) == (some == other)
    assert (mac(KEY, "a", *some) == mac(KEY, "a", *other)) == (some == other)


@given(PARTS, st.binary(max_size=400))
def test_keys_made_ready_give_the_same_tags_and_codes(front: list[bytes], part: bytes) -> None:
    tagger, code = Tagger(KEY, "a", *front), Code(KEY, "a")
    assert tagger.tag(part) == tag(KEY, "a", *front, part)
    assert tagger.tag(part) == tag(KEY, "a", *front, part), "a second one does not go on from the first"
    assert code.make(*front, part) == mac(KEY, "a", *front, part)


@pytest.mark.parametrize("ready", [Tagger(KEY, "a"), Code(KEY, "a")], ids=["tags", "codes"])
def test_a16_a_key_made_ready_neither_shows_itself_nor_travels(ready: object) -> None:
    assert repr(ready) == f"{type(ready).__name__}(...)"
    with pytest.raises(TypeError):
        pickle.dumps(ready)


def test_a17_the_same_value_under_two_keys_or_labels_gives_unrelated_tags() -> None:
    values = [str(number).encode() for number in range(2_000)]
    one = {tag(KEY, "identifier/1", value) for value in values}
    assert len(one) == len(values)
    assert not one & {tag(bytes(32), "identifier/1", value) for value in values}
    assert not one & {tag(KEY, "identifier/2", value) for value in values}


def test_a_tag_is_not_the_front_of_a_code() -> None:
    assert len(tag(KEY, "a", b"x")) == TAG_BYTES
    assert len(mac(KEY, "a", b"x")) == MAC_BYTES
    assert mac(KEY, "a", b"x")[:TAG_BYTES] != tag(KEY, "a", b"x")


@given(st.data())
def test_a_code_with_any_flipped_bit_is_unreadable(data: st.DataObject) -> None:
    code = bytearray(mac(KEY, "a", b"x"))
    verify_mac(bytes(code), KEY, "a", b"x")
    bit = data.draw(st.integers(min_value=0, max_value=MAC_BYTES * 8 - 1))
    code[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable):
        verify_mac(bytes(code), KEY, "a", b"x")


@pytest.mark.parametrize("code", [b"", b"\x00", mac(KEY, "a", b"x")[:-1], mac(KEY, "a", b"x") + b"\x00"])
def test_a_code_of_another_length_is_unreadable(code: bytes) -> None:
    with pytest.raises(Unreadable):
        verify_mac(code, KEY, "a", b"x")


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(64)])
def test_an_empty_or_odd_key_is_a_fault(key: bytes) -> None:
    for function in (tag, mac):
        with pytest.raises(ValueError, match="32 bytes"):
            function(key, "a", b"x")


@pytest.mark.parametrize("label", ["", "seventeen-letters", "a\x00", "ä", "a\n"])
def test_a_label_that_could_collide_is_a_fault(label: str) -> None:
    for function in (tag, mac):
        with pytest.raises(ValueError, match="label"):
            function(KEY, label, b"x")
