"""The head of the audit log, kept beside the journal: a database that is older than it shows itself (threats A6).

  bytes   format 1 | size u64 | root 32 | MAC 32, keyed with the journal key

Promises: never goes back or sideways unless a person accepted the loss.
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

from vault import durable
from vault.crypto.mac import MAC_BYTES, mac, verify_mac
from vault.errors import Conflict, Unreadable

FILE: Final = "audit.head"
FORMAT: Final = 1
LABEL: Final = "audit-head/1"
ROOT_BYTES: Final = 32
_BODY: Final = struct.Struct(f">BQ{ROOT_BYTES}s")
BYTES: Final = _BODY.size + MAC_BYTES


class AuditHead(NamedTuple):
    """Number of leaves, and the root over them."""

    size: int
    root: bytes


def opened(data: bytes, key: bytes) -> AuditHead:
    """The head in these bytes. Raises `Unreadable`."""
    if len(data) != BYTES:
        raise Unreadable
    body = data[: _BODY.size]
    verify_mac(data[_BODY.size :], key, LABEL, body)
    form, size, root = _BODY.unpack(body)
    if form != FORMAT:
        raise Unreadable
    return AuditHead(size, root)


def newer_head(folder: Path, key: bytes, data: bytes) -> bool:
    """True if these bytes are a head that is ahead of the one in `folder`. Raises `Unreadable`."""
    head = opened(data, key)
    try:
        known = opened(durable.read_private(folder / FILE, BYTES), key)
    except FileNotFoundError:
        return True
    return head.size > known.size


def followed_by(stored: bytes | None, head: AuditHead, key: bytes, *, accept_loss: bool = False) -> bytes | None:
    """The bytes to put in the place of the stored ones; None where they say the same already.

    Raises `Conflict` if the head goes back, or names another root at the same size.
    """
    known = None if accept_loss or stored is None else opened(stored, key)
    if known is not None and (head.size < known.size or (head.size == known.size and head.root != known.root)):
        raise Conflict("the audit log is older than the head kept beside the journal, or another one")
    if known == head:
        return None
    if len(head.root) != ROOT_BYTES:
        raise ValueError("a root has 32 bytes")
    body = _BODY.pack(FORMAT, head.size, head.root)
    return body + mac(key, LABEL, body)
