"""What an app sends, as plain messages: one person with an e-mail address and an order; and the secrets that open doors."""

import itertools
from typing import Any

import msgspec
from litestar import Litestar

from api.limits import RateLimits
from vault.config import Limits

EMAIL = "jane.planted@example.com"
YES = {"functional": True, "analytics": True, "advertising": True}


class Secrets(msgspec.Struct):
    """One secret of each kind."""

    server: str
    client: str
    destinations: dict[str, str]
    staff: dict[str, str]


def identify(message_id: str = "m-1", user: str = "u-1", choices: dict[str, bool] | None = None) -> dict[str, Any]:
    """An `identify` with a stamp that agrees to everything, unless told otherwise."""
    return {
        "type": "identify",
        "userId": user,
        "messageId": message_id,
        "traits": {"email": EMAIL, "firstName": "Jane"},
        "context": {"consent": {"categoryPreferences": YES if choices is None else choices}},
    }


def order(message_id: str = "m-2", user: str = "u-1", revenue: float = 250.0) -> dict[str, Any]:
    """A `track` of one order."""
    return {
        "type": "track",
        "userId": user,
        "event": "Order Completed",
        "messageId": message_id,
        "properties": {"order_id": f"o-{message_id}", "revenue": revenue, "currency": "USD"},
        "context": {"consent": {"categoryPreferences": YES}},
    }


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"authorization": f"Bearer {token}"}


def unhurried(app: Litestar) -> None:
    """Every bucket of the application is full whenever it is asked: for tests of what is answered, not of how often."""
    hours = itertools.count(0, 10_000)
    app.state.limits = RateLimits(Limits(), timer=lambda: float(next(hours)))
