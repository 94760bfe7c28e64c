"""Nothing that anybody sent is in a log or a figure, at any level, whatever went wrong (threats H5, H16, F5, A16).

The doors, a worker of its own and the database run as real processes, at log level debug. Values are planted in every place
of a request: bodies, names, paths, queries, headers, credentials; in calls that succeed, that are refused, that hit a
database which is gone. Then logs and figures are searched, in every form that a value may be written in.
"""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.house import HOST, Door, House, awaited, bearer
from tests.forensics.search import Search
from vault.cli.demo_stage import Secrets

AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}
CANARIES = {
    "e-mail": "Wren.Saltmarsh@planted.example",
    "user id": "Customer-Saltmarsh-20931",
    "anonymous id": "Device-Saltmarsh-aa81f",
    "message id": "Message-Saltmarsh-4411",
    "first name": "Wrenquilla",
    "street": "Periwinkle Mews 47",
    "trait": "Octarine-tier-9",
    "unlisted": "Ochre-umbrella-12",
    "order": "ORDER-WS-77213",
    "property": "Tangerine-teapot-3",
    "event": "Bought a Saltmarsh Kettle",
    "key": "Planted-key-name-55",
    "header name": "x-planted-header-name",
    "user agent": "SaltmarshBrowser/7.1",
    "evidence": "Planted-evidence-33",
    "malformed": "Malformed-saltmarsh-44",
    "method": "SALTMARSH-METHOD",
}
# how a library might write a value: as it is, and in its letters' other case
NEEDLES = {
    f"{name}{how}": form
    for name, value in CANARIES.items()
    for how, form in (("", value), (" lower", value.lower()), (" upper", value.upper()))
}
EVIL = 'line one\r\n{"event":"forged.entry","level":"info"}\x1b[31mred\x1b[0m\x00\u2028end\x85"},{"'


