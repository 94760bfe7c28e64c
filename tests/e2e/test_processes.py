"""Several processes on one data folder: server, import and commands share the database; a killed one leaves nothing held."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.e2e.house import COMMAND, HOST, PATIENCE, House, awaited, bearer, free_port, upserts
from tests.e2e.purchases import customers, ndjson
from vault.config import load
from vault.storage import embedded

AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


def order(user: str, number: int, dollars: float) -> dict[str, Any]:
    properties = {"order_id": f"{user}-{number}", "revenue": dollars, "currency": "USD"}
    common = {"type": "track", "event": "Order Completed", "userId": user, "messageId": f"{user}-{number}"}
    return {**common, "properties": properties, "context": AGREED}


@pytest.mark.slow
def test_server_import_and_commands_share_one_folder(house: House, tmp_path: Path) -> None:
    secrets = house.furnish()
    assert house.postmaster is None  # the last one out stopped the database
    file = tmp_path / "events.ndjson"
    file.write_text(ndjson(customers(150)))

    with house.serving() as door:
        assert house.holders() == [door.process.pid]
        database = house.postmaster
        importing = house.start("import", str(file), "--source", "shop")
        awaited("the import's hold", lambda: importing.pid in house.holders())
        assert house.holders() == sorted([door.process.pid, importing.pid])

        answer = door.http.post("/v1/track", json=order("meanwhile", 1, 5), auth=(secrets.write_key, ""))
        assert answer.json()["stored"] == 1
        assert [one["name"] for one in house.ask("sources", "list")["sources"]] == ["shop"]
        assert house.ask("audit", "verify")["ok"] is True
        assert importing.wait(120) == 0
        assert house.holders() == [door.process.pid]
        assert house.postmaster == database  # one server for all of them, all the time
        assert len(upserts(door.feeds(secrets.tokens)["support-desk"])) == 151

    assert house.holders() == []
    awaited("the end of the database", lambda: house.postmaster is None)


@pytest.mark.slow
def test_a_killed_holder_is_forgotten_and_nothing_acknowledged_is_lost(house: House) -> None:
    secrets = house.furnish()
    key = (secrets.write_key, "")
    with house.serving() as door:
        for number in range(20):
            answer = door.http.post("/v1/track", json=order("ada", number, 10.5), auth=key)
            assert answer.json()["stored"] == 1
        killed = door.process.pid
        door.process.send_signal(signal.SIGKILL)
        door.process.wait()
    database = house.postmaster
    assert database is not None  # nobody was left to stop it
    assert house.holders() == [killed]  # its file is there, its lock is not

    # the next command joins, drops the stale holder, and as the last one out stops the database
    assert [one["name"] for one in house.ask("sources", "list")["sources"]] == ["shop"]
    assert house.holders() == []
    awaited("the end of the database", lambda: house.postmaster is None)

    with house.serving() as door:
        assert (
            door.http.post("/v1/track", json=order("ada", 0, 10.5), auth=key).json()["dropped"][0]["code"]
            == "duplicate"
        )
        assert house.stored() == 20
        door.settled()  # though the killed one may have held the lease of the numbers
        ada = upserts(door.feed("warehouse", secrets.tokens["warehouse"]))[0]["traits"]
        assert (Decimal(ada["lifetime_value"]), ada["order_count"]) == (210, 20)
        assert house.ask("audit", "verify")["ok"] is True


@pytest.mark.slow
def test_what_is_due_is_done_when_a_command_says_so_though_a_killed_worker_held_the_lease(house: House) -> None:
    secrets = house.furnish()
    key = (secrets.write_key, "")
    with house.serving() as worker:
        assert worker.http.post("/v1/track", json=order("eve", 1, 3), auth=key).json()["stored"] == 1
        worker.settled()
        with house.serving("--no-worker") as door:
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
            assert door.http.post("/v1/track", json=order("eve", 2, 4), auth=key).json()["stored"] == 1
            house.ask("worker", "--once")
            assert house.count("SELECT count(*) FROM change_in") == 0
            assert house.count("SELECT count(*) FROM audit_in") == 0


@pytest.mark.slow
def test_a_killed_database_comes_back_with_all_that_was_acknowledged(house: House) -> None:
    secrets = house.furnish()
    key = (secrets.write_key, "")
    with house.serving() as door:
        for number in range(10):
            assert door.http.post("/v1/track", json=order("ben", number, 2), auth=key).json()["stored"] == 1
        _kill(house)
        answer = door.http.post("/v1/track", json=order("ben", 10, 2), auth=key)
        assert answer.status_code == 503
        assert answer.json()["code"] == "database_unavailable"
        assert door.http.get("/livez").text == "ok"
        assert door.http.get("/readyz").status_code == 503

        # whoever comes next starts it again, and the running server goes on by itself
        with house.serving() as other:
            assert other.http.get("/readyz").json()["ready"]
            awaited("the first server's readiness", lambda: door.http.get("/readyz").is_success)
            assert door.http.post("/v1/track", json=order("ben", 10, 2), auth=key).json()["stored"] == 1
            assert house.stored() == 11
            other.settled()
            ben = upserts(door.feed("warehouse", secrets.tokens["warehouse"]))[0]["traits"]
            assert (Decimal(ben["lifetime_value"]), ben["order_count"]) == (22, 11)


def _kill(house: House) -> None:
    """The database server and its children, as a power cut would."""
    pid = house.postmaster
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    awaited("the end of the database", lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- a webhook, across processes --------------------------------------------------------------------------------------


class Recipient:
    def __init__(self) -> None:
        self.url = f"http://{HOST}:{free_port()}/hook"
        self.taken: list[tuple[bytes, dict[str, str]]] = []


@contextmanager
def recipient() -> Iterator[Recipient]:
    made = Recipient()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.taken.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    port = int(made.url.rpartition(":")[2].partition("/")[0])
    server = ThreadingHTTPServer((HOST, port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_a_webhook_registered_anew_is_signed_with_the_new_secret_at_once(house: House) -> None:
    """The command runs in one process and the worker in another, which has the old secret in its memory."""
    secrets = house.furnish()
    house.environ["PROFILE_VAULT_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    traits = {"email": "cleo@shop.example", "firstName": "Cleo"}
    identify = {"userId": "cleo", "messageId": "cleo-1", "traits": traits, "context": AGREED}
    with house.serving() as door, recipient() as first, recipient() as second:
        old = house.ask("destinations", "webhook", "email-tool", first.url)["secret"]
        door.http.post("/v1/identify", json=identify, auth=(secrets.write_key, "")).raise_for_status()
        body, headers = awaited("a delivery", lambda: first.taken and first.taken[-1])
        assert Webhook(old).verify(body, headers)
        assert _signed_by_hand(old, body, headers) in headers["webhook-signature"].split()

        house.ask("destinations", "webhook", "email-tool", "--remove")
        new = house.ask("destinations", "webhook", "email-tool", second.url)["secret"]
        assert new != old
        body, headers = awaited("a delivery to the new place", lambda: second.taken and second.taken[-1])
        assert Webhook(new).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(body, headers)


def _signed_by_hand(secret: str, body: bytes, headers: dict[str, str]) -> str:
    """The signature as the specification has it, computed without the library."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = b64decode(secret.removeprefix("whsec_"))
    return "v1," + b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


