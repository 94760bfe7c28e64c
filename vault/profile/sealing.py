"""The only place that seals and opens personal values. Nothing opens without a permit of the gate.

Promises: a sealed value opens only in its compartment, under its field, version and provenance (threats A1 to A4, A13,
A22); only for a purpose of the compartment or for the rights desk; and only if the permit names the object. Of the three
fields that hold entries of many objects (computed traits, memberships, accounts) only the entries that the permit names come out.
Must not know: consent, contracts, the database. Bytes: docs/formats/fields.md, docs/formats/event.md.
"""

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from vault.catalogue.numbers import (
    ACCOUNTS,
    ACCUMULATORS,
    MAX_ACCOUNT_TRAIT,
    MEMBERSHIPS,
    RIGHTS,
    audience_object,
    computed_object,
    event_object,
    is_account_object,
)
from vault.errors import TooLarge, Unreadable, Withheld
from vault.keys.compartments import Compartment
from vault.policy.permit import Permit
from vault.profile.accounts import only, read_accounts, write_accounts
from vault.profile.values import (
    EVENT_KEY_BYTES,
    HEAD_BYTES,
    HEADS_FROM,
    MAX_SEALED_BYTES,
    SEAL_BYTES,
    Directory,
    FieldHead,
    Form,
    Provenance,
)

EVENT_FORMAT: Final = 1

# Associated data, each part behind its length: the bytes that `framed` would give (a test compares), in one call each.
# format | compartment id | subject | purposes | generation
_PLACE: Final = struct.Struct(">I2sI16sI16sIQIH")
# the head as stored, without the length of the value: a reader takes these bytes as they are (ADR 0070)
_BOUND: Final = struct.Struct(">HIH16sBQ")
_BOUND_LENGTH: Final = struct.pack(">I", _BOUND.size)
# event key | kind
_EVENT_TAIL: Final = struct.Struct(">I16sII")

_RANGE_SHIFT: Final = 13  # the three highest bits: events, computed traits and audiences have 13 bits of their own
_COMPUTED: Final = computed_object(0) >> _RANGE_SHIFT
_AUDIENCE: Final = audience_object(0) >> _RANGE_SHIFT
_SHARED: Final = frozenset((ACCUMULATORS, MEMBERSHIPS, ACCOUNTS))
_entries: Final = msgspec.json.Decoder(dict[int, msgspec.Raw])
_numbers: Final = msgspec.json.Decoder(list[int])


def seal_field(
    compartment: Compartment, field: int, version: int, provenance: Provenance, plaintext: bytes
) -> tuple[FieldHead, bytes]:
    """The head and the sealed value of one field. `plaintext` is one JSON value. Raises `TooLarge` over 65,507 bytes."""
    if len(plaintext) + SEAL_BYTES > MAX_SEALED_BYTES:
        raise TooLarge("A value has at most 65,507 bytes.", code="value_too_large")
    context = _field_prefix(compartment) + _BOUND.pack(field, version, *provenance)
    sealed = compartment.aead.encrypt(plaintext, context)
    return FieldHead(field, version, *provenance, len(sealed)), sealed


def open_field(compartment: Compartment, head: FieldHead, sealed: bytes, permit: Permit) -> bytes:
    """The JSON value of one field. Raises `Withheld` if the permit does not reach it, `Unreadable` if it does not open."""
    _check_purpose(compartment, permit)
    if not _reaches(permit, head.field):
        raise Withheld(code="not_permitted")
    context = _field_prefix(compartment) + _BOUND.pack(*head[:6])
    return _limited(permit, head.field, compartment.aead.decrypt(sealed, context))


def open_fields(
    compartment: Compartment, fields: Iterable[tuple[FieldHead, bytes]], permit: Permit
) -> list[tuple[FieldHead, bytes]]:
    """Those of the fields that the permit reaches, opened; the others are left out. Raises `Unreadable`, `Withheld`."""
    _check_purpose(compartment, permit)
    objects = permit.objects
    prefix = _field_prefix(compartment)
    decrypt, pack = compartment.aead.decrypt, _BOUND.pack
    opened = []
    for head, sealed in fields:
        field = head[0]
        if objects is not None and field not in objects and (field not in _SHARED or not _reaches(permit, field)):
            continue
        plaintext = decrypt(sealed, prefix + pack(*head[:6]))
        opened.append((head, _limited(permit, field, plaintext) if field in _SHARED else plaintext))
    return opened


