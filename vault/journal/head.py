"""The head of the audit log, kept beside the journal: a database that is older than it shows itself (threats A6).

  bytes   format 1 | size u64 | root 32 | MAC 32, keyed with the journal key

Promises: never goes back or sideways unless a person accepted the loss; the file is whole or as it was.
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


class AuditHead(NamedTuple):
    """Number of leaves, and the root over them."""

    size: int
    root: bytes


def read_head(folder: Path, key: bytes) -> AuditHead | None:
    """The head last written, or None if there never was one. Raises `Unreadable`."""
    try:
        data = durable.read_private(folder / FILE, _BODY.size + MAC_BYTES)
    except FileNotFoundError:
        return None
    return _parse(data, key)


def newer_head(folder: Path, key: bytes, data: bytes) -> bool:
    """True if these bytes are a head that is ahead of the one in `folder`. Raises `Unreadable`."""
    known = read_head(folder, key)
    return known is None or _parse(data, key).size > known.size


def _parse(data: bytes, key: bytes) -> AuditHead:
    if len(data) != _BODY.size + MAC_BYTES:
        raise Unreadable
    body = data[: _BODY.size]
    verify_mac(data[_BODY.size :], key, LABEL, body)
    form, size, root = _BODY.unpack(body)
    if form != FORMAT:
        raise Unreadable
    return AuditHead(size, root)


def write_head(folder: Path, key: bytes, head: AuditHead, *, accept_loss: bool = False) -> None:
    """Writes the head, durably. Raises `Conflict` if it goes back, or names another root at the same size."""
    known = None if accept_loss else read_head(folder, key)
    if known is not None and (head.size < known.size or (head.size == known.size and head.root != known.root)):
        raise Conflict("the audit log is older than the head kept beside the journal, or another one")
    if known == head:
        return
    if len(head.root) != ROOT_BYTES:
        raise ValueError("a root has 32 bytes")
    body = _BODY.pack(FORMAT, head.size, head.root)
    durable.write(folder / FILE, body + mac(key, LABEL, body))
