"""One message on its way: its keys, the identifiers it names, and in the end what became of it."""

from collections.abc import Iterator
from typing import Final

import msgspec

from vault.catalogue.identifiers import IdentifierKind
from vault.catalogue.load import Catalogue
from vault.consent.act import Said
from vault.consent.ledger import How
from vault.events.dedup import content_digest, device_tag, event_key
from vault.events.message import Message
from vault.flows.tags import identity_tag, tombstone_tag
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.sources.store import Source

_ANONYMOUS: Final = "anonymousId"
_texts: Final = msgspec.json.Decoder(str)


class Named(msgspec.Struct, frozen=True):
    """One identifier of a message, in normal form and as tags."""

    kind: IdentifierKind
    value: str
    tag: bytes
    tombstone: bytes
    own: bool  # the device that speaks

    def __repr__(self) -> str:
        return f"Named({self.kind.name})"


class Dropped(msgspec.Struct, frozen=True):
    """A message that was not stored, and why: a code, and the purposes that nobody agreed to."""

    index: int
    code: str
    purposes: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What became of a body."""

    stored: int
    dropped: list[Dropped]


class Act(msgspec.Struct, frozen=True):
    """Choices that decide, and the evidence for them in order (JSON, to be sealed); empty where there is none."""

    how: How
    said: tuple[Said, ...]
    evidence: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Act({self.how.name}, {len(self.said)})"


class Item(msgspec.Struct, frozen=True):
    """A message with everything about it that needs a key."""

    message: Message
    key: bytes  # event key
    digest: bytes
    device: bytes
    named: tuple[Named, ...]
    act: Act | None = None  # choices said through a door of their own; then the message is nothing else

    @property
    def index(self) -> int:
        """Its place in the batch."""
        return self.message.index


def items_of(catalogue: Catalogue, keyring: Keyring, source: Source, messages: list[Message]) -> list[Item]:
    """The messages of a body, ready to be looked up."""
    event, dedup = keyring.key(names.EVENT), keyring.key(names.DEDUP)
    return [
        Item(
            message,
            event_key(event, source.source_id, message.message_id),
            content_digest(dedup, message),
            device_tag(dedup, message, server=source.server),
            tuple(_named(catalogue, keyring, message)),
        )
        for message in messages
    ]


def _named(catalogue: Catalogue, keyring: Keyring, message: Message) -> Iterator[Named]:
    """Every identifier once: an alias may say that a device was itself before."""
    found: list[Named] = []
    for kind in catalogue.identifiers.values():
        for place in kind.take_from:
            value = _at(message, place)
            normal = normalise(kind, value) if value is not None else None
            if normal is None:
                continue
            tags = identity_tag(keyring, kind.name, normal), tombstone_tag(keyring, kind.name, normal)
            found.append(Named(kind, normal.decode(), *tags, own=place == _ANONYMOUS))
            break
    yield from found
    if message.type == "alias" and message.previous_id is not None:
        own = {named.tag for named in found}
        yield from (named for named in _previous(catalogue, keyring, message.previous_id) if named.tag not in own)


def _previous(catalogue: Catalogue, keyring: Keyring, value: str) -> Iterator[Named]:
    """What an alias says was the id before: that of a device, as the libraries send it."""
    for kind in catalogue.identifiers.values():
        normal = normalise(kind, value) if _ANONYMOUS in kind.take_from else None
        if normal is not None:
            tags = identity_tag(keyring, kind.name, normal), tombstone_tag(keyring, kind.name, normal)
            yield Named(kind, normal.decode(), *tags, own=False)


def _at(message: Message, place: str) -> str | None:
    """The text at a place of the message as `take_from` writes it; None if there is none."""
    if place == "userId":
        return message.user_id
    if place == _ANONYMOUS:
        return message.anonymous_id
    if place == "groupId":
        return message.group_id
    room, _, name = place.rpartition(".")
    if room == "context.externalIds":
        return next((value for type_, value in message.external_ids if type_ == name), None)
    fields = {"traits": message.traits, "context.traits": message.context_traits, "properties": message.properties}
    raw = fields.get(room, {}).get(name)
    if raw is None or (room == "traits" and message.type != "identify"):
        return None
    try:
        return _texts.decode(raw)
    except msgspec.MsgspecError:
        return raw.decode() if raw.strip().isdigit() and raw.isascii() else None
