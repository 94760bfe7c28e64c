"""The JSON of the tracking API as its clients send it (standards sections 1.2 and 1.4). Everything is optional; null is absent.

Types are as loose as the real clients are, and no looser: an id is text. What may be anything stays raw.
"""

import json
from typing import Any, Final

import msgspec

Raws = dict[str, msgspec.Raw]
_ABSENT: Final = msgspec.Raw(b"null")


class Consent(msgspec.Struct):
    """`context.consent`."""

    category_preferences: msgspec.Raw = msgspec.field(name="categoryPreferences", default=_ABSENT)


class Context(msgspec.Struct):
    """The part of `context` that the vault reads."""

    consent: Consent | None = None
    consent_management: msgspec.Raw = msgspec.field(name="consentManagement", default=_ABSENT)  # RudderStack's stamp
    traits: Raws | None = None
    external_ids: msgspec.Raw = msgspec.field(name="externalIds", default=_ABSENT)


class ExternalId(msgspec.Struct):
    """One of `context.externalIds`."""

    id: str
    type: str


class Wire(msgspec.Struct, rename="camel"):
    """One message."""

    type: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    event: str | None = None
    name: str | None = None
    properties: Raws | None = None
    traits: Raws | None = None
    context: Context | None = None
    timestamp: str | int | float | None = None  # a number is no time of this API, but loses no message
    original_timestamp: str | int | float | None = None  # RudderStack's clients name it so, and leave `timestamp` out
    sent_at: str | int | float | None = None


class Batch(msgspec.Struct, rename="camel"):
    """The envelope; its context is merged into every message."""

    batch: list[msgspec.Raw]
    sent_at: str | int | float | None = None
    context: msgspec.Raw = _ABSENT


class Keyed(msgspec.Struct, rename="camel"):
    """Any body, for its write key."""

    write_key: str | None = None


class Called(msgspec.Struct):
    """A message, for what its event is called."""

    type: Any = None
    event: Any = None


class Calls(Called):
    """Any body, for what its events are called."""

    batch: list[Called] | None = None


_external_ids: Final = msgspec.json.Decoder(list[ExternalId] | None)


_answers: Final = msgspec.json.Decoder(dict[str, bool])


def external_ids(context: Context) -> tuple[tuple[str, str], ...]:
    """The further ids of a message as (type, id); none if they are not written as they must be."""
    if context.external_ids is _ABSENT:
        return ()
    try:
        return tuple((one.type, one.id) for one in _external_ids.decode(context.external_ids) or ())
    except msgspec.MsgspecError:
        return ()


Stamps = dict[bytes, dict[str, bool] | None]
"""Stamps of a body that were read, by their bytes: most of its messages carry the same, and then they share it."""


def stamp_of(context: Context, shared: Context, known: Stamps) -> dict[str, bool] | None:
    """What a message says about consent, by itself or else by its envelope; None if nothing. Two stamps: what both allow."""
    consent = context.consent or shared.consent
    raw = bytes(consent.category_preferences) if consent is not None else b"null"
    if raw not in known:
        known[raw] = preferences(raw)
    said = known[raw]
    managed = context.consent_management if context.consent_management is not _ABSENT else shared.consent_management
    answers = _managed(bytes(managed))
    if said is None or answers is None:
        return answers if said is None else said
    return {category: said.get(category, False) and answers.get(category, False) for category in {*said, *answers}}


class _Management(msgspec.Struct):
    """`context.consentManagement`."""

    allowed: list[str] | None = msgspec.field(name="allowedConsentIds", default=None)
    denied: list[str] | None = msgspec.field(name="deniedConsentIds", default=None)


_management: Final = msgspec.json.Decoder(_Management)


def _managed(raw: bytes) -> dict[str, bool] | None:
    """RudderStack's stamp as categories: what is listed as allowed and not as denied. Unreadable, it allows nothing."""
    if raw == b"null":
        return None
    try:
        lists = _management.decode(raw)
    except msgspec.MsgspecError:
        return {}
    return dict.fromkeys(lists.allowed or (), True) | dict.fromkeys(lists.denied or (), False)


def preferences(raw: bytes) -> dict[str, bool] | None:
    """The stamp; None if there is none. Whatever is not plainly true denies: a wrong type, or a key that says both."""
    if raw == b"null":
        return None
    try:
        answers = _answers.decode(raw)
    except msgspec.MsgspecError:
        answers = None
    # two quotes a key, unless one is written twice or holds a quote
    if answers is not None and raw.count(b'"') == 2 * len(answers):
        return answers
    pairs: Any = json.loads(raw, object_pairs_hook=_Pairs)
    stamp: dict[str, bool] = {}
    if isinstance(pairs, _Pairs):
        for category, answer in pairs:
            stamp[category] = stamp.get(category, True) and answer is True
    return stamp


class _Pairs(list[tuple[str, Any]]):
    """An object with every key that was written, twice if it was written twice."""
