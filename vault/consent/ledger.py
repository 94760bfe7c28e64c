"""The entries of the consent ledger: one choice each, in the order in which the vault took them.

Append-only per subject. An entry holds numbers, times, keyed tags and names from policies: never an address, an
identifier or a text that somebody typed. What the entries mean together is `decision.fold`'s to say; this module only
knows their bytes and the chain over them, whose head the state row keeps: a row taken away, changed or put in is found
(threats A7, A8, A20). Bytes: docs/formats/ledger.md. Times are microseconds since 1970 UTC.
"""

import hashlib
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import msgspec

from vault.canonical import framed
from vault.catalogue.numbers import MAX_PURPOSE
from vault.clock import Micros
from vault.errors import Unreadable

TAG_BYTES: Final = 16
DIGEST_BYTES: Final = 32
HEAD_BYTES: Final = 32
NO_HEAD: Final = bytes(HEAD_BYTES)  # of a ledger without entries
MAX_COVERED: Final = 256  # object numbers that one grant may name; a form lists a handful
MAX_NAME: Final = 128  # characters of a notice's NAME/VERSION or of a language tag
_LABEL: Final = b"ledger/1"
_LENGTH: Final = struct.Struct(">I")
_CHAIN: Final = framed(_LABEL) + _LENGTH.pack(HEAD_BYTES)  # what stands before the head, as `framed` would write it


class Decision(IntEnum):
    """What was decided. Numbers are stored for good."""

    REQUESTED = 1  # double opt-in asked for; permits nothing until granted
    GRANTED = 2
    DENIED = 3  # refused where nothing was granted
    WITHDRAWN = 4  # refused where it was granted
    OBJECTED = 5  # GDPR Art. 21
    EXPIRED = 6  # a granted choice came to its end
    INVALIDATED = 7  # every choice of `source` received since `said_at` is void


REFUSALS: Final = frozenset({Decision.DENIED, Decision.WITHDRAWN, Decision.OBJECTED})


class How(IntEnum):
    """By which way a choice came. Numbers are stored for good. A stamp limits; all others are acts, or time."""

    STAMP = 1  # the consent state that an event carries
    CHANGE_EVENT = 2  # "Segment Consent Preference Updated"
    API = 3  # POST /v1/consents
    REPORT = 4  # a destination says that the person unsubscribed or complained there
    OFFICER = 5
    PORTAL = 6
    ONE_CLICK = 7  # RFC 8058
    CLOCK = 8  # the end of a granted choice
    GRACE = 9  # a refusal by a client source that merely named the profile stood for the whole grace
    CARRIED = 10  # an objection that outlived an erasure
    REPLAYED = 11  # by the journal, in a database that had lost it


class Authority(IntEnum):
    """Who said it. Numbers are stored for good; `rank` says who may overturn whom."""

    NOBODY = 0  # the clock
    CLIENT = 1
    SERVER = 2
    PERSON = 3
    OFFICER = 4

    @property
    def rank(self) -> int:
        """Person and officer stand above a server source, a server source above a client."""
        return min(self, Authority.PERSON)


# Stored for good: add fields only at the end and with defaults; a new meaning needs a new tag.
class Choice(msgspec.Struct, frozen=True, array_like=True, tag="choice/1", kw_only=True):
    """One entry. Its sequence is its place in the ledger, counted from 1; the chain binds it."""

    purpose: int  # 0 to 62
    decision: Decision
    how: How
    authority: Authority
    said_at: Micros  # corrected, never later than receipt. Of an invalidation: the time since which it voids
    received_at: Micros
    source: int = 0  # source.source_id; 0: no source. Of an invalidation: the source that it voids
    device: bytes = b""  # keyed tag of the device (client source) or user (server source) that spoke; empty: unknown
    claimed: bool = False  # by a client source about a profile that it merely names
    ends: Micros | None = None  # of a grant: when it expires
    about: bytes = b""  # keyed tag of one address or number; empty: the person
    notice: str | None = None  # NAME/VERSION of the text shown
    language: str | None = None  # of that text
    evidence: bytes = b""  # SHA-256 over salt and evidence; the evidence itself is sealed beside the entry
    covers: tuple[int, ...] = ()  # object numbers of older values that a grant reaches back to
    event_key: bytes = b""  # the message that said it


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Choice)


def pack_choice(choice: Choice) -> bytes:
    """MessagePack: an array of the tag and the fields in order. Raises ValueError for an entry that cannot be meant."""
    if not _sound(choice):
        raise ValueError("not a choice")
    return _encoder.encode(choice)


def parse_choice(entry: bytes) -> Choice:
    """Raises `Unreadable` unless `pack_choice` could have made exactly these bytes."""
    try:
        choice = _decoder.decode(entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable from None
    # one form for one meaning: the chain is over bytes, so a second spelling of an entry is a forged one
    if not _sound(choice) or _encoder.encode(choice) != entry:
        raise Unreadable
    return choice


def chain(head: bytes, entry: bytes) -> bytes:
    """The head of a ledger after `entry`: SHA-256 over label, head before and entry, framed."""
    return hashlib.sha256(framed(_LABEL, head, entry)).digest()


def head_of(entries: Iterable[bytes]) -> bytes:
    """The head of a ledger of these entries; `chain` for each, said at once."""
    head = NO_HEAD
    for entry in entries:
        head = hashlib.sha256(_CHAIN + head + _LENGTH.pack(len(entry)) + entry).digest()
    return head


def read_chain(entries: Iterable[bytes], count: int, head: bytes) -> tuple[Choice, ...]:
    """The choices of a whole ledger, in the order of their sequence.

    `count` and `head` are those of the subject's state row. Raises `Unreadable` if an entry is missing, changed, added
    or out of place (threats A20: a withdrawal taken out of the table).
    """
    at = NO_HEAD
    choices = []
    for entry in entries:
        at = chain(at, entry)
        choices.append(parse_choice(entry))
    if len(choices) != count or at != head:
        raise Unreadable
    return tuple(choices)


def _sound(choice: Choice) -> bool:
    numbers = (choice.said_at, choice.received_at, choice.source, choice.ends or 0)
    return (
        0 <= choice.purpose <= MAX_PURPOSE
        and all(0 <= number < 1 << 63 for number in numbers)
        and choice.said_at <= choice.received_at
        and all(len(tag) in {0, TAG_BYTES} for tag in (choice.device, choice.about, choice.event_key))
        and len(choice.evidence) in {0, DIGEST_BYTES}
        and all(len(name or "") <= MAX_NAME for name in (choice.notice, choice.language))
        and len(choice.covers) <= MAX_COVERED
        and all(0 < number < 1 << 16 for number in choice.covers)
        and (choice.decision is Decision.GRANTED or (choice.ends is None and not choice.covers))
        and (choice.decision is not Decision.INVALIDATED or choice.source > 0)
    )
