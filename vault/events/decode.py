"""Strict bytes to messages. One bad message does not lose the others; bytes that are no batch at all are refused whole.

Takes what the Segment clients really send (standards section 1.4): explicit nulls, numeric zone offsets, a `writeKey` in
the body, the envelope's context merged into each message, halves of an emoji. Knows no policy: what the catalogue does
not list is dropped later, by name. The bytes have passed `clean.scan`: they are UTF-8 and nest no deeper than 32.
"""

import re
from itertools import islice
from math import isfinite
from typing import Any, Final, TypeVar

import msgspec

from vault.clock import Micros
from vault.errors import Invalid, TooLarge
from vault.events.clean import scan, tolerate_nan
from vault.events.message import CONSENT_EVENT, Message, MessageType
from vault.events.times import read_time, said_at
from vault.events.wire import Batch, Called, Calls, Context, Keyed, Raws, Stamps, Wire, external_ids, stamp_of
from vault.ids import random_token

MAX_BODY: Final = 512_000  # bytes of a batch: 500 KB, as Segment documents
MAX_EVENT: Final = 32_768  # bytes of one message
MAX_EVENTS: Final = 2_500  # messages of a batch; those beyond are rejected one by one, as Segment does
MAX_LISTED: Final = 10_000  # beyond this a batch is refused whole: an answer must not outgrow the question 30 times
MAX_MESSAGE_ID: Final = 100  # characters
MAX_ID: Final = 512  # characters of an identifier
MAX_GROUP_ID: Final = 500  # characters, as Segment has it
MAX_FIELDS: Final = 300  # properties or traits of one message
MAX_KEYS: Final = 3  # a body names its key once; messages may hold a property of that name
MAX_CALLED: Final = 20  # messages of a body that may hurry past others; browsers put 10 in a batch
MAX_NUMBER: Final = 64  # characters of a number: exact decimals, but no number that costs more than it says
TYPES: Final[tuple[MessageType, ...]] = ("identify", "track", "page", "screen", "group", "alias")


class Rejected(msgspec.Struct, frozen=True):
    """A message that cannot be read, and why. Holds nothing of it but what it calls itself, where that can be read."""

    index: int
    code: str
    type: MessageType | None = None
    name: str | None = None

    def __repr__(self) -> str:
        return f"Rejected({self.index}, {self.code})"


class _Label(msgspec.Struct):
    """What a message calls itself, of whatever types it has."""

    type: Any = None
    event: Any = None
    name: Any = None


class Decoded(msgspec.Struct, frozen=True):
    """A body, read."""

    messages: list[Message]
    rejected: list[Rejected]


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
_Read = TypeVar("_Read")
_batch: Final = msgspec.json.Decoder(Batch)
_wire: Final = msgspec.json.Decoder(Wire)
_label: Final = msgspec.json.Decoder(_Label)
_context: Final = msgspec.json.Decoder(Context | None)
_keyed: Final = msgspec.json.Decoder(Keyed)
_calls: Final = msgspec.json.Decoder(Calls)
_object: Final = msgspec.json.Decoder(Raws)
_TYPES: Final[dict[str, MessageType]] = {known: known for known in TYPES}
_QUOTE: Final = ord('"')
_AFTER_NINE: Final = ord(":")
_KEY: Final = re.compile(rb'"writeKey" ?: ?"([!#-\[\]-~]{1,200})"')
# What a client may change when it sends the same message again.
_RETRIED: Final = frozenset({"sentAt", "writeKey", "_metadata", "receivedAt"})


def keys_in(body: bytes) -> tuple[str, ...]:
    """What may be the write key of a body that nobody has looked at yet: a quick look, for who is to be asked about it.

    The last one and the first few are told. Which of them is the key, `write_key_of` says once the body may be read.
    """
    found = [_KEY.match(body, max(0, body.rfind(b'"writeKey"'))), *islice(_KEY.finditer(body), MAX_KEYS - 1)]
    return tuple(dict.fromkeys(one[1].decode() for one in found if one is not None))


def write_key_of(body: bytes) -> str | None:
    """The `writeKey` at the top of a body, if there is one. Never raises: who cannot be read has no key."""
    try:
        return _tolerant(_keyed, mend(body))[0].write_key
    except _UNREADABLE:
        return None


