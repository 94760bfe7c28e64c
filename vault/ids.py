"""The one source of randomness, and identifiers that carry no meaning beyond the time they were made."""

import os
import secrets
from typing import NewType
from uuid import UUID

from vault.clock import Micros

SubjectId = NewType("SubjectId", UUID)


def random_bytes(count: int) -> bytes:
    """`count` bytes from the operating system, drawn at the call (threats A9: no pool survives a fork)."""
    return os.urandom(count)


def random_token(count: int = 32) -> str:
    """URL-safe text holding `count` random bytes."""
    return secrets.token_urlsafe(count)


def uuid7(now: Micros) -> UUID:
    """A UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, the rest random. Ordered in an index to the millisecond."""
    value = int.from_bytes(os.urandom(10), "big")
    value &= (1 << 76) - 1
    value |= (now // 1000 & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    return UUID(int=(value & ~(0x3 << 62)) | 0x2 << 62)


def new_subject(now: Micros) -> SubjectId:
    """A subject id. It tells only when it was made, and never leaves the vault."""
    return SubjectId(uuid7(now))
