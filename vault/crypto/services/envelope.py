"""Sealed bytes of a service that is elsewhere: form, which of its keys sealed, and what it answered.

    form 1 byte | length 1 byte | key id, ASCII | what the service made, to the end

The key id chooses nothing that the name does not: a service checks that it is a key of the name's own lock (threats A14).
"""

from typing import Final

from vault.errors import Unreadable

MAX_SEALED_BYTES: Final = 1024  # 36 bytes of ours grow to some 250 at most


def pack(form: int, key_id: str, body: bytes) -> bytes:
    """The bytes to keep."""
    named = key_id.encode("ascii")
    return bytes((form, len(named))) + named + body


def parse(form: int, sealed: bytes) -> tuple[str, bytes]:
    """Key id and body. Raises `Unreadable` for another form, or for what is no such bytes at all."""
    if not 2 < len(sealed) <= MAX_SEALED_BYTES or sealed[0] != form:
        raise Unreadable
    end = 2 + sealed[1]
    named, body = sealed[2:end], sealed[end:]
    if not named or not body or not named.isascii():
        raise Unreadable
    return named.decode("ascii"), body
