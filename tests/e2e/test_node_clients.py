"""The unmodified Node.js SDKs of Segment and RudderStack against the running server, and through a network that loses answers."""

from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal

import pytest

from tests.clients import tools
from tests.clients.proxy import losing_proxy
from tests.e2e.house import Door, House, Line, bearer, upserts

EVENTS = 60
PEOPLE = 5
SCRIPTS = {"segment": "segment.mjs", "rudderstack": "rudder.cjs"}
MORE = 3  # page, screen and group leave an event; identify and alias leave none


@pytest.fixture(scope="module")
def shop(shared_house: House) -> Iterator[tuple[House, Door, str, dict[str, str], str]]:
    tools.need(tools.lacking_node())
    secrets = shared_house.furnish()
    with shared_house.serving() as door:
        yield shared_house, door, secrets.write_key, {"warehouse": secrets.tokens["warehouse"]}, secrets.officer


def send(script: str, url: str, key: str, people: str) -> None:
    process = tools.node(script, url, key, people, str(EVENTS))
    try:
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, told[-2000:]


def bought() -> list[tuple[int, Decimal]]:
    """What each person bought, computed here from what the scripts hand over."""
    orders = [[number + Decimal("0.25") for number in range(EVENTS) if number % PEOPLE == one] for one in range(PEOPLE)]
    return sorted((len(mine), sum(mine, Decimal(0))) for mine in orders)


@pytest.mark.parametrize("way", ["straight", "losing"])
@pytest.mark.parametrize("client", SCRIPTS)
def test_every_event_of_a_node_sdk_is_stored_once(
    shop: tuple[House, Door, str, dict[str, str], str], client: str, way: str
) -> None:
    house, door, key, tokens, officer = shop
    people = f"{client}-{way}"
    events, before = house.stored(), {line["id"] for line in upserts(door.feeds(tokens)["warehouse"])}

    with losing_proxy(door.url) if way == "losing" else nullcontext(door) as network:
        send(SCRIPTS[client], network.url, key, people)
        if way == "losing":
            assert network.refused >= 1  # type: ignore[union-attr] - a 500 after the vault had taken it
            assert network.dropped >= 1  # type: ignore[union-attr] - a connection cut after the vault had taken it
            assert network.repeated >= 1  # type: ignore[union-attr]
            assert not network.owed  # type: ignore[union-attr]

    assert house.stored() - events == EVENTS + MORE
    new: list[Line] = [line for line in upserts(door.feeds(tokens)["warehouse"]) if line["id"] not in before]
    seen = sorted((line["traits"]["order_count"], Decimal(line["traits"]["lifetime_value"])) for line in new)
    assert seen == bought()

    find = door.http.post(
        "/v1/subjects/find", json={"kind": "email", "value": f"{people}-0@example.com"}, headers=bearer(officer)
    )
    assert find.status_code == 200  # what identify said is there, under the address it said
