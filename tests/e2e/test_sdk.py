"""The unmodified Segment SDK against the running server: what it queued is stored, once, however often it was sent."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import segment.analytics.client as segment

from tests.clients.proxy import losing_proxy
from tests.e2e.house import Door, House, upserts

PEOPLE = 40
EVENTS = 1000
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


@pytest.fixture(scope="module")
def shop(shared_house: House) -> Iterator[tuple[House, Door, str, dict[str, str]]]:
    secrets = shared_house.furnish()
    with shared_house.serving() as door:
        yield shared_house, door, secrets.write_key, {"warehouse": secrets.tokens["warehouse"]}


def send(url: str, key: str, people: str, *, gzip: bool, upload_size: int = 100) -> dict[str, tuple[int, Decimal]]:
    """EVENTS orders of PEOPLE through the SDK. Answers what each person bought: computed here, from what was handed over."""
    errors: list[Any] = []
    client = segment.Client(
        key, host=url, gzip=gzip, upload_size=upload_size, on_error=lambda error, _: errors.append(error)
    )
    bought: dict[str, tuple[int, Decimal]] = {}
    for number in range(EVENTS):
        person = f"{people}-{number % PEOPLE}"
        revenue = Decimal(number * 37 % 9973) / 100
        count, spent = bought.get(person, (0, Decimal(0)))
        bought[person] = (count + 1, spent + revenue)
        properties = {"order_id": f"{people}-{number}", "revenue": float(revenue), "currency": "USD"}
        client.track(person, "Order Completed", properties, context=AGREED)
    client.shutdown()
    assert not errors
    return bought


@pytest.mark.parametrize("way", ["gzip", "plain", "retried"])
def test_a_thousand_events_of_the_sdk_are_stored_once(shop: tuple[House, Door, str, dict[str, str]], way: str) -> None:
    house, door, key, tokens = shop
    events, lines = house.stored(), upserts(door.feeds(tokens)["warehouse"])
    before = {line["id"] for line in lines}

    if way == "retried":
        with losing_proxy(door.url) as network:
            bought = send(network.url, key, way, gzip=True, upload_size=50)
        assert network.refused >= 3  # answered 500 after the vault had taken it
        assert network.dropped >= 3  # cut off after the vault had taken it
        assert network.repeated >= 6
        assert not network.owed
    else:
        bought = send(door.url, key, way, gzip=way == "gzip")

    assert house.stored() - events == EVENTS
    assert house.count("SELECT count(*) FROM dedup") == house.stored()
    new = [line["traits"] for line in upserts(door.feeds(tokens)["warehouse"]) if line["id"] not in before]
    seen = sorted((traits["order_count"], Decimal(traits["lifetime_value"])) for traits in new)
    assert seen == sorted(bought.values())


def test_the_sdk_says_nothing_that_the_vault_refuses(shop: tuple[House, Door, str, dict[str, str]]) -> None:
    house, door, key, _ = shop
    errors: list[Any] = []
    client = segment.Client(key, host=door.url, on_error=lambda error, _: errors.append(error))
    client.identify("every", {"email": "every@example.com", "firstName": "Every"}, context=AGREED)
    client.page("every", "Shop", "Home", {"url": "https://shop.example/"}, context=AGREED)
    client.screen("every", "Shop", "Home", context=AGREED)
    client.group("every", "g-1", {"name": "Every Ltd", "plan": "gold"}, context=AGREED)
    client.alias("before-every", "every", context=AGREED)
    client.shutdown()
    assert not errors
    kinds = house.sql("SELECT DISTINCT kind FROM event WHERE kind IN (26, 27)")
    assert len(kinds) == 2  # page and screen, by their catalogue numbers