class Opening:
    """What a permit opens of compartments that hold one set of fields. How far it reaches is found once, when this is made."""

    __slots__ = ("_bit", "_form", "_permit", "_shared", "_spots")

    def __init__(self, form: Form, places: Iterable[int], permit: Permit) -> None:
        """The values at these places of the directory. Raises `Withheld` if the permit does not reach one of them."""
        _check_permit(permit)
        chosen = tuple(places)
        fields = [form.numbers[place] for place in chosen]
        if not all(_reaches(permit, field) for field in fields):
            raise Withheld(code="not_permitted")
        heads = [HEADS_FROM + place * HEAD_BYTES for place in chosen]
        self._form = form
        self._permit = permit
        self._bit = 1 << permit.purpose
        self._spots = tuple([(place, at, at + _BOUND.size) for place, at in zip(chosen, heads, strict=True)])
        self._shared = tuple([(index, field) for index, field in enumerate(fields) if field in _SHARED])

    def open(self, compartment: Compartment, stored: Directory) -> list[bytes]:
        """The JSON values, in the order of the places. Raises `Withheld` for a compartment of other purposes, `Unreadable`."""
        if not compartment.purposes & self._bit:
            _check_purpose(compartment, self._permit)
        blob, form, starts = stored
        if form is not self._form:
            raise ValueError("a compartment with other fields")
        opened = compartment.aead.decrypt_each(blob, starts, _field_prefix(compartment), self._spots)
        for index, field in self._shared:
            opened[index] = _limited(self._permit, field, opened[index])
        return opened


def seal_event(compartment: Compartment, event_key: bytes, kind: int, plaintext: bytes) -> bytes:
    """The stored bytes of one part of an event. `kind` is the clear number beside it: 0 where the name is sensitive."""
    return bytes((EVENT_FORMAT,)) + compartment.aead.encrypt(plaintext, _event_context(compartment, event_key, kind))


def open_event(compartment: Compartment, event_key: bytes, kind: int, sealed: bytes, permit: Permit) -> bytes:
    """The JSON object of one part of an event. Raises `Withheld` or `Unreadable`."""
    _check_purpose(compartment, permit)
    if permit.objects is not None and event_object(kind) not in permit.objects:
        raise Withheld(code="not_permitted")
    if len(sealed) <= 1 + SEAL_BYTES or sealed[0] != EVENT_FORMAT:  # an empty plaintext is no JSON
        raise Unreadable
    return compartment.aead.decrypt(memoryview(sealed)[1:], _event_context(compartment, event_key, kind))


def _check_purpose(compartment: Compartment, permit: Permit) -> None:
    """Raises `Withheld` unless the permit's purpose is one of those that the values were collected for."""
    _check_permit(permit)
    if permit.purpose != RIGHTS and not compartment.purposes >> permit.purpose & 1:
        raise Withheld(code="other_purpose")


def _check_permit(permit: Permit) -> None:
    if not isinstance(permit, Permit):  # types are checked before the program runs; this wall also stands while it does
        raise TypeError("a permit is made by the gate only")


def _reaches(permit: Permit, field: int) -> bool:
    objects = permit.objects
    if objects is None or field in objects:
        return True
    if field == ACCUMULATORS:
        return any(number >> _RANGE_SHIFT == _COMPUTED for number in objects)
    if field == ACCOUNTS:
        return any(is_account_object(number) for number in objects)
    return field == MEMBERSHIPS and any(number >> _RANGE_SHIFT == _AUDIENCE for number in objects)


def _limited(permit: Permit, field: int, plaintext: bytes) -> bytes:
    """`plaintext`, without those computed traits, account traits or audiences that the permit does not name."""
    objects = permit.objects
    if objects is None or field not in _SHARED:
        return plaintext
    if field == ACCOUNTS:
        named = frozenset(number & MAX_ACCOUNT_TRAIT for number in objects if is_account_object(number))
        return write_accounts(only(read_accounts(plaintext), named))
    try:
        if field == ACCUMULATORS:
            states = _entries.decode(plaintext)
            return msgspec.json.encode({n: state for n, state in states.items() if computed_object(n) in objects})
        return msgspec.json.encode([n for n in _numbers.decode(plaintext) if audience_object(n) in objects])
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def _place(label: bytes, compartment: Compartment) -> bytes:
    return _PLACE.pack(
        2,
        label,
        16,
        compartment.compartment_id,
        16,
        compartment.subject.bytes,
        8,
        compartment.purposes,
        2,
        compartment.generation,
    )


def _field_prefix(compartment: Compartment) -> bytes:
    if not compartment.field_place:
        compartment.field_place = _place(b"F1", compartment) + _BOUND_LENGTH
    return compartment.field_place


def _event_context(compartment: Compartment, event_key: bytes, kind: int) -> bytes:
    if len(event_key) != EVENT_KEY_BYTES:
        raise Unreadable
    if not compartment.event_place:
        compartment.event_place = _place(b"E1", compartment)
    return compartment.event_place + _EVENT_TAIL.pack(EVENT_KEY_BYTES, event_key, 4, kind)
