"""Claims about the plain HMAC that Standard Webhooks asks for: the vectors of RFC 4231, and no key too short to hide."""

import pytest

from vault.crypto.hmac256 import hmac_sha256, verify_hmac_sha256
from vault.errors import Unreadable

# RFC 4231, test cases 1, 3, 4 and 6 (case 2 has a key of four bytes, which this function refuses).
CASES = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("key", "message", "code"), CASES)
def test_the_vectors_of_rfc_4231_hold(key: bytes, message: bytes, code: str) -> None:
    assert hmac_sha256(key, message).hex() == code
    verify_hmac_sha256(bytes.fromhex(code), key, message)


def test_another_message_or_code_is_unreadable() -> None:
    code = hmac_sha256(b"k" * 32, b"message")
    for bad, message in ((code, b"massage"), (code[:-1], b"message"), (b"", b"message"), (code + b"\0", b"message")):
        with pytest.raises(Unreadable):
            verify_hmac_sha256(bad, b"k" * 32, message)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        hmac_sha256(b"k" * 15, b"message")