def is_change(body: bytes) -> bool:
    """Is a message of this body the change of a consent? For small bodies: what is unreadable, large or long says no."""
    if CONSENT_EVENT.encode() not in body:
        return False
    try:
        scan(body)
        said = _calls.decode(mend(body))
    except (Invalid, *_UNREADABLE):
        return False
    calls: list[Called] = [said, *(said.batch or ())]
    return len(calls) <= MAX_CALLED and any(
        one.event == CONSENT_EVENT and one.type in {None, "track"} for one in calls if isinstance(one.type, str | None)
    )


def decode(body: bytes, kind: str, received_at: Micros) -> Decoded:
    """The messages of a body. `kind` is `batch` or the type that the path names.

    Raises `Invalid` for bytes that are not such a JSON object, `TooLarge` over a limit of the whole body.
    """
    mended = mend(body)
    if kind != "batch":
        if len(body) > MAX_EVENT:
            raise TooLarge("A message has at most 32 KB.", code="event_too_large")
        return _messages([msgspec.Raw(_strict_object(mended))], kind, Batch([]), received_at)
    if len(body) > MAX_BODY:
        raise TooLarge("A batch has at most 500 KB.", code="batch_too_large")
    try:
        batch, _ = _tolerant(_batch, mended)
    except _UNREADABLE:
        raise Invalid(
            _fault(mended, "A batch is a JSON object with a list named `batch`."), code="invalid_json"
        ) from None
    if len(batch.batch) > MAX_LISTED:
        raise TooLarge(f"A batch has at most {MAX_EVENTS} messages.", code="too_many_events")
    return _messages(batch.batch, None, batch, received_at)


# A first half that no second follows, or a second half that follows no first.
_HALF: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD].{3}))",
    re.DOTALL,
)
_BACKSLASH: Final = b"\xfe"  # in no UTF-8


