"""The unmodified Python SDK of RudderStack against the running server, and through a network that loses answers."""

from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest
from rudderstack.analytics.client import Client

from tests.clients.proxy import losing_proxy
from tests.e2e.house import Door, House, upserts

EVENTS = 90
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


@pytest.fixture(scope="module")
def shop(shared_house: House) -> Iterator[tuple[House, Door, str, str]]:
    secrets = shared_house.furnish()
    with shared_house.serving() as door:
        yield shared_house, door, secrets.write_key, secrets.tokens["warehouse"]


@pytest.mark.parametrize("way", ["straight", "losing"])
def test_every_event_of_rudderstacks_python_sdk_is_stored_once(shop: tuple[House, Door, str, str], way: str) -> None:
    house, door, key, token = shop
    events, before = house.stored(), {line["id"] for line in upserts(door.feeds({"warehouse": token})["warehouse"])}
    errors: list[Any] = []
    with losing_proxy(door.url) if way == "losing" else nullcontext(door) as network:
        client = Client(
            key,
            host=network.url + "/",  # as people write it
            gzip=way == "losing",
            upload_size=10,
            on_error=lambda error, _: errors.append(error),
        )
        for number in range(EVENTS):
            properties = {"order_id": f"o-{number}", "revenue": number + 0.25, "currency": "USD"}
            client.track(f"ada-{way}", "Order Completed", properties, context=AGREED)
        client.flush()
        client.join()
        assert not errors
        if way == "losing":
            assert network.refused >= 1  # type: ignore[union-attr] - a 500 after the vault had taken it
            assert network.dropped >= 1  # type: ignore[union-attr] - a connection cut after the vault had taken it
            assert network.repeated >= 1  # type: ignore[union-attr]
            assert not network.owed  # type: ignore[union-attr]
    assert house.stored() - events == EVENTS
    lines = upserts(door.feeds({"warehouse": token})["warehouse"])
    [traits] = [line["traits"] for line in lines if line["id"] not in before]
    assert traits["order_count"] == EVENTS
    assert Decimal(traits["lifetime_value"]) == sum(number + Decimal("0.25") for number in range(EVENTS))
