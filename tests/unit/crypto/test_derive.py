"""Derivation against RFC 5869 written out with `hmac`, itself held to the RFC's own vectors."""

import hmac

import cryptography_vectors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.derive import derive, expand

KEYS = st.binary(min_size=32, max_size=32)


def plain_expand(prk: bytes, info: bytes, length: int, algorithm: str) -> bytes:
    """RFC 5869 section 2.3, word for word."""
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes((counter,)), algorithm)
        out += block
        counter += 1
    return out[:length]


def test_the_plain_form_keeps_the_vectors_of_the_rfc() -> None:
    cases: list[dict[str, str]] = []
    with cryptography_vectors.open_vector_file("KDF/rfc-5869-HKDF-SHA256.txt", "r") as file:
        for line in file:
            if line.startswith("COUNT"):
                cases.append({})
            elif " =" in line:
                left, _, right = line.partition(" =")
                cases[-1][left.strip()] = right.strip()
    assert len(cases) >= 3
    for case in cases:
        prk = bytes.fromhex(case["PRK"])
        okm = plain_expand(prk, bytes.fromhex(case["info"]), int(case["L"]), "sha256")
        assert okm.hex() == case["OKM"]


@given(KEYS, st.binary(max_size=80), st.integers(min_value=1, max_value=300))
def test_ours_is_the_plain_form_with_sha_512(key: bytes, info: bytes, length: int) -> None:
    assert expand(key, info, length) == plain_expand(key, info, length, "sha512")


@given(KEYS, st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_no_two_lists_of_parts_give_the_same_key(key: bytes, some: list[bytes], other: list[bytes]) -> None:
    assert (derive(key, "a", *some) == derive(key, "a", *other)) == (some == other)
    assert derive(key, "a", *some) != derive(key, "b", *some)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_only_256_bit_keys_are_derived_from(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        expand(bytes(length), b"info")
