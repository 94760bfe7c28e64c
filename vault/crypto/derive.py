"""Keys from keys: HKDF-SHA-512 (RFC 5869), its expand step.

Every key that goes in is 32 bytes, random or derived, so there is nothing to extract (RFC 5869 section 3.3; ADR 0021).
The fixed length matters: HMAC pads shorter keys with zeros, so a key and the same key with a zero behind it would agree.
For keys of key services and of destinations; data keys and wraps have `wrap` (ADR 0086). Docs: docs/formats/tags.md.
"""

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.canonical import framed

KEY_BYTES: Final = 32
_SHA512: Final = hashes.SHA512()


def expand(key: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """`length` bytes for exactly this `info`. The caller keeps two infos from ever reading the same."""
    if len(key) != KEY_BYTES:
        raise ValueError("a key to derive from has 32 bytes")
    return HKDFExpand(_SHA512, length, info).derive(key)


def derive(key: bytes, label: str, *parts: bytes, length: int = KEY_BYTES) -> bytes:
    """`length` bytes for `label` and `parts`, framed, so that no two lists of them give the same key."""
    return expand(key, framed(label.encode(), *parts), length)
