"""One byte form for hashing, signing and associated data, so that two different things never read the same."""

import struct
from typing import Any

import rfc8785

_LENGTH = struct.Struct(">I")
_SHORT = [_LENGTH.pack(length) for length in range(256)]  # most parts are ids and names


def framed(*parts: bytes) -> bytes:
    """Each part behind its length (unsigned 32 bits, big-endian): no two lists of parts give the same bytes."""
    return b"".join([framed_one(part) for part in parts])


def framed_one(part: bytes) -> bytes:
    """`framed` of one part. What is framed part by part reads as if it had been framed at once."""
    return (_SHORT[len(part)] if len(part) < 256 else _LENGTH.pack(len(part))) + part


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. Raises ValueError for what JSON cannot hold exactly."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, TypeError) as error:
        raise ValueError("not canonical JSON") from error
