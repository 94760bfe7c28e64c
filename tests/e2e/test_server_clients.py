"""Unmodified SDKs of Segment and RudderStack for servers, also through a network that loses answers; and a burst of callers."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rudderstack.analytics.client import Client as RudderStack

from tests.clients import tools
from tests.clients.proxy import losing_proxy
from tests.e2e.house import ROOT, Door, House, Line, bearer, upserts
from vault.cli.demo_stage import Secrets

HOW_TO = ROOT / "docs" / "how-to" / "connect-an-app.md"
EVENTS = 60
PEOPLE = 5
MORE = 2  # page and screen leave an event; identify, group and alias leave none
CALLERS = 1_000
USUAL_FILES = 1_024  # the soft limit that most systems give a process
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


@contextmanager
def soft_limit(files: int) -> Iterator[None]:
    """This process, and those it starts, may open so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def shop(shared_house: House) -> Iterator[tuple[House, Door, Secrets]]:
    secrets = shared_house.furnish()
    with ExitStack() as stack:
        with soft_limit(USUAL_FILES):
            door = stack.enter_context(shared_house.serving())
        yield shared_house, door, secrets


def by_node(script: str) -> Callable[[str, str, str], None]:
    def send(url: str, key: str, people: str) -> None:
        tools.need(tools.lacking_node())
        process = tools.node(tools.HERE / script, url, key, people, str(EVENTS))
        try:
            _, told = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == 0, told[-2000:]

    return send


def by_python(url: str, key: str, people: str) -> None:
    """What the scripts for Node.js do, in RudderStack's SDK for Python; Segment's has its own file."""
    errors: list[Any] = []
    client = RudderStack(key, host=url + "/", upload_size=10, on_error=lambda error, _: errors.append(error))
    for number in range(EVENTS):
        properties = {"order_id": f"{people}-{number}", "revenue": number + 0.25, "currency": "USD"}
        client.track(f"{people}-{number % PEOPLE}", "Order Completed", properties, context=AGREED)
    user = f"{people}-0"
    client.identify(user, {"email": f"{user}@example.com", "firstName": "Ada"}, context=AGREED)
    client.page(user, "Shop", "Home", {"url": "https://shop.example/"}, context=AGREED)
    client.screen(user, "Shop", "Home", context=AGREED)
    client.group(user, f"g-{people}", {"name": "Ada Ltd", "plan": "gold"}, context=AGREED)
    client.alias(f"before-{people}", user, context=AGREED)
    client.flush()
    client.join()
    assert not errors


CLIENTS = {"segment-node": by_node("segment.mjs"), "rudderstack-node": by_node("rudder.cjs"), "rudderstack": by_python}


