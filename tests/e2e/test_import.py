"""An import of thousands of messages, killed twice on the way, ends as one that nobody disturbed; and again changes nothing."""

import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.house import House, Line, awaited, nameless, upserts
from tests.e2e.purchases import Customer, Expected, customers, expected, messages, ndjson

PEOPLE = 700


@pytest.fixture(scope="module")
def people() -> list[Customer]:
    return customers(PEOPLE)


def killed_at(house: House, file: Path, stored: int) -> int:
    """An import that is killed, without a chance to clean up, once so many events are there. Answers how many are."""
    process = house.start("import", str(file), "--source", "shop", "--json")
    awaited("events", lambda: process.poll() is not None or house.stored() >= stored, step=0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the import was over before it could be killed"
    return house.stored()


def agrees(feeds: dict[str, list[Line]], wanted: Expected) -> None:
    """The feeds say what was computed from the purchases."""
    lines = {name: upserts(found) for name, found in feeds.items()}
    names = ("lifetime_value", "order_count", "first_order_at", "last_order_at")
    seen = [tuple(line["traits"][name] for name in names) for line in lines["warehouse"]]
    assert sorted((Decimal(value), *rest) for value, *rest in seen) == sorted(wanted.warehouse.elements())
    assert not any(line["identifiers"] for line in lines["warehouse"])
    assert sorted(line["traits"]["email"] for line in lines["email-tool"]) == sorted(wanted.mailed)
    assert sorted(line["traits"]["email"] for line in lines["ad-platform"]) == sorted(wanted.hashed)
    best = {line["traits"]["email"] for line in lines["ad-platform"] if "best_customers" in line["audiences"]}
    assert best == wanted.best
    assert sorted(line["traits"]["email"] for line in lines["support-desk"]) == sorted(wanted.supported)


def test_the_made_up_customers_try_every_case(people: list[Customer]) -> None:
    wanted, all_messages = expected(people), list(messages(people))
    assert 2000 <= len(all_messages) <= 5000
    assert len({message["messageId"] for message in all_messages}) == len(all_messages)
    assert 0 < len(wanted.best) < len(wanted.hashed) < wanted.warehouse.total() < PEOPLE
    assert any(one.advertising and not one.agrees_at_last("advertising") for one in people)
    assert any(one.analytics and not one.agrees_at_last("analytics") for one in people)


@pytest.mark.slow
def test_an_import_killed_on_the_way_ends_as_one_that_was_not(
    new_house: Callable[[], House], people: list[Customer], tmp_path: Path
) -> None:
    file, wanted = tmp_path / "events.ndjson", expected(people)
    file.write_text(ndjson(people))
    count = sum(1 for _ in messages(people))

    smooth = new_house()
    secrets = smooth.furnish()
    figures = smooth.ask("import", str(file), "--source", "shop")
    assert (figures["messages"], figures["duplicates"], figures["dropped"]) == (count, 0, {})
    with smooth.serving() as door:
        first = door.feeds(secrets.tokens)
        events, choices = smooth.stored(), smooth.count("SELECT count(*) FROM ledger")
        agrees(first, wanted)

        again = smooth.ask("import", str(file), "--source", "shop")  # a second one, beside the server
        assert (again["stored"], again["duplicates"]) == (0, count)
        assert smooth.stored() == events
        assert smooth.count("SELECT count(*) FROM ledger") == choices
        assert door.feeds(secrets.tokens) == first

    broken = new_house()
    keys = broken.furnish()
    once = killed_at(broken, file, 1)
    assert 0 < once < events * 2 // 3
    twice = killed_at(broken, file, once + 1)
    assert once < twice < events
    rest = broken.ask("import", str(file), "--source", "shop")
    assert rest["stored"] + rest["duplicates"] == count
    assert rest["duplicates"] >= twice
    with broken.serving() as door:
        feeds = door.feeds(keys.tokens)
        assert broken.stored() == events
        assert broken.count("SELECT count(*) FROM ledger") == choices
    agrees(feeds, wanted)
    for name, lines in feeds.items():
        assert nameless(lines) == nameless(first[name]), name