@contextmanager
def working(house: House) -> Iterator[httpx.Client]:
    """`worker` with its figures; the client asks for them."""
    before = house.log.stat().st_size
    process = house.start("worker", "--metrics-port", "0")
    try:

        def told() -> str | None:
            found = re.search(r"Figures are on (http://[0-9.:]+)/metrics", house.log.read_text("utf-8")[before:])
            return found[1] if found else None

        with httpx.Client(base_url=awaited("the worker's figures", told), timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def go_right(door: Door, secrets: Secrets) -> None:
    """Calls that succeed."""
    key = (secrets.write_key, "")
    c = CANARIES
    traits = {
        "email": c["e-mail"],
        "firstName": c["first name"],
        "address": {"street": c["street"]},
        "loyaltyTier": c["trait"],
    }
    properties = {
        "order_id": c["order"],
        "revenue": 12.5,
        "currency": "USD",
        "coupon": c["property"],
        c["key"]: c["unlisted"],
    }
    common = {
        "userId": c["user id"],
        "anonymousId": c["anonymous id"],
        "context": AGREED | {"userAgent": c["user agent"]},
    }
    batch = [
        {**common, "type": "identify", "messageId": c["message id"], "traits": traits | {c["key"]: c["unlisted"]}},
        {**common, "type": "track", "event": "Order Completed", "messageId": "m-2", "properties": properties},
        {**common, "type": "track", "event": c["event"], "messageId": "m-3", "properties": properties},
        {**common, "type": "track", "event": c["e-mail"], "messageId": "m-4"},
    ]
    assert door.http.post("/v1/batch", json={"batch": batch}, auth=key).json()["stored"] == 2
    batch[0]["traits"] = {"email": c["unlisted"]}
    told = door.http.post("/v1/batch", json={"batch": batch[:1]}, auth=key).json()  # one id, two contents
    assert told["dropped"][0]["code"] == "id_conflict"
    choice = {"purpose": "marketing", "decision": "withdrawn", "evidence": {"form": c["evidence"]}}
    act = {"userId": c["user id"], "messageId": c["message id"] + "-c", "choices": [choice]}
    assert door.http.post("/v1/consents", json=act, auth=key).is_success
    door.settled()
    assert c["order"] in str(door.feed("support-desk", secrets.tokens["support-desk"]))
    path = f"/v1/spaces/default/collections/users/profiles/email:{quote(c['e-mail'])}/traits"
    assert door.http.get(path, headers=bearer(secrets.tokens["support-desk"])).is_success
    find = {"kind": "email", "value": c["e-mail"]}
    officer = bearer(secrets.officer)
    ref = door.http.post("/v1/subjects/find", json=find, headers=officer).json()["ref"]
    for kind in ("access", "erasure"):
        request = door.http.post(f"/v1/subjects/{ref}/{kind}", headers=officer).raise_for_status().json()["request"]
        door.request_done(secrets.officer, request)
    door.settled()


def go_wrong(door: Door, secrets: Secrets, values: list[str]) -> None:
    """Every kind of call that is refused, with each of the values in every place that a request has."""
    key = (secrets.write_key, "")
    officer, warehouse = bearer(secrets.officer), bearer(secrets.tokens["warehouse"])
    for value in values:
        plain = quote(value, safe="")
        ask = door.http.request
        for body in (
            value.encode(),
            b'{"userId":"' + value.encode(),
            json.dumps([value]).encode(),
            value.encode("utf-16"),
        ):
            ask("POST", "/v1/track", content=body, auth=key)
            ask("POST", "/v1/subjects/find", content=body, headers={**officer, "content-type": "application/json"})
            ask("POST", "/v1/destinations/warehouse/reports", content=body, headers=warehouse)
            ask("POST", "/v1/batch", content=body, headers={"content-encoding": "gzip"}, auth=key)
        for member in ("userId", "event", "type", "messageId", "timestamp", "traits", "properties", "context", value):
            ask("POST", "/v1/track", json={"userId": "u", "event": "Order Completed", member: value}, auth=key)
            ask("POST", "/v1/consents", json={"userId": "u", "messageId": "x", "choices": [{member: value}]}, auth=key)
        ask("POST", "/v1/track", json={"writeKey": value, "userId": value})
        ask("POST", "/v1/subjects/find", json={"kind": value, "value": value, value: value}, headers=officer)
        ask("GET", f"/{plain}", params={value: value})
        ask("GET", f"/v1/destinations/{plain}/profiles", params={"cursor": value, "limit": value}, headers=warehouse)
        ask("GET", "/v1/destinations/warehouse/profiles", params={"cursor": value}, headers=warehouse)
        ask("GET", f"/v1/spaces/default/collections/users/profiles/{plain}:{plain}/traits", headers=warehouse)
        ask("GET", f"/v1/projects/{plain}/settings")
        for path in (
            f"requests/{plain}",
            f"requests/{plain}/archive",
            f"sources/{plain}/dropped",
            f"subjects/{plain}/consents",
        ):
            ask("GET", f"/v1/{path}", headers=officer)
        ask("POST", f"/v1/subjects/{plain}/erasure", headers=officer)
        if value.isascii() and value.isprintable():
            ask("POST", "/v1/track", headers={"authorization": f"Bearer {value}", CANARIES["header name"]: value})
            ask("GET", "/v1/purposes", auth=(value, value), headers={"user-agent": value, "x-forwarded-for": value})
            ask("GET", "/livez", headers={"cookie": value, "referer": value, "origin": value, "request-id": value})
            ask(CANARIES["method"], "/v1/track", content=value.encode())
        raw(door, f"GET /{value} HTTP/1.1\r\nhost: {value}\r\n\r\n")
        raw(door, f"{value} {value} {value}\r\n{value}: {value}\r\n\r\n")


def raw(door: Door, text: str) -> None:
    with socket.create_connection((HOST, int(door.url.rpartition(":")[2])), timeout=20) as peer:
        peer.sendall(text.encode("utf-8", "surrogatepass"))
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass


def rows_refused(house: House, door: Door, secrets: Secrets) -> None:
    """A row that the database does not take: its messages repeat rows and keys."""
    message = {"userId": CANARIES["user id"], "event": "Order Completed", "properties": {"order_id": CANARIES["order"]}}
    house.sql("ALTER TABLE dedup ADD CONSTRAINT planted CHECK (day < 0) NOT VALID")
    answer = door.http.post("/v1/track", json=message, auth=(secrets.write_key, ""))
    assert answer.status_code >= 409
    house.sql("ALTER TABLE dedup DROP CONSTRAINT planted")
    house.sql("DELETE FROM dropped")
    house.sql("CREATE UNIQUE INDEX planted ON dropped ((1))")
    message["event"] = CANARIES["event"]
    for _ in range(2):
        message["event"] += "s"
        answer = door.http.post("/v1/track", json=message, auth=(secrets.write_key, ""))
        assert answer.status_code == 200  # what is durable is answered so, though its counters were refused
    assert "counting.failed" in house.log.read_text("utf-8")
    house.sql("DROP INDEX planted")


def database_gone(house: House, door: Door, secrets: Secrets) -> None:
    """The same while the database is not there: killed under those who use it."""
    assert house.postmaster is not None
    os.kill(house.postmaster, signal.SIGKILL)
    told = door.http.post("/v1/track", json={"userId": CANARIES["user id"], "event": "x"}, auth=(secrets.write_key, ""))
    assert told.status_code == 503
    go_wrong(door, secrets, [CANARIES["malformed"]])


def lines_of(house: House) -> list[dict[str, Any]]:
    """The log's lines: each of JSON, but for those that a command says when it starts."""
    found = []
    for line in house.log.read_text("utf-8").splitlines():
        if line.startswith(("Profile Vault is starting on http://", "Figures are on http://")):
            continue
        found.append(json.loads(line))
    return found


@pytest.mark.slow
def test_no_log_and_no_figure_holds_what_was_sent_and_no_value_forges_a_line(house: House) -> None:
    secrets = house.furnish()
    tokens = {"write key": secrets.write_key, "officer": secrets.officer, **secrets.tokens}
    search = Search({**NEEDLES, **tokens}, {})
    with house.serving("--no-worker", "--log-level", "debug") as door, working(house) as worker:
        go_right(door, secrets)
        go_wrong(door, secrets, [CANARIES["e-mail"], CANARIES["malformed"], EVIL])
        rows_refused(house, door, secrets)
        figures = door.http.get("/metrics").content + worker.get("/metrics").content
        database_gone(house, door, secrets)
        figures += door.http.get("/metrics").content + worker.get("/metrics").content
        assert door.http.get("/livez").text == "ok"
        postgres = (house.postgres / "log").read_bytes()
        whole = house.log.read_bytes()

        # it is the right text that was searched, and a value that got into it is found
        assert b'"event": "request"' in whole
        assert b'"event": "worker.failed"' in whole
        assert b"profile_vault_worker_step_seconds" in figures
        assert len(postgres) > 500
        for control in (CANARIES["e-mail"].upper(), CANARIES["order"], secrets.officer):
            assert search.hits(whole + control.encode(), "control")
            assert search.hits(figures + control.encode().hex().encode(), "control")
        assert search.hits(whole, "log") + search.hits(figures, "figures") + search.hits(postgres, "postgres") == []

        # threats F5: each record is a line of JSON of ours, whatever a value held
        events = {line["event"] for line in lines_of(house)}
        assert "forged.entry" not in events
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", whole)
        assert not re.search(rb"\x1b|forged\.entry", figures + postgres)

        # threats A16: no core file, and nobody but root reads the memory
        limits = Path(f"/proc/{door.process.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert _owner_of_memory(door.process) == 0


def _owner_of_memory(process: "subprocess.Popen[bytes]") -> int:
    """Who owns `/proc/PID/mem`: root, where a process may not be dumped."""
    return Path(f"/proc/{process.pid}/mem").stat().st_uid


@pytest.mark.slow
def test_h13_a_database_that_stands_still_is_told_in_bounded_time_and_is_used_again_when_it_goes_on(
    house: House,
) -> None:
    secrets = house.furnish()
    key = (secrets.write_key, "")

    def send(number: int) -> httpx.Response:
        message = {
            "userId": "ada",
            "messageId": f"m-{number}",
            "event": "Order Completed",
            "properties": {"order_id": str(number)},
        }
        return door.http.post("/v1/track", json=message, auth=key)

    with house.serving() as door:
        assert send(0).json()["stored"] == 1
        stopped = _family(house)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(1, 4):
                assert send(number).status_code == 503
            ready = door.http.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "database_unavailable")
            assert "profile_vault_database_up 0.0" in door.http.get("/metrics").text
            assert door.http.get("/livez").text == "ok"
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        awaited("readiness", lambda: door.http.get("/readyz").is_success)
        for number in range(4):
            assert send(number).is_success
        assert house.stored() == 4
        door.settled()  # the worker goes on, too


def _family(house: House) -> list[int]:
    """The database's processes, the first one last, so that it starts none while they are stopped."""
    first = house.postmaster
    assert first is not None
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [*map(int, children), first]
