"""Makes one AES-GCM ciphertext that opens under two keys (threats A11): the reason why a wrap carries a commitment.

GHASH is a polynomial in H = AES_K(0) over GF(2**128). With two ciphertext blocks, both keys' tags agree if
c2 = (c1 (H1^3 + H2^3) + A + L (H1 + H2) + E1 + E2) / (H1^2 + H2^2), where A is the difference of the parts of the
associated data and E the encrypted first counter block.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16
_REDUCTION = 0xE1 << 120


def _times(a: int, b: int) -> int:
    """Product in GCM's field; the leftmost bit is the coefficient of x**0 (NIST SP 800-38D section 6.3)."""
    product = 0
    for shift in range(127, -1, -1):
        if a >> shift & 1:
            product ^= b
        b = b >> 1 ^ (_REDUCTION if b & 1 else 0)
    return product


def _power(a: int, exponent: int) -> int:
    result = 1 << 127
    for _ in range(exponent):
        result = _times(result, a)
    return result


def _inverse(a: int) -> int:
    """a ** (2**128 - 2)."""
    result, square = 1 << 127, a
    for _ in range(127):
        square = _times(square, square)
        result = _times(result, square)
    return result


def _aes(key: bytes, block: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block: the raw permutation that GCM is built on
    return int.from_bytes(encryptor.update(block), "big")


def two_key_ciphertext(
    first: bytes, second: bytes, nonce: bytes, context: bytes, c1: bytes, other_context: bytes | None = None
) -> bytes:
    """48 bytes, ciphertext and tag, that AES-256-GCM opens under both keys with this nonce and associated data.

    `other_context`, of the same length, is that of the second key; else both have the same.
    """
    h1, h2 = _aes(first, bytes(BLOCK)), _aes(second, bytes(BLOCK))
    e1, e2 = (_aes(key, nonce + b"\x00\x00\x00\x01") for key in (first, second))
    lengths = len(context) * 8 << 64 | 2 * BLOCK * 8
    first_block = int.from_bytes(c1, "big")

    def front(h: int, bound: bytes) -> int:
        """All but the c2 term and the pad E: sum of a_i H^(n-i+3), c1 H^3, lengths H."""
        padded = bound + bytes(-len(bound) % BLOCK)
        blocks = [int.from_bytes(padded[at : at + BLOCK], "big") for at in range(0, len(padded), BLOCK)]
        total = _times(first_block, _power(h, 3)) ^ _times(lengths, h)
        for index, block in enumerate(blocks):
            total ^= _times(block, _power(h, len(blocks) - index + 3))
        return total

    difference = front(h1, context) ^ front(h2, context if other_context is None else other_context) ^ e1 ^ e2
    second_block = _times(difference, _inverse(_power(h1, 2) ^ _power(h2, 2)))
    tag = front(h1, context) ^ _times(second_block, _power(h1, 2)) ^ e1
    return c1 + second_block.to_bytes(BLOCK, "big") + tag.to_bytes(BLOCK, "big")
