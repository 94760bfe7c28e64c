"""The numbers by which stored bytes name things (16 bits for an object) and the masks of purposes.

Stored for good: ranges are never moved, numbers never given twice (design section 4).

    object                     number
    trait n                    n (1 to 0x3FFF)
    identifier kind k          0x4000 | k
    ACCUMULATORS, MEMBERSHIPS  0x8000, 0x8001: stored fields that hold entries of many objects
    ACCOUNTS                   0x8002: likewise; the entries are account traits
    account trait t            0x9000 | t (1 to 0x0FFF)
    event e                    0xA000 | e
    computed trait c           0xC000 | c
    audience a                 0xE000 | a
"""

from collections.abc import Iterator
from typing import Final

MAX_PURPOSE: Final = 62  # a mask is a signed 64-bit integer in the database
RIGHTS: Final = 63  # the rights desk's wraps; a purpose for opening, never a bit of a mask
MAX_TRAIT: Final = 0x3FFF  # the first quarter of the object numbers
MAX_KIND: Final = 0x3FFF
MAX_ACCOUNT_TRAIT: Final = 0x0FFF  # so that 0x9000 | t stays below the events
MAX_EVENT: Final = 0x1FFF  # so that 0xA000 | e stays below the computed traits
MAX_COMPUTED: Final = 0x1FFF
MAX_AUDIENCE: Final = 0x1FFF

_IDENTIFIER: Final = 0x4000
ACCUMULATORS: Final = 0x8000  # one field a compartment: the states of all computed traits of that purpose set
MEMBERSHIPS: Final = 0x8001  # one field a compartment: numbers of the audiences that the root is in
ACCOUNTS: Final = 0x8002  # one field a compartment: what was said of every account that the subject belongs to
_ACCOUNT: Final = 0x9000
_EVENT: Final = 0xA000
_COMPUTED: Final = 0xC000
_AUDIENCE: Final = 0xE000


def bit(purpose: int) -> int:
    """The mask of one purpose. Raises ValueError for a number that is no purpose (63 is `RIGHTS`, which has no bit)."""
    if not 0 <= purpose <= MAX_PURPOSE:
        raise ValueError("not a purpose number")
    return 1 << purpose


def bits(mask: int) -> Iterator[int]:
    """The purpose numbers of a mask, lowest first. Raises ValueError for a mask with a bit that no purpose has."""
    if mask < 0 or mask >> (MAX_PURPOSE + 1):
        raise ValueError("not a mask of purposes")
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def identifier_object(kind: int) -> int:
    """The object number of an identifier kind."""
    return _IDENTIFIER | kind


def event_object(event: int) -> int:
    """The object number of an event; event 0 is one whose name is sealed."""
    return _EVENT | event


def account_object(trait: int) -> int:
    """The object number of an account trait."""
    return _ACCOUNT | trait


def is_account_object(number: int) -> bool:
    """True for the object number of an account trait."""
    return number & ~MAX_ACCOUNT_TRAIT == _ACCOUNT


def computed_object(computed: int) -> int:
    """The object number of a computed trait."""
    return _COMPUTED | computed


def audience_object(audience: int) -> int:
    """The object number of an audience."""
    return _AUDIENCE | audience
