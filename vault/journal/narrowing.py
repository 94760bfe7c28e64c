"""What the journal remembers: acts that took something away. Ids, numbers, times and keyed tags; no value, no name.

Replaying an entry whose commit never came, or twice, only lowers. Nothing here can widen, so nothing that widens (a new
grant, a lifted restriction) is ever written: after a restore it is asked for again. Bytes: docs/formats/journal.md.
"""

from enum import IntEnum
from typing import Final
from uuid import UUID

import msgspec

from vault.clock import Micros
from vault.errors import Unreadable

TAG_BYTES: Final = 16
PERSON: Final = 3


class RefusalKind(IntEnum):
    """How a refusal binds."""

    DECIDED = 1  # by the person, an officer or a server source: wraps went
    BLOCKED = 2  # by a client source that merely named the profile: use stops, wraps stay within the grace
    EXPIRED = 3  # a granted choice came to its end


# Stored for good: add fields only at the end and with defaults; a new meaning needs a new tag.


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """The keyed trace of an erased identifier (table `tombstone`)."""

    tag: bytes
    key_version: int
    until: Micros
    suppress: bool
    objected: int


class Erasure(msgspec.Struct, frozen=True, array_like=True, tag="erasure/1"):
    """All members of a profile were erased."""

    at: Micros
    request_id: UUID
    members: tuple[UUID, ...]
    tombstones: tuple[Tombstone, ...] = ()


# `version` is that of the subject's state row once it is committed: a database whose row is older has lost it, and one
# whose row is as new knows it, or knows that its commit lost to another. 0: written before versions were kept.
# `rank` is the highest of those who refuse (consent.ledger.Authority); 3, the person, where it was not kept.
class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal/1"):
    """A subject refuses the purposes in the mask."""

    at: Micros
    subject: UUID
    purposes: int
    kind: RefusalKind = RefusalKind.DECIDED
    version: int = 0
    rank: int = PERSON


class Objection(msgspec.Struct, frozen=True, array_like=True, tag="objection/1"):
    """A subject objects to the purposes in the mask."""

    at: Micros
    subject: UUID
    purposes: int
    version: int = 0
    rank: int = PERSON


class Restriction(msgspec.Struct, frozen=True, array_like=True, tag="restriction/1"):
    """The use of a subject's data is restricted."""

    at: Micros
    subject: UUID
    version: int = 0


class RemovedWraps(msgspec.Struct, frozen=True, array_like=True, tag="removed-wraps/1"):
    """Wraps that were taken away: (compartment id, purpose), purpose 63 being `rights`."""

    at: Micros
    subject: UUID
    wraps: tuple[tuple[bytes, int], ...]
    version: int = 0


class PolicyApplied(msgspec.Struct, frozen=True, array_like=True, tag="policy/1"):
    """A policy version is live, written after its commit: the database must hold it, and no other under its number."""

    at: Micros
    number: int
    digest: bytes


class PolicyIntended(msgspec.Struct, frozen=True, array_like=True, tag="policy-intent/1"):
    """A policy version is about to be committed: without `PolicyApplied` behind it, its row decides whether it was."""

    at: Micros
    number: int
    digest: bytes


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="begun/1"):
    """The first entry of a journal that an officer began in place of a lost one: older databases name frames of that."""

    at: Micros


class EpochDestroyed(msgspec.Struct, frozen=True, array_like=True, tag="epoch-destroyed/1"):
    """An epoch of a purpose (63: `rights`) is destroyed for good: a key store that has it again is an older copy."""

    at: Micros
    purpose: int
    epoch: int


OfSubject = Refusal | Objection | Restriction | RemovedWraps
Narrowing = (
    Erasure | Refusal | Objection | Restriction | RemovedWraps | PolicyApplied | PolicyIntended | Begun | EpochDestroyed
)

_encoder: Final = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder: Final = msgspec.msgpack.Decoder(Narrowing)


def encode(narrowing: Narrowing) -> bytes:
    """MessagePack: an array of the tag and the fields in order."""
    return _encoder.encode(narrowing)


def decode(payload: bytes) -> Narrowing:
    """Raises `Unreadable` unless `encode` could have made these bytes."""
    try:
        narrowing: Narrowing = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable from None
    return narrowing
