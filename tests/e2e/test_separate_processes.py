"""The services of compose.yaml as real processes, each with its own folder of secrets, on one PostgreSQL: the whole story.

No container engine is needed: the commands, environments and mounts are those that the file names.
"""

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from standardwebhooks import Webhook

from tests.composed import Composed
from tests.e2e.house import HOST, PATIENCE, Door, awaited, bearer, upserts

NAMES = ("ingest", "feed", "feed-analytics", "desk", "worker")
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


def batch(*users: str) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for user in users:
        common = {"userId": user, "context": AGREED}
        messages.append(
            {**common, "type": "identify", "messageId": f"i-{user}", "traits": {"email": f"{user}@example.com"}}
        )
        properties = {"order_id": f"o-{user}", "revenue": 20, "currency": "USD"}
        track = {"type": "track", "event": "Order Completed", "messageId": f"t-{user}", "properties": properties}
        messages.append({**common, **track})
    return {"batch": messages}


@pytest.fixture
def recipient() -> Iterator[tuple[str, list[tuple[bytes, dict[str, str]]]]]:
    """A recipient of webhooks: its address, and what it took."""
    taken: list[tuple[bytes, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_port}/hook", taken
    server.shutdown()
    server.server_close()


class Credentials(NamedTuple):
    """What the operator was told, once."""

    write_key: tuple[str, str]
    email_tool: str
    warehouse: str
    officer: str
    signing: str


def furnished(site: Composed, hook: str) -> Credentials:
    return Credentials(
        (site.operator("sources", "add", "shop", "--class", "server")["write_key"], ""),
        site.operator("destinations", "token", "email-tool")["token"],
        site.operator("destinations", "token", "warehouse")["token"],
        site.operator("staff", "add", "olivia", "--role", "officer", "--token")["token"],
        site.operator("destinations", "webhook", "email-tool", hook)["secret"],
    )


@pytest.mark.slow
def test_the_services_of_compose_do_the_whole_story_each_with_its_own_secrets(
    database_url: str, tmp_path: Path, recipient: tuple[str, list[tuple[bytes, dict[str, str]]]]
) -> None:
    hook, taken = recipient
    site = Composed(tmp_path, database_url, PROFILE_VAULT_WEBHOOK_NETWORKS="127.0.0.0/8")
    root = tmp_path / "volumes" / "secrets" / "root-key"
    site.run_once("secrets")
    made = root.read_text()
    logins = tmp_path / "volumes" / "roles" / "logins.sql"
    assert logins.stat().st_mode & 0o777 == 0o644  # PostgreSQL's own user reads it
    assert sorted(re.findall(r"CREATE ROLE (vault_\w+) LOGIN", logins.read_text())) == [
        "vault_desk", "vault_feed", "vault_ingest", "vault_worker",
    ]  # fmt: skip
    drawn = [path.read_text() for path in (tmp_path / "volumes" / "access").glob("*-password")]
    assert len(drawn) == 5
    assert not [one for one in drawn if one in logins.read_text()]
    site.run_once("init")
    site.run_once("secrets")  # every `up` runs it again: nothing is replaced
    assert root.read_text() == made
    known = furnished(site, hook)
    with ExitStack() as stack:
        doors = {name: stack.enter_context(site.serving(name)) for name in NAMES}
        told = {name: door.http.get("/readyz").json() for name, door in doors.items()}
        assert told["feed"]["purposes"] == ["marketing"]
        assert told["feed-analytics"]["purposes"] == ["analytics"]
        assert told["worker"]["duties"] == ["changes", "audit", "webhooks"]
        assert {one["database_role"] for one in told.values()} == {"own"}
        assert all(door.http.get("/metrics").is_success for door in doors.values())
        bea = _what_was_agreed_to_reaches_its_destinations(doors, known)
        body, headers = awaited("a webhook about people", lambda: next((one for one in taken if b"@" in one[0]), None))
        assert Webhook(known.signing).verify(body, headers)["data"]["lines"]
        _doors_that_a_process_does_not_have_are_not_there(doors, known)
        _what_people_take_back_leaves_the_feed(doors, known, bea)
        _the_desk_answers_from_what_others_sealed_for_it(doors, known)
        assert site.operator("audit", "verify")["ok"] is True

    # the login and the folder of one process start no other, and no log holds a value
    started = site.start("feed", command=site.services["desk"]["command"])
    assert started.wait(PATIENCE) != 0
    assert "its role in the database lacks" in site.log("feed").read_text("utf-8")
    assert not [name for name in NAMES if "@example.com" in site.log(name).read_text("utf-8")]


def _what_was_agreed_to_reaches_its_destinations(doors: dict[str, Door], known: Credentials) -> str:
    """Answers the id by which the e-mail tool knows Bea."""
    answer = doors["ingest"].http.post("/v1/batch", json=batch("ada", "bea"), auth=known.write_key)
    assert answer.json()["stored"] == 4
    doors["worker"].settled()
    seen = {line["traits"]["email"]: line["id"] for line in upserts(doors["feed"].feed("email-tool", known.email_tool))}
    assert sorted(seen) == ["ada@example.com", "bea@example.com"]
    assert len(upserts(doors["feed-analytics"].feed("warehouse", known.warehouse))) == 2
    return str(seen["bea@example.com"])


def _doors_that_a_process_does_not_have_are_not_there(doors: dict[str, Door], known: Credentials) -> None:
    feed, ingest = doors["feed"].http, doors["ingest"].http
    assert feed.post("/v1/batch", json=batch("eve"), auth=known.write_key).status_code == 404
    request = "/v1/requests/0198c0de-0000-7000-8000-000000000000"
    assert feed.get(request, headers=bearer(known.officer)).status_code == 404
    path = "/v1/destinations/{}/profiles"
    assert ingest.get(path.format("email-tool"), headers=bearer(known.email_tool)).status_code == 404
    refused = feed.get(path.format("warehouse"), headers=bearer(known.warehouse))
    assert (refused.status_code, refused.json()["code"]) == (503, "other_process")


def _what_people_take_back_leaves_the_feed(doors: dict[str, Door], known: Credentials, bea: str) -> None:
    """Ada withdraws; Bea is reported as unsubscribed. Both are written at the writers' door."""
    ingest = doors["ingest"].http
    choice = {"userId": "ada", "messageId": "c-1", "choices": [{"purpose": "marketing", "decision": "withdrawn"}]}
    assert ingest.post("/v1/consents", json=choice, auth=known.write_key).status_code == 200
    report = json.dumps({"id": bea, "kind": "unsubscribed"})
    headers = {**bearer(known.email_tool), "content-type": "application/x-ndjson"}
    answer = ingest.post("/v1/destinations/email-tool/reports", content=report, headers=headers)
    assert answer.json()["lowered"] == 1
    doors["worker"].settled()
    assert upserts(doors["feed"].feed("email-tool", known.email_tool)) == []


def _the_desk_answers_from_what_others_sealed_for_it(doors: dict[str, Door], known: Credentials) -> None:
    desk, officer = doors["desk"].http, bearer(known.officer)
    found = desk.post("/v1/subjects/find", json={"kind": "user_id", "value": "ada"}, headers=officer)
    request = {}
    for kind in ("access", "erasure"):
        opened = desk.post(f"/v1/subjects/{found.json()['ref']}/{kind}", headers=officer)
        request[kind] = opened.json()["request"]
        doors["desk"].request_done(known.officer, request[kind])
        if kind == "access":  # before the erasure ends it
            archive = desk.get(f"/v1/requests/{request[kind]}/archive", headers=officer)
            assert zipfile.ZipFile(io.BytesIO(archive.content)).testzip() is None
    certificate = desk.get(f"/v1/requests/{request['erasure']}/certificate", headers=officer)
    assert certificate.json()["document"]
    doors["worker"].settled()
    assert len(upserts(doors["feed-analytics"].feed("warehouse", known.warehouse))) == 1
