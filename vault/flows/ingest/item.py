"""One message on its way: its keys, the identifiers it names, and in the end what became of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from vault.catalogue.fields import GROUP
from vault.catalogue.identifiers import IdentifierKind
from vault.catalogue.load import Catalogue
from vault.consent.act import Said
from vault.consent.ledger import How
from vault.crypto.blind import Tagger
from vault.events.dedup import Names
from vault.events.message import Message
from vault.flows.tags import account_tag, finder
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.sources.store import Source

_ANONYMOUS: Final = "anonymousId"
_USER: Final = "userId"
_texts: Final = msgspec.json.Decoder(str)


class Named(NamedTuple):
    """One identifier of a message, in normal form and as the tag that finds a person."""

    kind: IdentifierKind
    value: str
    tag: bytes
    own: bool  # the device that speaks
    previous: bool = False  # what an alias says that the person was called before

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


class Item(msgspec.Struct, frozen=True, gc=False):
    """A message with everything about it that needs a key."""

    message: Message
    key: bytes  # event key
    digest: bytes
    device: bytes
    named: tuple[Named, ...]
    account: Named | None = None  # of a group call: the company or household that it names
    act: Act | None = None  # choices said through a door of their own; then the message is nothing else
    tagged: int = 0  # `Keyring.tags` when its tags were made

    @property
    def index(self) -> int:
        """Its place in the batch."""
        return self.message.index


Getter = Callable[[Message], str | None]


class Places:
    """Where a message may name a person, by kind: compiled once from `identities.toml`."""

    def __init__(self, catalogue: Catalogue) -> None:
        """For the kinds of this catalogue, in its order."""
        kinds = [kind for kind in catalogue.identifiers.values() if not kind.account]
        self.account = catalogue.account_kind
        self.kinds: list[tuple[IdentifierKind, list[tuple[Getter, bool]]]] = [
            (kind, [(_getter(place), place == _ANONYMOUS) for place in kind.take_from]) for kind in kinds
        ]
        # What an alias names as the id before may be that of a user or, as the libraries send it, that of a device.
        self.before = [kind for kind in kinds if kind.joins and {_USER, _ANONYMOUS} & {*kind.take_from}]


def items_of(places: Places, keyring: Keyring, source: Source, messages: list[Message]) -> list[Item]:
    """The messages of a body, ready to be looked up."""
    said = Names(keyring.key(names.EVENT), keyring.key(names.DEDUP), source.source_id, server=source.server)
    finders = Taggers(partial(finder, keyring))
    return [
        Item(
            message,
            said.key(message.message_id),
            said.digest(message),
            said.device(message),
            _named(places, finders, message),
            _account(places, keyring, message) if message.type == GROUP else None,
            tagged=keyring.tags,
        )
        for message in messages
    ]


class Taggers(dict[str, Tagger]):
    """What makes the tags of a kind, by its name; made when it is first asked for."""

    def __init__(self, make: Callable[[str], Tagger]) -> None:
        """`make` is given the name of a kind."""
        self._make = make

    def __missing__(self, kind_name: str) -> Tagger:
        made = self[kind_name] = self._make(kind_name)
        return made


def _named(places: Places, finders: Mapping[str, Tagger], message: Message) -> tuple[Named, ...]:
    """Every identifier once: an alias may say that a device was itself before."""
    found: list[Named] = []
    for kind, getters in places.kinds:
        for get, own in getters:
            value = get(message)
            normal = normalise(kind, value) if value is not None else None
            if normal is not None:
                found.append(Named(kind, normal.decode(), finders[kind.name].tag(normal), own))
                break
    if message.type == "alias" and message.previous_id is not None:
        tags = {named.tag for named in found}
        for kind in places.before:
            normal = normalise(kind, message.previous_id)
            tag = finders[kind.name].tag(normal) if normal is not None else None
            if normal is not None and tag is not None and tag not in tags:
                found.append(Named(kind, normal.decode(), tag, own=False, previous=True))
    return tuple(found)


def _account(places: Places, keyring: Keyring, message: Message) -> Named | None:
    """The account that a group call names, by the tag that finds its members; None for what names none."""
    kind, value = places.account, message.group_id
    normal = normalise(kind, value) if kind is not None and value is not None else None
    if kind is None or normal is None:
        return None
    tag = account_tag(keyring.key(names.index(kind.name)), kind.name, normal)
    return Named(kind, normal.decode(), tag, own=False)


def _getter(place: str) -> Getter:
    """What reads the text at a place as `take_from` writes it; it answers None if there is none."""
    plain: dict[str, Getter] = {
        _USER: lambda message: message.user_id,
        _ANONYMOUS: lambda message: message.anonymous_id,
    }
    room, _, name = place.rpartition(".")
    fields: dict[str, Getter] = {
        "traits": lambda message: _text(message.traits.get(name)) if message.type == "identify" else None,
        "context.traits": lambda message: _text(message.context_traits.get(name)),
        "properties": lambda message: _text(message.properties.get(name)),
        "context.externalIds": lambda message: next(
            (id_ for type_, id_ in message.external_ids if type_ == name), None
        ),
    }
    return plain.get(place) or fields[room]


def _text(raw: bytes | None) -> str | None:
    """A JSON text, or a whole number as the text that it is."""
    if raw is None:
        return None
    try:
        return _texts.decode(raw)
    except msgspec.MsgspecError:
        return raw.decode() if raw.strip().isdigit() and raw.isascii() else None
