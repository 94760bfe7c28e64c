"""Signatures: RFC 8032's own vectors, one use a key, documents as canonical bytes."""

import pickle
from typing import Any

import cryptography_vectors
import pytest

from vault.crypto.signing import Signer, key_id, verify, verify_document
from vault.errors import Unreadable

SEED = bytes(range(32))
DOCUMENT = {"b": 1, "a": ["x", None, True]}


def test_the_vectors_of_the_reference_implementation_hold() -> None:
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as file:
        lines = file.readlines()[:200]
    for line in lines:
        secret, public, message, signed, _ = line.split(":")
        signer = Signer("audit", bytes.fromhex(secret)[:32])
        signature = bytes.fromhex(signed)[:64]
        assert signer.public.hex() == public
        assert signer.sign(bytes.fromhex(message)) == signature
        verify(signer.public, bytes.fromhex(message), signature)


def test_a_signature_of_other_bytes_or_another_key_is_unreadable() -> None:
    signer = Signer("audit", SEED)
    signature = signer.sign(b"message")
    wrong = [
        (signer.public, b"other", signature),
        (Signer("audit", bytes(32)).public, b"message", signature),
        (signer.public, b"message", signature[:-1]),
        (signer.public, b"message", b""),
        (signer.public[:-1], b"message", signature),
        (b"\xff" * 32, b"message", signature),
    ]
    for public, message, bad in wrong:
        with pytest.raises(Unreadable):
            verify(public, message, bad)


def test_a_document_is_signed_as_canonical_bytes() -> None:
    signer = Signer("certificate", SEED)
    signature = signer.sign_document(DOCUMENT)
    assert signature["key_id"] == signer.key_id == key_id("certificate", signer.public)
    verify_document(signer.public, {"a": ["x", None, True], "b": 1.0}, signature, "certificate")


@pytest.mark.parametrize(
    "change",
    [
        {"value": "AAAA"},
        {"value": "not base64!"},
        {"value": 1},
        {"key_id": "0" * 16},
        {"use": "receipt"},
        {"algorithm": "none"},
    ],
)
def test_a_changed_signature_is_unreadable(change: dict[str, object]) -> None:
    signer = Signer("certificate", SEED)
    with pytest.raises(Unreadable):
        verify_document(signer.public, DOCUMENT, {**signer.sign_document(DOCUMENT), **change}, "certificate")


def test_a_changed_document_or_an_empty_signature_is_unreadable() -> None:
    signer = Signer("certificate", SEED)
    signature = signer.sign_document(DOCUMENT)
    attempts: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({**DOCUMENT, "b": 2}, signature),
        (DOCUMENT, {}),
        ({"b": float("nan")}, signature),
    ]
    for document, attached in attempts:
        with pytest.raises(Unreadable):
            verify_document(signer.public, document, attached, "certificate")
    with pytest.raises(Unreadable):
        verify_document(signer.public, DOCUMENT, {k: v for k, v in signature.items() if k != "value"}, "certificate")


def test_a_signature_for_one_use_does_not_count_for_another_under_the_same_key() -> None:
    receipt, certificate = Signer("receipt", SEED), Signer("certificate", SEED)
    relabelled = {**receipt.sign_document(DOCUMENT), "use": "certificate", "key_id": certificate.key_id}
    with pytest.raises(Unreadable):
        verify_document(certificate.public, DOCUMENT, relabelled, "certificate")


def test_a_signing_key_shows_nothing_and_does_not_travel() -> None:
    signer = Signer("audit", SEED)
    assert SEED.hex() not in repr(signer)
    assert repr(signer) == f"Signer(audit, {signer.key_id})"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(signer)
    with pytest.raises(ValueError, match="32 bytes"):
        Signer("audit", bytes(31))