def mend(body: bytes) -> bytes:
    """The body with escaped lone surrogates as U+FFFD, as Segment's own server reads them.

    Browsers send them for text cut through an emoji; no strict parser takes them, and one would lose the whole batch.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _HALF.sub(rb"\\ufffd", body.replace(rb"\\", _BACKSLASH)).replace(_BACKSLASH, rb"\\")


def _tolerant(decoder: msgspec.json.Decoder[_Read], body: bytes) -> tuple[_Read, bytes]:
    """What the body says, and the body that says it strictly. NaN is looked for only where the strict reading fails."""
    try:
        return decoder.decode(body), body
    except _UNREADABLE:
        tolerated = tolerate_nan(body)
        if tolerated is body:
            raise
        return decoder.decode(tolerated), tolerated


def _strict_object(body: bytes) -> bytes:
    try:
        return _tolerant(_object, body)[1]
    except _UNREADABLE:
        raise Invalid(_fault(body, "A message is a JSON object."), code="invalid_json") from None


def _fault(body: bytes, wanted: str) -> str:
    """What is wrong with a body that is refused: no JSON at all, or JSON of another shape."""
    try:
        msgspec.json.decode(body)
    except _UNREADABLE:
        return "The body is not valid JSON: broken off, or not JSON at all."
    return wanted


def _messages(raws: list[msgspec.Raw], kind: str | None, envelope: Batch, received_at: Micros) -> Decoded:
    messages: list[Message] = []
    rejected: list[Rejected] = []
    try:
        shared = _context.decode(envelope.context)
    except _UNREADABLE:
        raise Invalid("`context` is a JSON object.", code="invalid_json") from None
    sent_at = _time(envelope.sent_at)
    envelope_context, stamps = shared or Context(), Stamps()
    for index, raw in enumerate(raws[:MAX_EVENTS]):
        try:
            messages.append(_message(index, bytes(raw), kind, envelope_context, stamps, sent_at, received_at))
        except Invalid as error:
            rejected.append(_rejected(index, bytes(raw), kind, error.reason))
    rejected.extend(Rejected(index, "too_many_events") for index in range(MAX_EVENTS, len(raws)))
    return Decoded(messages, rejected)


def _rejected(index: int, raw: bytes, kind: str | None, code: str) -> Rejected:
    try:
        label = _label.decode(raw)
    except _UNREADABLE:
        return Rejected(index, code)
    type_ = next((known for known in TYPES if known == (kind or label.type)), None)
    name = label.event if type_ == "track" else label.name
    return Rejected(index, code, type_, name if isinstance(name, str) else None)


def _message(
    index: int,
    raw: bytes,
    kind: str | None,
    shared: Context,
    stamps: Stamps,
    sent_at: int | None,
    received_at: Micros,
) -> Message:
    if len(raw) > MAX_EVENT:
        raise Invalid(code="event_too_large")
    try:
        wire = _wire.decode(raw)
        context = wire.context or shared
        stamp = stamp_of(context, shared, stamps)
        digested = _digested(raw)
    except _UNREADABLE:
        raise Invalid(code="invalid_event") from None
    type_ = _type(wire, kind)
    _check(wire, type_)
    said = wire.original_timestamp if wire.timestamp is None else wire.timestamp
    return Message(
        index=index,
        type=type_,
        message_id=wire.message_id or random_token(),  # Segment assigns one to whoever sends none
        user_id=wire.user_id or None,
        anonymous_id=wire.anonymous_id or None,
        previous_id=wire.previous_id or None,
        group_id=wire.group_id or None,
        name=wire.event if type_ == "track" else wire.name,
        properties=_raws(wire.properties),
        traits=_raws(wire.traits),
        context_traits=_raws(context.traits or shared.traits),
        external_ids=external_ids(context) or external_ids(shared),
        stamp=stamp,
        said_at=said_at(_time(said), sent_at if wire.sent_at is None else _time(wire.sent_at), received_at),
        received_at=received_at,
        digested=digested,
    )


def _type(wire: Wire, kind: str | None) -> MessageType:
    known = _TYPES.get((wire.type if kind is None else kind) or "")
    if known is None:
        raise Invalid(code="unknown_type")
    return known


def _check(wire: Wire, type_: MessageType) -> None:
    """What every message of the tracking API must have. Codes are Segment's where it names one."""
    code = _too_long(wire) or _missing(wire, type_)
    if code is not None:
        raise Invalid(code=code)


def _too_long(wire: Wire) -> str | None:
    group = wire.group_id or ""
    if max(len(wire.user_id or ""), len(wire.anonymous_id or ""), len(wire.previous_id or ""), len(group)) > MAX_ID:
        return "id_too_long"
    if len(group) > MAX_GROUP_ID:
        return "group_id_too_long"
    if len(wire.message_id or "") > MAX_MESSAGE_ID:
        return "message_id_too_long"
    return None


def _missing(wire: Wire, type_: MessageType) -> str | None:
    if not (wire.user_id or wire.anonymous_id or type_ == "alias"):
        return "no_user_anon_id"
    if type_ == "track" and not wire.event:
        return "no_event"
    if type_ == "group" and not wire.group_id:
        return "no_group_id"
    if type_ == "alias" and not (wire.previous_id and wire.user_id):
        return "no_previous_id"
    if max(len(wire.properties or ()), len(wire.traits or ())) > MAX_FIELDS:
        return "too_many_fields"
    return None


def _raws(fields: Raws | None) -> dict[str, bytes]:
    if not fields:
        return {}
    raws = {name: bytes(value) for name, value in fields.items()}
    for value in raws.values():
        # By its first byte a number: `-` and digits stand before `:`, and no other JSON value does but a text, by its quote.
        if value[0] < _AFTER_NINE and value[0] != _QUOTE and not _bounded(value):
            raise Invalid(code="number_out_of_range")
    return raws


def _bounded(number: bytes) -> bool:
    return len(number) <= MAX_NUMBER and isfinite(float(number))


def _digested(raw: bytes) -> bytes:
    """The message without what a client may change between two tries, in one order."""
    fields = _object.decode(raw)
    return msgspec.json.encode({name: fields[name] for name in sorted(fields) if name not in _RETRIED})


def _time(value: str | float | None) -> int | None:
    return read_time(value) if isinstance(value, str) else None
