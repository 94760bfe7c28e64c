"""Keyed 256-bit codes that show whether stored bytes were changed: BLAKE2b with key and personal label (RFC 7693; ADR 0020).

Output length is part of the hash's parameters, so a `tag` is never the front of a `mac`. Docs: docs/formats/tags.md.
"""

import hashlib
import hmac
from functools import lru_cache
from typing import Final, NoReturn

from vault.canonical import framed
from vault.errors import Unreadable

MAC_BYTES: Final = 32
KEY_BYTES: Final = 32
LABEL_BYTES: Final = hashlib.blake2b.PERSON_SIZE  # 16


def mac(key: bytes, label: str, *parts: bytes) -> bytes:
    """32 bytes over `label` and `parts`, framed. `label` is at most 16 printable ASCII letters."""
    return hashlib.blake2b(framed(*parts), digest_size=MAC_BYTES, key=check_key(key), person=person(label)).digest()


def verify_mac(expected: bytes, key: bytes, label: str, *parts: bytes) -> None:
    """Raises `Unreadable` unless `expected` is the code of `parts`; takes the same time whatever differs."""
    if not hmac.compare_digest(expected, mac(key, label, *parts)):
        raise Unreadable


class Code:
    """One key and label made ready, for who needs many codes in one journey. Shows nothing of itself, and does not travel."""

    __slots__ = ("_ready",)

    def __init__(self, key: bytes, label: str) -> None:
        """The key and label that `mac` would be given."""
        self._ready = hashlib.blake2b(digest_size=MAC_BYTES, key=check_key(key), person=person(label))

    def make(self, *parts: bytes) -> bytes:
        """As `mac`."""
        made = self._ready.copy()
        made.update(framed(*parts))
        return made.digest()

    def verify(self, expected: bytes, *parts: bytes) -> None:
        """As `verify_mac`."""
        if not hmac.compare_digest(expected, self.make(*parts)):
            raise Unreadable

    def __repr__(self) -> str:
        return "Code(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key does not leave its process")


def same_code(stored: bytes, code: bytes) -> bool:
    """As `verify_mac`, for a code at hand and an answer of yes or no."""
    return hmac.compare_digest(stored, code)


def check_key(key: bytes) -> bytes:
    """The key, if it has 32 bytes. An empty one would silently mean "no key" to BLAKE2b."""
    if len(key) != KEY_BYTES:
        raise ValueError("a key for tags and codes has 32 bytes")
    return key


@lru_cache(maxsize=256)  # labels are constants of the code
def person(label: str) -> bytes:
    """The label as BLAKE2b's personal string. Shorter ones are padded with zeros, so a label holds none itself."""
    if not 0 < len(label) <= LABEL_BYTES or not label.isascii() or not label.isprintable():
        raise ValueError("a label has 1 to 16 printable ASCII letters")
    return label.encode()
