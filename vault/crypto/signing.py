"""Ed25519 (RFC 8032): one key per use, its id beside every signature, checked offline with the public key alone.

A signed document is JSON; what is signed are its RFC 8785 bytes, with the use in front, so that a signature made for one
use never counts for another even under a shared key. Docs: docs/formats/keystore.md, "Signing keys".
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vault.canonical import canonical_json, framed
from vault.errors import Unreadable

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ALGORITHM: Final = "Ed25519"


def key_id(use: str, public: bytes) -> str:
    """16 hex digits that name a public key in its use: the front of SHA-256 over both."""
    return hashlib.sha256(framed(b"key-id/1", use.encode(), public)).hexdigest()[:16]


class Signer:
    """A private key in its one use. Shows nothing of itself and cannot be pickled."""

    __slots__ = ("_private", "key_id", "public", "use")

    def __init__(self, use: str, seed: bytes) -> None:
        """`seed` is the 32-byte private key of RFC 8032."""
        if len(seed) != SEED_BYTES:
            raise ValueError("an Ed25519 private key has 32 bytes")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.use = use
        self.public = self._private.public_key().public_bytes_raw()
        self.key_id = key_id(use, self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes over exactly these bytes."""
        return self._private.sign(message)

    def sign_document(self, document: Mapping[str, Any]) -> dict[str, str]:
        """A detached signature over a JSON document: {algorithm, key_id, use, value}, the value in base64."""
        value = self._private.sign(_signed_bytes(self.use, document))
        return {
            "algorithm": ALGORITHM,
            "key_id": self.key_id,
            "use": self.use,
            "value": base64.b64encode(value).decode(),
        }

    def __repr__(self) -> str:
        return f"Signer({self.use}, {self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key does not leave its process; send its public key")


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises `Unreadable` unless `signature` is of these bytes under this public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Unreadable from None


def verify_document(public: bytes, document: Mapping[str, Any], signature: Mapping[str, Any], use: str) -> None:
    """Raises `Unreadable` unless `signature` is a detached signature of `document`, made for `use` with this key."""
    if (
        signature.get("algorithm") != ALGORITHM
        or signature.get("use") != use
        or signature.get("key_id") != key_id(use, public)
    ):
        raise Unreadable
    try:
        value = base64.b64decode(signature["value"], validate=True)
        message = _signed_bytes(use, document)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise Unreadable from None
    verify(public, message, value)


def _signed_bytes(use: str, document: Mapping[str, Any]) -> bytes:
    return framed(b"signed/1", use.encode(), canonical_json(dict(document)))
