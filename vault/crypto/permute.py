"""A keyed permutation of 16 bytes: AES-256 on one block. For names that only the holder of the key can turn back.

One block, so no mode and no nonce: equal inputs give equal outputs, which is what a stable name is. It hides nothing but
which input it was; what must not be linkable gets another key (FIPS 197; a block cipher is a pseudorandom permutation).
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

BLOCK_BYTES: Final = 16


def permute(key: bytes, blocks: bytes) -> bytes:
    """The 16 bytes that stand for each block of 16 under a 32-byte key. Raises ValueError for another length."""
    return _apply(key, blocks, forward=True)


def restore(key: bytes, blocks: bytes) -> bytes:
    """The bytes that `permute` was given."""
    return _apply(key, blocks, forward=False)


def _apply(key: bytes, blocks: bytes, *, forward: bool) -> bytes:
    if not blocks or len(blocks) % BLOCK_BYTES:
        raise ValueError("a block has 16 bytes")
    cipher = Cipher(AES256(key), ECB())  # noqa: S305 - blocks of random ids, each by itself
    context = cipher.encryptor() if forward else cipher.decryptor()
    return context.update(blocks) + context.finalize()
