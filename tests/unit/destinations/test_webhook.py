"""Claims about deliveries: what the official library of Standard Webhooks takes, and what it must not take."""

import base64
import datetime as dt
import json

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from vault.clock import DAY, SECOND, Micros
from vault.destinations.webhook import (
    BACKOFF,
    Delivery,
    delivery_id,
    envelope,
    next_attempt,
    read_secret,
    show_secret,
    sign,
    verify,
)
from vault.errors import Invalid, Unreadable

NOW = Micros(1_795_465_242_000_000)
OLD, NEW = b"o" * 32, b"n" * 32
LINES = [b'{"op":"upsert","id":"a","traits":{},"version":7}\n', b'{"op":"remove","id":"b","reason":"erased"}\n']


def real_now() -> Micros:
    return Micros(int(dt.datetime.now(dt.UTC).timestamp()) * SECOND)


def test_the_example_of_the_standard_gives_its_signature() -> None:
    # github.com/standard-webhooks/standard-webhooks, spec, "Signature scheme": secret, id, time, body and signature.
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    at = Micros(1_614_265_330 * SECOND)
    delivery = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert delivery.headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_official_library_takes_our_deliveries() -> None:
    now = real_now()
    delivery = sign([NEW], "msg_1", now, envelope(LINES, now))
    received = standardwebhooks.Webhook(show_secret(NEW)).verify(delivery.body, delivery.headers)
    assert received["data"]["lines"] == [json.loads(line) for line in LINES]


def test_h2_during_a_rotation_the_old_and_the_new_secret_both_verify() -> None:
    now = real_now()
    delivery = sign([NEW, OLD], "msg_1", now, envelope(LINES, now))
    for secret in (NEW, OLD):
        standardwebhooks.Webhook(show_secret(secret)).verify(delivery.body, delivery.headers)
        verify([secret], delivery, now)


def test_the_body_is_the_envelope_of_the_standard() -> None:
    body = json.loads(envelope(LINES, NOW))
    assert body == {
        "type": "profiles.changed",
        "timestamp": "2026-11-23T20:20:42.000Z",
        "data": {"lines": [json.loads(line) for line in LINES]},
    }
    assert json.loads(envelope([], NOW))["data"] == {"lines": []}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: Delivery(d.headers, d.body + b" "),
        lambda d: Delivery({**d.headers, "webhook-id": "msg_2"}, d.body),
        lambda d: Delivery({**d.headers, "webhook-timestamp": str(NOW // SECOND + 1)}, d.body),
        lambda d: Delivery({**d.headers, "webhook-timestamp": "soon"}, d.body),
        lambda d: Delivery({**d.headers, "webhook-signature": "v1,"}, d.body),
        lambda d: Delivery(
            {**d.headers, "webhook-signature": d.headers["webhook-signature"].replace("v1,", "v2,")}, d.body
        ),
        lambda d: Delivery({**d.headers, "webhook-signature": "v1,not base64"}, d.body),
        lambda d: Delivery({}, d.body),
    ],
)
def test_a_changed_delivery_does_not_verify(change) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    delivery = sign([NEW], "msg_1", NOW, b"{}")
    verify([NEW], delivery, NOW)
    with pytest.raises(Unreadable):
        verify([NEW], change(delivery), NOW)


def test_another_secret_does_not_verify() -> None:
    with pytest.raises(Unreadable):
        verify([OLD], sign([NEW], "msg_1", NOW, b"{}"), NOW)


@pytest.mark.parametrize(("seconds", "taken"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_h2_a_delivery_can_be_replayed_for_five_minutes_and_no_longer(seconds: int, taken: bool) -> None:
    delivery = sign([NEW], "msg_1", NOW, b"{}")
    later = Micros(NOW + seconds * SECOND)
    if taken:
        verify([NEW], delivery, later)
    else:
        with pytest.raises(Unreadable):
            verify([NEW], delivery, later)


@pytest.mark.parametrize("message_id", ["", "msg.1"])
def test_an_id_that_could_blur_what_is_signed_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError, match="without dots"):
        sign([NEW], message_id, NOW, b"{}")


def test_the_id_of_a_retry_is_the_same_and_that_of_anything_else_is_not() -> None:
    first = delivery_id(NEW, 1, "cursor", LINES)
    assert delivery_id(NEW, 1, "cursor", list(LINES)) == first
    others = {
        delivery_id(NEW, 1, "cursor", LINES[:1]),
        delivery_id(NEW, 1, "later", LINES),
        delivery_id(NEW, 2, "cursor", LINES),
        delivery_id(OLD, 1, "cursor", LINES),
    }
    assert len(others - {first}) == 4
    assert "." not in first


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_is_shown_so_that_it_can_be_read(secret: bytes) -> None:
    assert read_secret(show_secret(secret)) == secret


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!!!", base64.b64encode(NEW).decode(), "whsec_" + "A" * 20])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_secret(text)
    assert text == "" or text not in str(caught.value).replace("whsec_ and", "")


def test_waits_grow_to_a_day_and_stay_there() -> None:
    waits = [next_attempt(failures, NOW, jitter=0.0) - NOW for failures in range(1, 20)]
    assert waits == sorted(waits)
    assert waits[0] == 5 * SECOND
    assert waits[len(BACKOFF) - 1 :] == [DAY] * (20 - len(BACKOFF))


@given(st.integers(0, 100), st.integers(0, 86_400), st.floats(0, 1))
def test_a_recipient_can_put_a_retry_off_but_not_pull_it_in(failures: int, retry_after: int, jitter: float) -> None:
    asked = next_attempt(failures, NOW, retry_after, jitter)
    assert asked >= NOW + retry_after * SECOND
    assert asked >= next_attempt(failures, NOW, jitter=0.0)
    assert asked <= NOW + DAY * 11 // 10


def test_jitter_is_drawn_when_it_is_not_given() -> None:
    assert len({next_attempt(5, NOW) for _ in range(200)}) > 1
