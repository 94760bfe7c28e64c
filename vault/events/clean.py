"""Bytes that a JSON parser may safely see, told from those that it may not. Knows no message.

Promises: nesting is measured before any parser recurses (threats G2), and bytes that are not UTF-8 never reach one (G1);
both in time that grows with the length only. No error holds a byte of what was scanned.
"""

import re
from typing import Final

from vault.errors import Invalid

MAX_NANS: Final = 10_000  # four for each message that a batch may have
MAX_DEPTH: Final = 32  # real messages nest about 6 deep
_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_STRING: Final = re.compile(rb'"[^"]*"')
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
# A string that never ends matches, too: else each of its quotes would be tried to the end, in the square of the length.
_STRING_OR_NAN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|-?Infinity|NaN', re.DOTALL)


def scan(body: bytes) -> None:
    """Refuse what no JSON parser should be handed. Raises Invalid; says nothing about validity beyond that."""
    try:
        body.decode("utf-8", "strict")
    except UnicodeDecodeError:
        # `from None`: that exception holds the whole body
        raise Invalid("The body is not UTF-8.", code="invalid_json") from None
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    if _depth_over(body, MAX_DEPTH):
        raise Invalid(f"The body is nested deeper than {MAX_DEPTH} levels.", code="too_deep")


def tolerate_nan(body: bytes) -> bytes:
    """The body with bare `NaN` and `Infinity` as null: Python's tracking SDK writes them (standards section 1.4).

    One with more than 10,000 of them is left as it is, and no parser takes it: each costs many times its length (threats G7).
    """
    if not 0 < body.count(b"NaN") + body.count(b"Infinity") <= MAX_NANS:
        return body
    return _STRING_OR_NAN.sub(lambda found: found[0] if found[0][:1] == b'"' else b"null", body)


def _depth_over(body: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than `limit`, or do not pair. Linear, in C, before any recursion."""
    structure = _ESCAPE.sub(b"", body).translate(_AS_SQUARE, _NOT_STRUCTURE)
    # two quotes side by side change no other byte's being inside or outside a string
    structure = _STRING.sub(b"", structure.replace(b'""', b""))
    for _ in range(limit):
        if not structure:
            return False
        structure = structure.replace(b"[]", b"")  # every innermost pair: one level a round
    return bool(structure)