@pytest.mark.slow
def test_a_token_is_worth_nothing_once_another_process_revoked_it(house: House) -> None:
    secrets = house.furnish()
    path = "/v1/destinations/warehouse/profiles"
    old = bearer(secrets.tokens["warehouse"])
    with house.serving() as door:
        assert door.http.get(path, headers=old).is_success
        new = bearer(house.ask("destinations", "token", "warehouse", "--revoke")["token"])
        assert door.http.get(path, headers=old).status_code == 401
        assert door.http.get(path, headers=new).is_success
        house.ask("sources", "disable", "shop")
        answer = door.http.post("/v1/track", json=order("dan", 1, 1), auth=(secrets.write_key, ""))
        assert answer.status_code == 401
        house.ask("staff", "disable", "olivia")
        find = {"kind": "email", "value": "dan@shop.example"}
        assert door.http.post("/v1/subjects/find", json=find, headers=bearer(secrets.officer)).status_code == 401
        assert json.loads(house.run("staff", "list", "--json").stdout)["staff"][0]["disabled_at"]


@pytest.mark.slow
def test_a_demonstration_that_is_ended_early_takes_its_server_and_its_database_along() -> None:
    process = subprocess.Popen([COMMAND, "demo", "--once"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    folder = load(environ={}).data_dir.with_name(f"demo-{process.pid}")
    try:
        awaited("its server", lambda: _using(folder))
        process.terminate()
        assert process.wait(PATIENCE) != 0
        awaited("the end of its server", lambda: not _using(folder))
        assert not folder.exists()
    finally:
        process.kill()
        embedded.remove(folder)


def _using(folder: Path) -> list[int]:
    """The processes that name this folder in their environment or their command."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found
