"""Bytes that a JSON parser may safely see, told from those that it may not. Knows no message.

Promises: nesting is measured before any parser recurses (threats G2), and bytes that are not UTF-8 never reach one (G1);
both in time that grows with the length only, and without a step of Python for each thing found: what half a megabyte of
anything costs here, nothing else can be served meanwhile (G7). No error holds a byte of what was scanned.
"""

import re
from typing import Final

from vault.errors import Invalid

MAX_DEPTH: Final = 32  # real messages nest about 6 deep
MAX_NESTS: Final = 50_000  # objects and lists of a body: one in 10 bytes; real batches have one in 40
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_NUMBER: Final = re.compile(rb"-?Infinity|NaN")
# For as long as quotes are looked for. No UTF-8 holds these bytes.
_BACKSLASH: Final = b"\xfe"
_QUOTE: Final = b"\xff"


def scan(body: bytes) -> None:
    """Refuse what no JSON parser should be handed. Raises Invalid; says nothing about validity beyond that."""
    try:
        body.decode("utf-8", "strict")
    except UnicodeDecodeError:
        # `from None`: that exception holds the whole body
        raise Invalid("The body is not UTF-8.", code="invalid_json") from None
    nests = body.count(b"[") + body.count(b"{")
    if nests > MAX_NESTS:
        raise Invalid(f"The body has more than {MAX_NESTS} objects and lists.", code="too_deep")
    if nests > MAX_DEPTH and _depth_over(body, MAX_DEPTH):
        raise Invalid(f"The body is nested deeper than {MAX_DEPTH} levels.", code="too_deep")


def tolerate_nan(body: bytes) -> bytes:
    """The body with bare `NaN` and `Infinity` as null: Python's tracking SDK writes them (standards section 1.4).

    For what has passed `scan`, and what a strict parser does not take; nearly every body is spared it.
    """
    if b"NaN" not in body and b"Infinity" not in body:
        return body
    hidden = body.replace(rb"\\", _BACKSLASH).replace(rb"\"", _QUOTE)
    pieces = hidden.split(b'"')  # outside a string, inside one, outside
    outside = _NO_NUMBER.sub(b"null", b'"'.join(pieces[::2]))
    pieces[::2] = outside.split(b'"')
    return b'"'.join(pieces).replace(_QUOTE, rb"\"").replace(_BACKSLASH, rb"\\")


def _depth_over(body: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than `limit`, or do not pair. In C, before any recursion."""
    structure = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(_AS_SQUARE, _NOT_STRUCTURE)
    # two quotes side by side change no other byte's being inside or outside a string
    structure = b"".join(structure.replace(b'""', b"").split(b'"')[::2])
    for _ in range(limit):
        if not structure:
            return False
        structure = structure.replace(b"[]", b"")  # every innermost pair: one level a round
    return bool(structure)
