"""HMAC-SHA-256 (RFC 2104), only for formats of others that ask for exactly this: Standard Webhooks.

Our own codes are `mac` and `tag`, which bind a label; this one binds nothing, so a key in here has no other use.
"""

import hmac
from typing import Final

from vault.errors import Unreadable

CODE_BYTES: Final = 32
MIN_KEY_BYTES: Final = 16  # the test vectors of RFC 4231 begin there; webhook secrets have 24 to 64


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """32 bytes over exactly these bytes."""
    if len(key) < MIN_KEY_BYTES:
        raise ValueError("an HMAC key has at least 16 bytes")
    return hmac.digest(key, message, "sha256")


def verify_hmac_sha256(expected: bytes, key: bytes, message: bytes) -> None:
    """Raises `Unreadable` unless `expected` is the code of `message`; takes the same time whatever differs."""
    if not hmac.compare_digest(expected, hmac_sha256(key, message)):
        raise Unreadable
