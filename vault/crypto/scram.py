"""What PostgreSQL keeps of a password (SCRAM-SHA-256, RFC 5803): a statement with it can be shown and logged.

Of a password with 256 random bits it tells nothing. Passwords are ASCII here, so that no normal form is needed.
"""

import base64
import hashlib
from typing import Final

from vault.crypto.hmac256 import hmac_sha256

ITERATIONS: Final = 4096  # PostgreSQL's own number; ours are no passwords that somebody could guess
SALT_BYTES: Final = 16


def verifier(password: str, salt: bytes) -> str:
    """The text for `CREATE ROLE … PASSWORD '…'`. Raises `ValueError` for a password that is not plain ASCII."""
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password is printable ASCII")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac_sha256(salted, b"Client Key")).digest()
    server = hmac_sha256(salted, b"Server Key")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(some: bytes) -> str:
    return base64.b64encode(some).decode()
