"""Traits computed from events: sum, count, first, last. Pure: no clock, no keys, no database.

Promises: the state is the same in whatever order the events came and however they were spread over members, because an
event is itself a state and states join (commutative, associative). Sums are exact decimals from the JSON text, never
floats. A state names the version of its definition: one made under another version counts for nothing.
The sealed form, one field a compartment: {"<number>": {"v": version, "s": state}}. docs/formats/fields.md.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

import msgspec

from vault.catalogue.computed import Computed
from vault.clock import Micros, isoformat
from vault.errors import Unreadable
from vault.profile.typed import fits

# A number counts if it is written in at most 40 digits, none of them beyond 10**20 or below 10**-20: money and measures
# are, and a sum of 10**38 such numbers still fits the 100 digits below, so no sum is ever rounded.
MAX_DIGITS: Final = 40
MAX_EXPONENT: Final = 20
_EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation])
_JSON_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Moment(msgspec.Struct, frozen=True, array_like=True, order=False):
    """A value and when it was said; `event_key` in hex decides between two at the same microsecond."""

    said_at: int
    event_key: str
    value: msgspec.Raw

    def __repr__(self) -> str:
        return "Moment(...)"


# sum: an exact decimal as text | count: a whole number | first and last: the moment
State = int | str | Moment


class Accumulator(msgspec.Struct, frozen=True):
    """The state of one computed trait under one version of its definition."""

    v: int
    s: State

    def __repr__(self) -> str:
        return f"Accumulator(v={self.v}, ...)"


_decoder: Final = msgspec.json.Decoder(dict[int, Accumulator], strict=True)
_encoder: Final = msgspec.json.Encoder(order="sorted")


def read_states(plaintext: bytes) -> dict[int, Accumulator]:
    """The states of a compartment by number of the computed trait. Raises `Unreadable`."""
    try:
        return _decoder.decode(plaintext)
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def write_states(states: Mapping[int, Accumulator]) -> bytes:
    """The JSON of a compartment's states; the same states give the same bytes."""
    return _encoder.encode({str(number): states[number] for number in sorted(states)})


def contribution(
    computed: Computed, properties: Mapping[str, bytes], said_at: Micros, event_key: bytes
) -> Accumulator | None:
    """What one event adds, as a state of its own; None where it does not count.

    `properties` are the raw JSON values that were collected for every purpose of the trait. A sum counts an event only if
    its amount is a plain number and its currency is the one that the trait names.
    """
    state = _state_of(computed, properties, said_at, event_key)
    return None if state is None else Accumulator(computed.version, state)


def fold(
    computed: Computed,
    before: Accumulator | None,
    properties: Mapping[str, bytes],
    said_at: Micros,
    event_key: bytes,
) -> Accumulator | None:
    """The state after one more event. The caller gives each event once."""
    if before is not None and before.v == computed.version and isinstance(before.s, Moment):
        known = before.s.said_at
        if (computed.kind == "first" and known < said_at) or (computed.kind == "last" and known > said_at):
            return before  # mostly: who ordered first did not order before that
    state = _state_of(computed, properties, said_at, event_key)
    if before is None or before.v != computed.version:
        return None if state is None else Accumulator(computed.version, state)
    return before if state is None else Accumulator(computed.version, _joined(computed.kind, [before.s, state]))


def join(computed: Computed, states: Iterable[Accumulator | None]) -> Accumulator | None:
    """One state out of those of several members. States of another version count for nothing."""
    parts = [state.s for state in states if state is not None and state.v == computed.version]
    if not parts:
        return None
    return Accumulator(computed.version, _joined(computed.kind, parts))


def visible(computed: Computed, state: Accumulator | None) -> bytes | None:
    """The value as raw JSON: a sum as a number with its exact decimals; None while nothing is known."""
    if state is None or state.v != computed.version:
        return None
    if isinstance(state.s, Moment):
        value = bytes(state.s.value)
        return value if fits(computed.type, value) else None  # kept before its type was looked at
    return str(state.s).encode()


def _state_of(computed: Computed, properties: Mapping[str, bytes], said_at: Micros, event_key: bytes) -> State | None:
    if computed.kind == "count":
        return 1 if computed.property is None or _known(properties.get(computed.property)) else None
    if computed.kind == "sum":
        if computed.currency_property is not None and not _is_currency(computed, properties):
            return None
        amount = None if computed.property is None else _number(properties.get(computed.property))
        return None if amount is None else _text(amount)
    if computed.property is None:
        return Moment(said_at, event_key.hex(), msgspec.Raw(f'"{isoformat(said_at)}"'.encode()))
    raw = properties.get(computed.property)
    return Moment(said_at, event_key.hex(), msgspec.Raw(raw)) if raw is not None and _counts(computed, raw) else None


def _is_currency(computed: Computed, properties: Mapping[str, bytes]) -> bool:
    raw = properties.get(computed.currency_property or "")
    if raw is None or computed.currency is None:
        return False
    if raw[1:-1] == computed.currency.encode():  # three capitals: what stands around them are quotes
        return raw[:1] == b'"'
    try:
        return msgspec.json.decode(raw, type=str).strip().upper() == computed.currency
    except (msgspec.MsgspecError, ValueError):
        return False


def _joined(kind: str, parts: list[State]) -> State:
    if len(parts) == 1:
        return parts[0]
    if kind == "count":
        return sum([part for part in parts if isinstance(part, int)])
    if kind == "sum":
        total = Decimal(str(parts[0]))
        for part in parts[1:]:
            total = _EXACT.add(total, Decimal(str(part)))
        return _text(total)
    moments = [part for part in parts if isinstance(part, Moment)]
    return min(moments, key=_order) if kind == "first" else max(moments, key=_order)


def _order(moment: Moment) -> tuple[int, str, bytes]:
    return moment.said_at, moment.event_key, bytes(moment.value)


def _counts(computed: Computed, raw: bytes) -> bool:
    return _known(raw) and fits(computed.type, raw)


def _known(raw: bytes | None) -> bool:
    return raw is not None and raw.strip() != b"null"


def _number(raw: bytes | None) -> Decimal | None:
    """The exact number that a JSON text holds, if it is one within the limits. A string is not a number."""
    if raw is None or not _JSON_NUMBER.fullmatch(text := raw.strip()):
        return None
    try:
        number = Decimal(text.decode())
    except InvalidOperation:  # an exponent beyond what a decimal can hold
        return None
    if len(text) <= MAX_EXPONENT and b"e" not in text and b"E" not in text:  # too short to be over a limit
        return number
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or len(digits) > MAX_DIGITS or exponent < -MAX_EXPONENT:
        return None
    return number if number.adjusted() <= MAX_EXPONENT else None


def _text(number: Decimal) -> str:
    """The shortest plain decimal of a number: no exponent, no zeros at the end, no minus before zero."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
