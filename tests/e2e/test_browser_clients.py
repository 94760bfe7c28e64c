"""The unmodified browser SDKs, in jsdom and in Chromium, from a page of another origin."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.clients import chrome, tools
from tests.clients.proxy import losing_proxy
from tests.e2e.house import HOST, ROOT, Door, House, Line, awaited, bearer, upserts

HOW_TO = ROOT / "docs" / "how-to" / "connect-an-app.md"
EVENTS = 12
MORE = 2  # page and screen leave an event; identify, group and alias leave none
ALL = {"functional": True, "analytics": True, "advertising": True}
NONE = dict.fromkeys(ALL, False)
STRATEGIES: dict[str, Any] = {
    "single": None,
    "batching": {"strategy": "batching", "config": {"size": 3, "timeout": 200}},
}


class Shop(msgspec.Struct):
    """A running vault, a key for browsers, and the shop's own site, which is another origin."""

    house: House
    door: Door
    key: str
    warehouse: str
    officer: str
    site: str
    bundle: Path

    def lines(self) -> list[Line]:
        return self.door.feeds({"warehouse": self.warehouse})["warehouse"]

    def pages(self) -> int:
        """How many page views are stored."""
        return self.house.count("SELECT count(DISTINCT event_key) FROM event WHERE kind = 26")

    def choices(self, device: str) -> dict[str, str]:
        """What the ledger says last about each purpose of a device, as an officer sees it."""
        body = {"kind": "anonymous_id", "value": device}
        found = self.door.http.post("/v1/subjects/find", json=body, headers=bearer(self.officer)).raise_for_status()
        path = f"/v1/subjects/{found.json()['ref']}/consents"
        told = self.door.http.get(path, headers=bearer(self.officer)).raise_for_status().json()
        return {choice["purpose"]: choice["decision"] for choice in told["choices"]}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def site(folder: Path) -> Iterator[str]:
    (folder / "index.html").write_text('<!doctype html><title>Shop</title><script src="shop.js"></script>')
    (folder / "other.html").write_text("<!doctype html><title>Elsewhere</title>")
    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shop(shared_house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    tools.need(tools.lacking_node())
    folder = tmp_path_factory.mktemp("site")
    tools.bundle(tools.HERE / "page.mjs", folder / "shop.js")
    secrets = shared_house.furnish()
    key = shared_house.ask("sources", "add", "web", "--class", "client")["write_key"]
    with shared_house.serving() as door, site(folder) as url:
        yield Shop(shared_house, door, key, secrets.tokens["warehouse"], secrets.officer, url, folder / "shop.js")


@contextmanager
def in_jsdom(shop: Shop, call: str) -> Iterator[str]:
    """The call has been made, and its page is open."""
    process = tools.node(tools.HERE / "jsdom.mjs", shop.site, str(shop.bundle), call, typed=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1][-2000:]
        yield json.loads(line)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def in_chromium(shop: Shop, call: str) -> Iterator[str]:
    """As above."""
    tools.need(tools.lacking_browser())
    with chrome.page(shop.site) as tab:
        yield tab.run(call)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("browser", [in_jsdom, in_chromium], ids=["jsdom", "chromium"])
def test_every_event_of_analytics_js_is_stored_once_through_a_network_that_loses_answers(
    shop: Shop, browser: Callable[[Shop, str], Any], strategy: str
) -> None:
    before, events = {line["id"] for line in upserts(shop.lines())}, shop.house.stored()
    name = f"{browser.__name__}-{strategy}"
    with losing_proxy(shop.door.url) as network:
        config = {"url": network.url, "writeKey": shop.key, "name": name, "events": EVENTS}
        # the settings would name the vault itself, past the network; a page may say where to send
        config["strategy"] = STRATEGIES[strategy]
        config["apiHost"] = network.url.removeprefix("http://") + "/v1"
        with browser(shop, f"window.shop.orders({json.dumps(config)})"):
            awaited("every event", lambda: shop.house.stored() - events >= EVENTS + MORE)
            awaited("what was lost, again", lambda: network.repeated and not network.owed)
        assert network.refused >= 1
    assert shop.house.stored() - events == EVENTS + MORE
    [traits] = [line["traits"] for line in upserts(shop.lines()) if line["id"] not in before]
    assert traits["order_count"] == EVENTS
    assert Decimal(traits["lifetime_value"]) == sum(number + Decimal("0.25") for number in range(EVENTS))


def test_a_banner_in_chromium_what_is_refused_is_not_stored_and_a_withdrawal_takes_effect(shop: Shop) -> None:
    tools.need(tools.lacking_browser())
    before = {line["id"] for line in shop.lines() if "id" in line}
    pages, events = shop.pages(), shop.house.stored()
    config = json.dumps({"url": shop.door.url, "writeKey": shop.key, "name": "banner"})
    with chrome.page(shop.site) as tab:
        device = tab.run(f"window.shop.banner({config})")

        tab.run("window.view('Unasked')")
        tab.run("window.order(1)")  # nobody was asked: kept for what needs no choice, and seen by nobody else
        awaited("the order", lambda: shop.house.stored() == events + 1)
        assert shop.pages() == pages
        assert shop.choices(device) == {}

        tab.run(f"window.answer({json.dumps(ALL)})")
        awaited("the grants", lambda: shop.choices(device).get("analytics") == "granted")
        assert set(shop.choices(device).values()) == {"granted"}
        tab.run("window.view('Agreed')")
        tab.run("window.order(2)")
        awaited("the order and the view", lambda: shop.house.stored() == events + 3)
        assert shop.pages() == pages + 1
        [line] = [line for line in upserts(shop.lines()) if line["id"] not in before]
        assert (line["traits"]["order_count"], Decimal(line["traits"]["lifetime_value"])) == (1, Decimal("2.25"))

        tab.run(f"window.answer({json.dumps(NONE)})")
        awaited("the withdrawal", lambda: shop.choices(device).get("analytics") == "withdrawn")
        assert set(shop.choices(device).values()) == {"withdrawn"}
        tab.run("window.view('Withdrawn')")
        tab.run("window.order(3)")
        awaited("a removal", lambda: line["id"] not in {one["id"] for one in upserts(shop.lines())})
        # the view that was agreed to goes, since nothing may use it any more; that of now never came; all three orders stay
        awaited("three orders and no view", lambda: (shop.house.stored(), shop.pages()) == (events + 3, pages))


def test_what_waits_in_a_page_that_is_left_arrives(shop: Shop) -> None:
    tools.need(tools.lacking_browser())
    events = shop.house.stored()
    slow = {"strategy": "batching", "config": {"size": 1_000, "timeout": 600_000}}
    config = json.dumps({"url": shop.door.url, "writeKey": shop.key, "name": "left", "events": 5, "strategy": slow})
    with chrome.page(shop.site) as tab:
        tab.run(f"window.shop.orders({config})")
        assert shop.house.stored() == events  # nothing was due
        tab.go(shop.site + "other.html")
        awaited("what waited", lambda: shop.house.stored() - events == 5 + MORE)


@pytest.mark.parametrize("beacon", [False, True], ids=["requests", "beacon"])
def test_every_event_of_rudderstacks_browser_sdk_is_stored_once(shop: Shop, beacon: bool) -> None:
    before, events = {line["id"] for line in upserts(shop.lines())}, shop.house.stored()
    # a beacon has no answer, so no network may lose it
    with nullcontext(shop.door) if beacon else losing_proxy(shop.door.url) as network:
        config = {"url": network.url, "writeKey": shop.key, "name": f"rs-{beacon}", "events": EVENTS, "beacon": beacon}
        with in_chromium(shop, f"window.shop.rudder({json.dumps(config)})"):
            awaited("every event", lambda: shop.house.stored() - events >= EVENTS + 1)
            if not beacon:
                awaited("what was lost, again", lambda: network.repeated and not network.owed)  # type: ignore[union-attr]
    assert shop.house.stored() - events == EVENTS + 1
    [traits] = [line["traits"] for line in upserts(shop.lines()) if line["id"] not in before]
    assert traits["order_count"] == EVENTS


@pytest.mark.parametrize("block", [0, 1], ids=["segment", "rudderstack"])
def test_the_lines_for_a_page_in_the_how_to_work_as_they_stand(shop: Shop, tmp_path: Path, block: int) -> None:
    tools.need(tools.lacking_browser())
    section = HOW_TO.read_text("utf-8").partition("## A page with a consent banner")[2]
    lines = re.findall(r"^```js\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[block]
    script = tmp_path / "how-to.mjs"
    script.write_text(lines.replace("http://127.0.0.1:8000", shop.door.url).replace("WRITE_KEY", shop.key))
    tools.bundle(script, shop.bundle.with_name("how-to.js"))
    banner = f"window.banner = {{choice: () => ({json.dumps(ALL)}), onChange: () => {{}}}}"
    shop.bundle.with_name("how-to.html").write_text(
        f'<!doctype html><title>Shop</title><script>{banner}</script><script src="how-to.js"></script>'
    )
    pages = shop.pages()
    with chrome.page(shop.site + "how-to.html"):
        awaited("the page view", lambda: shop.pages() == pages + 1)
