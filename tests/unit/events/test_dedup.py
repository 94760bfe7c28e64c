"""Keyed tags that make a retry harmless and an id of somebody else's useless."""

import json
from typing import Any

import pytest

from vault.clock import Micros
from vault.events.decode import decode
from vault.events.dedup import Names
from vault.events.message import Message

KEY, OTHER = bytes(range(32)), bytes(32)
BASE = {
    "type": "track",
    "messageId": "m1",
    "userId": "u1",
    "anonymousId": "a1",
    "event": "Order Completed",
    "timestamp": "2026-11-23T12:00:00Z",
    "properties": {"revenue": 1.5, "currency": "USD"},
}


def message(received: int = 1_790_000_000_000_000, **fields: Any) -> Message:
    body = {"batch": [{**BASE, **fields}], "sentAt": "2026-11-23T12:00:01Z"}
    return decode(json.dumps(body).encode(), "batch", Micros(received)).messages[0]


def event_key(key: bytes, source: int, text: str) -> bytes:
    return Names(key, KEY, source).key(text)


def content_digest(key: bytes, said: Message) -> bytes:
    return Names(KEY, key, 1).digest(said)


def device_tag(key: bytes, said: Message, *, server: bool = False) -> bytes:
    return Names(KEY, key, 1, server=server).device(said)


def test_g11_an_id_is_another_source_s_in_another_source() -> None:
    keys = {event_key(key, source, text) for key in (KEY, OTHER) for source in (1, 2) for text in ("m1", "m2", "")}
    assert len(keys) == 12
    assert {len(key) for key in keys} == {16}


def test_the_same_message_sent_again_has_the_same_digest() -> None:
    first = content_digest(KEY, message())
    assert content_digest(KEY, message(received=1_800_000_000_000_000)) == first
    assert (
        content_digest(KEY, message(sentAt="2026-11-24T00:00:00Z", _metadata={"retryCount": 3}, writeKey="k")) == first
    )
    reordered = json.dumps({"batch": [dict(reversed(BASE.items()))]}).encode()
    assert content_digest(KEY, decode(reordered, "batch", Micros(1)).messages[0]) == first


@pytest.mark.parametrize(
    "fields",
    [
        {"userId": "u2"},
        {"anonymousId": None},
        {"event": "Order Cancelled"},
        {"timestamp": "2026-11-23T12:00:01Z"},
        {"properties": {"revenue": 1.6, "currency": "USD"}},
        {"properties": {"revenue": 1.5}},
        {"context": {"consent": {"categoryPreferences": {"advertising": False}}}},
        {"type": "page"},
        {"traits": {}},
    ],
)
def test_another_message_with_the_same_id_has_another_digest(fields: dict[str, Any]) -> None:
    assert content_digest(KEY, message(**fields)) != content_digest(KEY, message())


def test_digests_are_keyed() -> None:
    assert content_digest(KEY, message()) != content_digest(OTHER, message())


def test_a_client_source_speaks_for_its_device_and_a_server_source_for_the_user() -> None:
    both, user, device = message(), message(anonymousId=None), message(userId=None)
    assert device_tag(KEY, both) == device_tag(KEY, device)
    assert device_tag(KEY, both, server=True) == device_tag(KEY, user, server=True)
    assert device_tag(KEY, both) != device_tag(KEY, both, server=True)
    assert device_tag(KEY, device, server=True) == device_tag(KEY, device)
    same = message(userId="x", anonymousId="x")
    assert device_tag(KEY, same) != device_tag(KEY, same, server=True), "a device is no user of the same name"
