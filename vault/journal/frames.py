"""The frames of the journal: pure bytes, a chain that cannot be cut, reordered or edited without showing.

  file    magic 8 'PVJRNL01' | frames
  frame   length u32 of the payload | number u64, from 1 | SHA-256 of the frame before, whole (of the magic, for the first)
          | payload | MAC 32

The MAC is keyed BLAKE2b over all before it. A crash while appending leaves an unfinished last frame (too short, or zeros
that the file system put for data that never came): nobody was told that it was written, so it is not there. Anything else
that does not fit is `Unreadable`. What only cuts off whole frames at the end shows against the head that a copy holds.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from vault.crypto.mac import MAC_BYTES, mac, verify_mac
from vault.errors import Unreadable

MAGIC: Final = b"PVJRNL01"
LABEL: Final = "journal/1"
HASH_BYTES: Final = 32
MAX_PAYLOAD_BYTES: Final = 1 << 20  # an erasure of 1,000 members with 16 identifiers each is under 900 kB
FRONT: Final = struct.Struct(f">IQ{HASH_BYTES}s")
_AROUND: Final = FRONT.size + MAC_BYTES


class Head(NamedTuple):
    """Where a chain ends: the number of its last frame (0: none), the hash the next one names, and the bytes so far."""

    number: int
    hash: bytes
    length: int


START: Final = Head(0, hashlib.sha256(MAGIC).digest(), len(MAGIC))


def frame(head: Head, payload: bytes, key: bytes) -> tuple[bytes, Head]:
    """The frame that follows `head`, and the head it makes. Raises ValueError for a payload over the limit."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise ValueError("a journal entry has 1 byte to 1 MiB")
    body = FRONT.pack(len(payload), head.number + 1, head.hash) + payload
    whole = body + mac(key, LABEL, body)
    return whole, _after(head, whole)


def read(data: bytes, head: Head, key: bytes) -> Iterator[tuple[bytes, Head]]:
    """The payloads of the frames that follow `head` in `data`, each with the head behind it.

    Stops before an unfinished last frame. Raises `Unreadable` at the first frame that is not of this chain.
    """
    offset, end = 0, len(data)
    while offset < end:
        front = data[offset : offset + FRONT.size]
        if len(front) < FRONT.size or not (any(front) or any(data[offset:])):
            return  # cut short, or zeros where no data came
        length, number, before = FRONT.unpack(front)
        # Length, number and hash are judged before the rest may be missing, so that no edit passes for a crash.
        if not 0 < length <= MAX_PAYLOAD_BYTES or number != head.number + 1 or before != head.hash:
            raise Unreadable
        whole = data[offset : offset + _AROUND + length]
        if len(whole) < _AROUND + length:
            return
        try:
            verify_mac(whole[-MAC_BYTES:], key, LABEL, whole[:-MAC_BYTES])
        except Unreadable:
            if offset + len(whole) == end and not any(whole[-MAC_BYTES:]):
                return  # the size grew, the last pages did not come
            raise
        head = _after(head, whole)
        offset += len(whole)
        yield whole[FRONT.size : -MAC_BYTES], head


def _after(head: Head, whole: bytes) -> Head:
    return Head(head.number + 1, hashlib.sha256(whole).digest(), head.length + len(whole))
