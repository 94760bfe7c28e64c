"""AES-256-GCM with a random nonce, bound to a context that the caller names. Nothing else encrypts values.

Sealed bytes:  nonce 12 | ciphertext, as long as the plaintext | tag 16

Promises: a nonce is drawn from the operating system at each call (threats A9); whatever does not open is `Unreadable`,
with no word about why (A12, A19). GCM alone does not commit to its key: keys come from `wrap`, which does (A11).
The context is never stored: the reader builds it from what it knows (`vault.canonical.framed`).
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import Unavailable, Unreadable

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # the only length taken: the library takes 8 to 128 (threats A12)
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES

# NIST SP 800-38D section 8.3: at most 2**32 calls with random nonces under one key. A key lives for one compartment of
# one person, so a process that comes near has gone wrong, and is stopped (threats A10).
MAX_SEALED: Final = 2**32 - 1


class Aead:
    """One opened key, kept as a ready cipher. Shows nothing of itself and cannot be pickled or copied."""

    __slots__ = ("_cipher", "_sealed")

    def __init__(self, key: bytes) -> None:
        """`key` is 32 random or derived bytes; any other length is a fault of the program (ValueError)."""
        if len(key) != KEY_BYTES:
            raise ValueError("an AES-256-GCM key has 32 bytes")
        self._cipher = AESGCM(key)
        self._sealed = 0

    def encrypt(self, plaintext: bytes, context: bytes) -> bytes:
        """`plaintext` sealed under a fresh nonce. Raises `Unavailable` when the key has sealed its fill."""
        if self._sealed >= MAX_SEALED:
            raise Unavailable("a key has sealed as often as it safely may; open a new generation")
        self._sealed += 1
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, context)

    def decrypt(self, sealed: bytes | memoryview, context: bytes) -> bytes:
        """The plaintext, or `Unreadable`."""
        if len(sealed) < OVERHEAD_BYTES:
            raise Unreadable
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag:
            raise Unreadable from None

    def decrypt_each(
        self, blob: bytes, starts: Sequence[int], context: bytes, spots: Iterable[tuple[int, int, int]]
    ) -> list[bytes]:
        """The plaintexts of several sealed values within `blob`, or `Unreadable`.

        Each spot is (place, from, to): the value stands from `starts[place]` to the next start, and its context is `context`
        and the bytes of `blob` between the two.
        """
        decrypt = self._cipher.decrypt
        try:
            return [
                decrypt(
                    blob[(start := starts[place]) : start + NONCE_BYTES],
                    blob[start + NONCE_BYTES : starts[place + 1]],
                    context + blob[first:last],
                )
                for place, first, last in spots
            ]
        except (InvalidTag, ValueError):  # ValueError: a span too short to hold a nonce
            raise Unreadable from None

    def __repr__(self) -> str:
        return "Aead(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an opened key does not leave its process; send the wrapped one")


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """`Aead(key).encrypt(...)`, for a key that is used once."""
    return Aead(key).encrypt(plaintext, context)


def unseal(key: bytes, sealed: bytes | memoryview, context: bytes) -> bytes:
    """`Aead(key).decrypt(...)`, for a key that is used once. Raises `Unreadable`."""
    return Aead(key).decrypt(sealed, context)
