"""Wrapping: bound to its place, committed to one data key."""

import os
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.crypto.gcm_two_keys import two_key_ciphertext
from vault.crypto.wrap import WRAP_BYTES, keys_of, place_of, unwrap, wrap, wrapping_key
from vault.errors import Unreadable

EPOCH_KEY = bytes(range(32))
SUBJECT = bytes(range(16))
PARTS = (bytes(range(16, 32)), SUBJECT, 0b1011, 3)
PLACE = place_of(*PARTS)
DATA_KEY = bytes(range(64, 96))
FIELD_KEY, COMMITMENT = keys_of(DATA_KEY, PLACE)
CIPHER = wrapping_key(EPOCH_KEY, SUBJECT, 1, 7)
BLOB = wrap(CIPHER, DATA_KEY, PLACE, COMMITMENT, 1, 7)

PLACES = st.builds(
    place_of,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(min_value=0, max_value=2**63 - 1),
    st.integers(min_value=0, max_value=2**15 - 1),
)


def test_a_wrap_gives_back_the_field_key() -> None:
    assert len(BLOB) == WRAP_BYTES
    assert unwrap(CIPHER, BLOB, PLACE, COMMITMENT, 1, 7) == FIELD_KEY


@given(PLACES, PLACES)
def test_field_key_and_commitment_belong_to_one_place(one: bytes, other: bytes) -> None:
    same = keys_of(DATA_KEY, one) == keys_of(DATA_KEY, other)
    assert same == (one == other)
    assert keys_of(DATA_KEY, one)[0] != keys_of(DATA_KEY, one)[1]


@pytest.mark.parametrize(
    "parts",
    [
        (bytes(16), *PARTS[1:]),
        (PARTS[0], bytes(16), *PARTS[2:]),
        (*PARTS[:2], 0b1111, 3),
        (*PARTS[:3], 4),
    ],
    ids=["compartment", "a13 subject", "a4 purposes", "a22 generation"],
)
def test_a_wrap_opens_nowhere_else(parts: tuple[bytes, bytes, int, int]) -> None:
    with pytest.raises(Unreadable):
        unwrap(wrapping_key(EPOCH_KEY, parts[1], 1, 7), BLOB, place_of(*parts), COMMITMENT, 1, 7)


@pytest.mark.parametrize(("purpose", "epoch"), [(0, 7), (3, 7), (63, 7), (1, 6), (1, 8)])
def test_a_wrap_opens_for_no_other_purpose_or_epoch(purpose: int, epoch: int) -> None:
    for cipher in (CIPHER, wrapping_key(EPOCH_KEY, SUBJECT, purpose, epoch)):
        with pytest.raises(Unreadable):
            unwrap(cipher, BLOB, PLACE, COMMITMENT, purpose, epoch)


@given(st.integers(min_value=0, max_value=WRAP_BYTES * 8 - 1))
def test_any_flipped_bit_is_unreadable(bit: int) -> None:
    blob = bytearray(BLOB)
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable):
        unwrap(CIPHER, bytes(blob), PLACE, COMMITMENT, 1, 7)


@pytest.mark.parametrize(
    "cut",
    [
        (b"", COMMITMENT),
        (BLOB[:-1], COMMITMENT),
        (BLOB + b"\x00", COMMITMENT),
        (BLOB, b""),
        (BLOB, COMMITMENT[:31]),
        (BLOB, COMMITMENT + b"\x00"),
    ],
)
def test_a12_odd_lengths_are_unreadable(cut: tuple[bytes, bytes]) -> None:
    with pytest.raises(Unreadable):
        unwrap(CIPHER, cut[0], PLACE, cut[1], 1, 7)


def test_a11_a_wrap_that_opens_under_two_keys_is_refused_by_the_commitment() -> None:
    # The attacker knows both epoch keys, and chooses commitment, nonce and ciphertext freely.
    keys = [os.urandom(32) for _ in range(2)]
    context = struct.pack(">2s16s16sQH32sBH", b"W2", *PARTS, COMMITMENT, 1, 7)
    blob = two_key_ciphertext(keys[0], keys[1], COMMITMENT[:12], context, os.urandom(16))
    opened = [AESGCM(key).decrypt(COMMITMENT[:12], blob, context) for key in keys]
    assert opened[0] != opened[1]  # GCM alone is content with both
    for key in keys:
        with pytest.raises(Unreadable):
            unwrap(AESGCM(key), blob, PLACE, COMMITMENT, 1, 7)


def test_a21_a_wrap_of_another_data_key_is_refused_by_the_commitment() -> None:
    forged = wrap(CIPHER, os.urandom(32), PLACE, COMMITMENT, 1, 7)  # a valid wrap, but not of the committed key
    with pytest.raises(Unreadable):
        unwrap(CIPHER, forged, PLACE, COMMITMENT, 1, 7)


def test_a19_bad_tag_and_bad_commitment_look_the_same() -> None:
    told = set()
    for blob in (bytes(48), wrap(CIPHER, os.urandom(32), PLACE, COMMITMENT, 1, 7), b""):
        with pytest.raises(Unreadable) as caught:
            unwrap(CIPHER, blob, PLACE, COMMITMENT, 1, 7)
        told.add((str(caught.value), caught.value.reason, caught.value.__cause__))
    assert len(told) == 1
