"""A delivery as Standard Webhooks 1.0.0 asks for it: envelope, id, signature, and when to try again. Pure.

The lines are those of the feed (docs/formats/feed.md), decided at the moment of sending. The id is the same for the same
lines after the same cursor, so a retry is recognised, and a delivery that was decided anew is not mistaken for one.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, NamedTuple

from vault.clock import DAY, HOUR, SECOND, Micros, isoformat
from vault.crypto.blind import tag
from vault.crypto.hmac256 import hmac_sha256, verify_hmac_sha256
from vault.crypto.mac import mac, verify_mac
from vault.errors import Invalid, Unreadable
from vault.ids import random_bytes

EVENT_TYPE: Final = "profiles.changed"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of the standard, not a secret
SECRET_BYTES: Final = 32
TOLERANCE_SECONDS: Final = 300  # Standard Webhooks libraries: five minutes either way

_ID_LABEL: Final = "webhook/id"
_URL_LABEL: Final = "webhook/url"
_MINUTE: Final = 60 * SECOND
# The schedule of the standard; after its end once a day, since the cursor waits and nothing may be skipped.
BACKOFF: Final = (
    5 * SECOND, 5 * _MINUTE, 30 * _MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, DAY,
)  # fmt: skip
_JITTER: Final = 0.1  # up to a tenth later, so that many recipients of one outage do not come back at once


class Delivery(NamedTuple):
    """One message, ready to send; `headers` hold the signature of this attempt."""

    headers: dict[str, str]
    body: bytes


def envelope(lines: Sequence[bytes], at: Micros) -> bytes:
    """The body: {"type", "timestamp", "data": {"lines": [...]}}. `lines` are feed lines, each one JSON object."""
    joined = b",".join([line.rstrip(b"\n") for line in lines])
    head = f'{{"type":"{EVENT_TYPE}","timestamp":"{isoformat(at)}","data":{{"lines":['.encode()
    return head + joined + b"]}}"


def delivery_id(key: bytes, destination: int, cursor: str, lines: Sequence[bytes]) -> str:
    """The idempotency key: keyed, since it hangs on values and stands in logs. `key` is the vault's pseudonym key."""
    return f"msg_{tag(key, _ID_LABEL, destination.to_bytes(4, 'big'), cursor.encode(), *lines).hex()}"


def address_code(key: bytes, secret: bytes, destination: int, url: str) -> bytes:
    """Vouches for where deliveries go; `key` is the vault's pseudonym key. With another secret an old address is none."""
    return mac(key, _URL_LABEL, destination.to_bytes(4, "big"), url.encode(), secret)


def check_address(key: bytes, secret: bytes, destination: int, url: str, code: bytes | None) -> None:
    """Raises `Unreadable` for an address that no operator set."""
    verify_mac(code or b"", key, _URL_LABEL, destination.to_bytes(4, "big"), url.encode(), secret)


def sign(secrets: Sequence[bytes], message_id: str, at: Micros, body: bytes) -> Delivery:
    """The delivery, signed with every secret, the newest first: during a rotation that is two.

    Raises ValueError without a secret, or for an id with a dot, which would let two messages share their signed bytes.
    """
    if not secrets or not message_id or "." in message_id:
        raise ValueError("a delivery needs a secret and an id without dots")
    timestamp = str(at // SECOND)
    signed = _signed(message_id, timestamp, body)
    entries = [f"v1,{base64.b64encode(hmac_sha256(secret, signed)).decode()}" for secret in secrets]
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(entries),
    }
    return Delivery(headers, body)


def verify(secrets: Sequence[bytes], delivery: Delivery, now: Micros) -> None:
    """Raises `Unreadable` unless one of the secrets signed this delivery within five minutes of `now`."""
    try:
        message_id, timestamp = delivery.headers["webhook-id"], delivery.headers["webhook-timestamp"]
        entries = delivery.headers["webhook-signature"].split(" ")
        age = now // SECOND - int(timestamp)
        codes = [base64.b64decode(entry[3:], validate=True) for entry in entries if entry.startswith("v1,")]
    except (KeyError, ValueError, binascii.Error):
        raise Unreadable from None
    if abs(age) > TOLERANCE_SECONDS:
        raise Unreadable
    signed = _signed(message_id, timestamp, delivery.body)
    for secret in secrets:
        for code in codes:
            try:
                return verify_hmac_sha256(code, secret, signed)
            except Unreadable:
                continue
    raise Unreadable


def show_secret(secret: bytes) -> str:
    """The secret as the recipient's library wants it: `whsec_` and base64. Printed once, never logged."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def read_secret(text: str) -> bytes:
    """The bytes of a shown secret. Raises `Invalid`, without repeating it."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise Invalid("A webhook secret is whsec_ and base64.") from None
    if not text.startswith(SECRET_PREFIX) or not 24 <= len(secret) <= 64:
        raise Invalid("A webhook secret is whsec_ and base64 of 24 to 64 bytes.")
    return secret


def next_attempt(failures: int, now: Micros, retry_after: int | None = None, jitter: float | None = None) -> Micros:
    """When to try again after `failures` (1 or more) in a row. `retry_after` in seconds can only put it off.

    `jitter` from 0 to 1 is drawn when it is not given.
    """
    wait = BACKOFF[min(max(failures, 1), len(BACKOFF)) - 1]
    drawn = random_bytes(1)[0] / 0xFF if jitter is None else jitter
    wait = max(wait + int(wait * _JITTER * drawn), (retry_after or 0) * SECOND)
    return Micros(now + wait)


def _signed(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body