def bought() -> list[tuple[int, Decimal]]:
    """What each person bought, computed here from what the clients are handed."""
    orders = [[number + Decimal("0.25") for number in range(EVENTS) if number % PEOPLE == one] for one in range(PEOPLE)]
    return sorted((len(mine), sum(mine, Decimal(0))) for mine in orders)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["straight", "losing"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_event_of_a_server_sdk_is_stored_once(shop: tuple[House, Door, Secrets], client: str, way: str) -> None:
    house, door, secrets = shop
    people = f"{client}-{way}"
    tokens = {"warehouse": secrets.tokens["warehouse"]}
    events, before = house.stored(), {line["id"] for line in upserts(door.feeds(tokens)["warehouse"])}

    with losing_proxy(door.url) if way == "losing" else nullcontext() as network:
        CLIENTS[client](network.url if network else door.url, secrets.write_key, people)
        if network:
            assert network.refused >= 1  # a 500 after the vault had taken it
            assert network.dropped >= 1  # a connection cut after the vault had taken it
            assert network.repeated >= 1
            assert not network.owed

    assert house.stored() - events == EVENTS + MORE
    new: list[Line] = [line for line in upserts(door.feeds(tokens)["warehouse"]) if line["id"] not in before]
    seen = sorted((line["traits"]["order_count"], Decimal(line["traits"]["lifetime_value"])) for line in new)
    assert seen == bought()

    mail = {"kind": "email", "value": f"{people}-0@example.com"}
    found = door.http.post("/v1/subjects/find", json=mail, headers=bearer(secrets.officer))
    assert found.status_code == 200  # what identify said is there, under the address it said


@pytest.mark.slow
@pytest.mark.parametrize(("client", "rate"), [("segment-node", "1"), ("rudderstack-node", "2"), ("rudderstack", "1")])
def test_a_server_sdk_that_is_told_to_slow_down_comes_again_with_every_event(
    house: House, client: str, rate: str
) -> None:
    """One call a second where a client makes five or more at once: 429 with `Retry-After`, as Segment's own API answers.

    Two for RudderStack's SDK for Node.js, which tries three times within a second and a half and then loses the batch.
    """
    secrets = house.furnish()
    house.environ["PROFILE_VAULT_SOURCE_RATE"] = rate
    with house.serving() as door:
        CLIENTS[client](door.url, secrets.write_key, "hurried")
        figures, stored = door.http.get("/metrics").text, house.stored()
    slowed = re.search(r'^profile_vault_rate_limited_total\{kind="source"\} (\d+)', figures, re.MULTILINE)
    assert slowed is not None
    assert int(slowed[1]) >= 1
    assert stored == EVENTS + MORE


def blocks(language: str) -> list[str]:
    """The how-to's lines for servers in one language."""
    page = HOW_TO.read_text("utf-8").partition("## A page with a consent banner")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "count"), [("sh", 1), ("python", 2), ("js", 2)])
def test_the_lines_of_the_how_to_work_as_they_stand(
    shop: tuple[House, Door, Secrets], tmp_path: Path, language: str, count: int
) -> None:
    house, door, secrets = shop
    before, found = house.stored(), blocks(language)
    assert len(found) == count
    for number, block in enumerate(found):
        text = block.replace("http://127.0.0.1:8000", door.url)
        key = {"WRITE_KEY": secrets.write_key}
        if language == "js":
            tools.need(tools.lacking_node())
            script = tmp_path / f"how-to-{number}.mjs"
            script.write_text(text)
            process = tools.node(script, **key)
            _, told = process.communicate(timeout=60)
            assert process.returncode == 0, told[-2000:]
        else:
            command = [sys.executable, "-c", text] if language == "python" else ["sh", "-euc", text]
            done = subprocess.run(command, env={**os.environ, **key}, timeout=60, check=True, capture_output=True)  # noqa: S603
            assert language == "python" or json.loads(done.stdout)["stored"] == 1
    assert house.stored() - before == count


@pytest.mark.slow
def test_g7_a_thousand_who_connect_at_once_are_all_answered(shop: tuple[House, Door, Secrets]) -> None:
    """The server is stopped while they come: nobody may depend on its being quick to take them."""
    house, door, secrets = shop
    host, port = door.url.removeprefix("http://").split(":")
    before = house.stored()
    answers: list[bytes] = []
    with ExitStack() as stack:
        stack.enter_context(soft_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.kill(door.process.pid, signal.SIGSTOP)
        try:
            callers = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(CALLERS)]
            for number, caller in enumerate(callers):
                caller.sendall(_call(secrets.write_key, number))
        finally:
            os.kill(door.process.pid, signal.SIGCONT)
        for caller in callers:
            caller.settimeout(120)
            answers.append(caller.recv(65_536))
    statuses = [int(answer.split(b" ", 2)[1]) for answer in answers]
    assert len(statuses) == CALLERS
    for status, answer in zip(statuses, answers, strict=True):
        # who is not served at once is told when to come again
        assert status == 200 or (status in {429, 503} and b"\r\nretry-after: " in answer.lower()), status
    assert house.stored() - before == statuses.count(200) > 0


def _call(key: str, number: int) -> bytes:
    body = json.dumps(
        {"userId": f"burst-{number}", "event": "Signed In", "messageId": f"burst-{number}", "properties": {}}
    ).encode()
    head = (
        "POST /v1/track HTTP/1.1\r\nHost: vault\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {b64encode(f'{key}:'.encode()).decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
