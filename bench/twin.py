"""What both plaintext twins share: the same bytes read, the same catalogue, the same answer. No key, no seal, no proof.

A twin does for its batch what the vault does: decode, drop what is not declared, drop what was seen, find the people,
compare the stamp with what they chose, store the event, keep the latest of each trait, the computed traits and the audience,
mark the change, and be durable before it answers. `twin_tuned` does it in one statement with remembered ids, `twin_obvious`
as one writes it first. What they leave out is the vault's own: compartments, seals, ledger chain, audit log, explanations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from vault.catalogue.load import Catalogue

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ORDER: Final = "Order Completed"
BEST: Final = 20_000  # cents: `best_customers` bought for 200 or more


class Consent(msgspec.Struct):
    """The stamp."""

    preferences: dict[str, bool] = msgspec.field(name="categoryPreferences", default_factory=dict)


class Context(msgspec.Struct):
    """What is read of a context."""

    consent: Consent | None = None


class Wire(msgspec.Struct, rename="camel"):
    """One message. Values stay the bytes that they came as."""

    type: str
    message_id: str
    user_id: str
    timestamp: datetime
    event: str = ""
    properties: dict[str, msgspec.Raw] = {}
    traits: dict[str, msgspec.Raw] = {}
    context: Context = msgspec.field(default_factory=Context)


class Batch(msgspec.Struct):
    """A body."""

    batch: list[msgspec.Raw]


class Identifier(NamedTuple):
    """What finds a person."""

    kind: int
    value: str


@dataclass(frozen=True)
class Shape:
    """The catalogue, as a twin needs it."""

    traits: frozenset[str]
    events: Mapping[str, tuple[int, frozenset[str], int]]  # name -> number, properties, mask
    categories: Mapping[str, int]
    mapped: int
    always: int
    kinds: Mapping[str, tuple[int, bool]]  # place -> number, joins
    order: int  # the number of the event that computed traits are of

    @classmethod
    def of(cls, catalogue: Catalogue) -> "Shape":
        """The shape of the vault's own catalogue: nobody stores more or less."""
        events = {
            name: (event.number, frozenset(event.properties), event.purposes)
            for (kind, name), event in catalogue.events.items()
            if kind == "track"
        }
        kinds = {place: (k.number, k.joins) for k in catalogue.identifiers.values() for place in k.take_from}
        always = catalogue.always_mask | catalogue.interest_mask
        return cls(
            frozenset(catalogue.traits), events, catalogue.categories, catalogue.mapped, always, kinds, events[ORDER][0]
        )


class Message(NamedTuple):
    """One message, read."""

    key: bytes
    digest: bytes
    at: int
    identifiers: tuple[Identifier, ...]
    stamp: int | None
    event: int  # 0: an identify
    body: str  # the declared properties or traits, as JSON
    cents: int  # of an order
    mask: int
    said: str = ""  # an identify: when each of its traits was said, by name, as JSON

    def __repr__(self) -> str:
        return f"Message({self.event})"


class Outcome(NamedTuple):
    """The answer."""

    stored: int
    dropped: int


_batch: Final = msgspec.json.Decoder(Batch)
_wire: Final = msgspec.json.Decoder(Wire)
_text: Final = msgspec.json.Decoder(str)
_number: Final = msgspec.json.Decoder(float)
_encode: Final = msgspec.json.Encoder().encode


def read(shape: Shape, source: int, body: bytes) -> list[Message]:
    """The messages of a body that are declared."""
    found = (_message(shape, source, bytes(raw)) for raw in _batch.decode(body).batch)
    return [one for one in found if one is not None]


def _message(shape: Shape, source: int, raw: bytes) -> Message | None:
    wire = _wire.decode(raw)
    key = blake2b(b"%d:%s" % (source, wire.message_id.encode()), digest_size=16).digest()
    digest = blake2b(raw, digest_size=16).digest()
    at = int((wire.timestamp - EPOCH).total_seconds() * 1_000_000)
    stamp = _stamp(shape, wire.context.consent)
    if wire.type == "identify":
        kept = {name: value for name, value in wire.traits.items() if name in shape.traits}
        said = _encode(dict.fromkeys(kept, at)).decode()
        return Message(key, digest, at, _identifiers(shape, wire), stamp, 0, _encode(kept).decode(), 0, 0, said)
    declared = shape.events.get(wire.event)
    if declared is None:
        return None
    number, names, mask = declared
    kept = {name: value for name, value in wire.properties.items() if name in names}
    cents = 0
    if wire.event == ORDER and _text.decode(kept["currency"]) == "USD":
        cents = round(_number.decode(kept["revenue"]) * 100)
    return Message(key, digest, at, _identifiers(shape, wire), stamp, number, _encode(kept).decode(), cents, mask)


def _stamp(shape: Shape, consent: Consent | None) -> int | None:
    """The purposes that a stamp agrees to."""
    if consent is None:
        return None
    denied = 0
    for category, purposes in shape.categories.items():
        if not consent.preferences.get(category):
            denied |= purposes
    return shape.mapped & ~denied


def _identifiers(shape: Shape, wire: Wire) -> tuple[Identifier, ...]:
    """Who it names, in normal form."""
    found = [Identifier(shape.kinds["userId"][0], wire.user_id.strip())]
    email = wire.traits.get("email")
    if email is not None:
        found.append(Identifier(shape.kinds["traits.email"][0], _text.decode(email).strip().lower()))
    order = shape.kinds.get("properties.order_id")
    number = wire.properties.get("order_id") if order is not None else None
    if order is not None and number is not None:
        found.append(Identifier(order[0], _text.decode(number)))
    return tuple(found)


class Profile(NamedTuple):
    """What a side knows of a person in the end, to be compared."""

    traits: dict[str, Any]
    orders: int
    cents: int
    first_at: int | None
    last_at: int | None
    best: bool
    events: int
