"""Where a reader of the feed stands, as text that only the vault can make.

  bytes   format 1 | destination u32 | incarnation 16 | policy 8 | number u64 | flags u8 | MAC 32
  text    base64url without padding, 94 characters

Bound to the destination and to the database's incarnation; opaque to whoever holds it. docs/formats/cursor.md.
"""

import base64
import binascii
import re
import struct
from typing import Final

import msgspec

from vault.crypto.mac import MAC_BYTES, mac, verify_mac
from vault.errors import Gone, Invalid, Unreadable

FORMAT: Final = 1
LABEL: Final = "cursor/1"
SNAPSHOT: Final = 1  # flag: between `reset` and `snapshot_end`
_BODY: Final = struct.Struct(">BI16s8sQB")
_TEXT: Final = re.compile(rf"[A-Za-z0-9_-]{{{-(-(_BODY.size + MAC_BYTES) * 8 // 6)}}}")


class Cursor(msgspec.Struct, frozen=True):
    """What a cursor says."""

    destination: int
    incarnation: str  # 32 hex digits
    policy: bytes  # first 8 bytes of the policy version's digest
    number: int  # the last change number seen
    snapshot: bool  # whether a first read is under way


def pack(cursor: Cursor, key: bytes) -> str:
    """The cursor as text; `key` is the keyring's `cursor`."""
    body = _BODY.pack(
        FORMAT,
        cursor.destination,
        bytes.fromhex(cursor.incarnation),
        cursor.policy,
        cursor.number,
        SNAPSHOT if cursor.snapshot else 0,
    )
    return base64.urlsafe_b64encode(body + mac(key, LABEL, body)).rstrip(b"=").decode("ascii")


def unpack(text: str, key: bytes, destination: int, incarnation: str) -> Cursor:
    """The cursor, if this vault made it for this destination.

    Raises `Invalid` (code `cursor_invalid`) for anything else, whatever is wrong with it; `Gone` (code `cursor_gone`) for
    one that was right until the database was replaced by an older or another one (threat H20).
    """
    if not _TEXT.fullmatch(text):
        raise _invalid()
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _invalid() from None
    body, code = data[: _BODY.size], data[_BODY.size :]
    try:
        verify_mac(code, key, LABEL, body)
    except Unreadable:
        raise _invalid() from None
    form, owner, made_by, policy, number, flags = _BODY.unpack(body)
    cursor = Cursor(owner, made_by.hex(), policy, number, snapshot=flags == SNAPSHOT)
    # The text must be the one way to write these bytes: base64 leaves spare bits at the end.
    if form != FORMAT or owner != destination or flags not in {0, SNAPSHOT} or pack(cursor, key) != text:
        raise _invalid()
    if cursor.incarnation != incarnation:
        raise Gone("read from the start: call without a cursor", code="cursor_gone")
    return cursor


def _invalid() -> Invalid:
    return Invalid("use the cursor of the last page as it came", code="cursor_invalid")
