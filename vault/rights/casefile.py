"""The case file of an erasure: what is still needed once the keys of the person are gone. Bytes: docs/formats/casefile.md.

Holds ids and tags for the residue scan; the salt of the certificate's person digests; and for each recipient that was known
when it was made, the ids and the forms of identifiers by which it knows the person, for whoever must name the person to it.
Nothing in the vault reads these: feeds and certificates rest on `disclosure_state` and `recipient_notice`. Sealed under a
key of its own, which is destroyed when the last recipient has answered or its time has passed: with the key goes the file,
in every backup too (threats D17). Shows nothing of itself. Must not know a database.
"""

import struct
from typing import Final
from uuid import UUID

import msgspec

from vault.canonical import framed
from vault.clock import DAY, Micros
from vault.crypto.aead import seal, unseal
from vault.errors import Unreadable
from vault.ids import random_bytes

FORMAT: Final = 1
SALT_BYTES: Final = 32
ANSWER_WITHIN: Final = 30 * DAY  # how long a recipient has; three weeks of silence must not lose the case (threats D17)

_VERSION: Final = struct.Struct(">B")
_CONTEXT: Final = b"casefile/1"


class Recipient(msgspec.Struct, frozen=True):
    """What one recipient needs to delete, and until when it has to say that it did."""

    destination: int
    name: str
    ids: tuple[str, ...]  # its own pseudonyms of the profile
    identifiers: dict[str, tuple[str, ...]]  # in the form it was given, by kind; empty where it never got any
    deadline: Micros

    def __repr__(self) -> str:
        return f"Recipient({self.name}, ...)"


# Sealed for a while: a new field goes to the end and has a default.
class CaseFile(msgspec.Struct, frozen=True):
    """One erasure's case."""

    request_id: UUID
    made_at: Micros
    members: tuple[UUID, ...]
    tags: tuple[bytes, ...]  # identity tags that must not be found anywhere any more
    recipients: tuple[Recipient, ...]
    salt: bytes  # of the certificate's person digests; for the person only
    reply: str | None = None  # where the person wants the answer
    compartments: tuple[bytes, ...] = ()  # ids that must not be found anywhere any more
    event_keys: tuple[bytes, ...] = ()  # as many as fit, the newest; added before the first row goes

    def __repr__(self) -> str:
        return f"CaseFile({self.request_id})"


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(CaseFile)


def new_salt() -> bytes:
    """A salt for one certificate's person digests."""
    return random_bytes(SALT_BYTES)


def seal_case(key: bytes, case: CaseFile) -> bytes:
    """The sealed bytes of a case under its own key."""
    return _VERSION.pack(FORMAT) + seal(key, _encoder.encode(case), _context(case.request_id))


def open_case(key: bytes, request_id: UUID, sealed: bytes) -> CaseFile:
    """The case of this request. Raises `Unreadable` for anything else."""
    if len(sealed) <= _VERSION.size or sealed[0] != FORMAT:
        raise Unreadable
    plain = unseal(key, memoryview(sealed)[_VERSION.size :], _context(request_id))
    try:
        case = _decoder.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable from None
    if case.request_id != request_id:
        raise Unreadable
    return case


def _context(request_id: UUID) -> bytes:
    return framed(_CONTEXT, request_id.bytes)
