"""The running server as somebody with curl meets it: operators' pages, and refusals that tell nothing back."""

import gzip
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.house import HOST, Door, House, bearer
from vault.cli.demo_stage import Secrets

CANARY = "canary.4711@planted.example"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def shop(shared_house: House) -> Iterator[tuple[Door, Secrets, House]]:
    secrets = shared_house.furnish()
    with shared_house.serving() as door:
        yield door, secrets, shared_house


def refused(answer: httpx.Response, status: int, code: str) -> None:
    """A problem document of ours with this code, in which nothing of what was sent comes back."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:profile-vault:error:{code}"
    told = answer.text + json.dumps(dict(answer.headers))
    assert "canary" not in told
    assert "4711" not in told


def test_operators_see_life_readiness_and_figures(shop: tuple[Door, Secrets, House]) -> None:
    door, _, _ = shop
    assert door.http.get("/livez").text == "ok"

    ready = door.http.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["rollback_protection"] == "none"
    assert ready["worker"] == "in this process"
    assert any(note.startswith("This process holds the keys of every purpose") for note in ready["notes"])

    figures = door.http.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    assert 'profile_vault_requests_total{method="GET",route="/livez",status="200"}' in figures.text


def test_the_openapi_document_names_every_door(shop: tuple[Door, Secrets, House]) -> None:
    door, _, _ = shop
    document = door.http.get("/schema/openapi.json").json()
    assert document["openapi"].startswith("3.")
    wanted = {
        "/v1/track", "/v1/batch", "/v1/consents", "/v1/destinations/{name}/profiles", "/v1/subjects/find",
        "/v1/requests/{request_id}/certificate", "/v1/audit/checkpoint", "/readyz",
    }  # fmt: skip
    assert wanted <= set(document["paths"])


def test_a_message_is_taken_by_curl_too(shop: tuple[Door, Secrets, House]) -> None:
    door, secrets, house = shop
    before = house.stored()
    body = {"userId": "curl-1", "messageId": "curl-1", "event": "Order Completed", "properties": {"order_id": "c-1"}}
    answer = door.http.post("/v1/track", json=body, auth=(secrets.write_key, ""))
    assert answer.json() == {"success": True, "stored": 1, "dropped": []}
    assert house.stored() == before + 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic Y2FuYXJ5LjQ3MTE6"},  # canary.4711:
        bearer("canary.4711"),
        bearer("pvw_" + "canary4711" * 4),
        {"authorization": "Basic canary.4711"},
    ],
    ids=["none", "basic", "bearer", "shaped", "broken"],
)
def test_a_bad_key_is_refused_at_every_door(shop: tuple[Door, Secrets, House], headers: dict[str, str]) -> None:
    door, _, _ = shop
    body = {"userId": CANARY, "event": "Order Completed"}
    refused(door.http.post("/v1/track", json=body, headers=headers), 401, "unauthenticated")
    refused(door.http.get("/v1/destinations/warehouse/profiles", headers=headers), 401, "unauthenticated")
    find = {"kind": "email", "value": CANARY}
    refused(door.http.post("/v1/subjects/find", json=find, headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"userId":"' + CANARY.encode(), 400, "invalid_json"),
        (CANARY.encode(), 400, "invalid_json"),
        (b"[" * 5000 + CANARY.encode(), 400, "invalid_json"),
        (b'"' + CANARY.encode() + b'"', 400, "invalid_json"),
        (b"\xff\xfe" + CANARY.encode("utf-16-le"), 400, "invalid_json"),
        (b'{"userId":"' + CANARY.encode() * 30000 + b'"}', 413, "too_large"),
    ],
    ids=["unfinished", "no-json", "deep", "no-object", "utf-16", "too-long"],
)
def test_a_malformed_body_is_refused_without_an_echo(
    shop: tuple[Door, Secrets, House], body: bytes, status: int, code: str
) -> None:
    door, secrets, _ = shop
    answer = door.http.post("/v1/track", content=body, headers=JSON, auth=(secrets.write_key, ""))
    assert answer.status_code == status
    refused(answer, status, answer.json()["code"] if code == "invalid_json" else code)


def test_a_broken_gzip_body_is_refused_without_an_echo(shop: tuple[Door, Secrets, House]) -> None:
    door, secrets, _ = shop
    whole = gzip.compress(CANARY.encode() * 20)
    headers = {**JSON, "content-encoding": "gzip"}
    for body in (whole[:-9], whole + CANARY.encode(), CANARY.encode()):
        refused(
            door.http.post("/v1/batch", content=body, headers=headers, auth=(secrets.write_key, "")),
            400,
            "invalid_gzip",
        )


def test_own_doors_refuse_what_they_do_not_know(shop: tuple[Door, Secrets, House]) -> None:
    door, secrets, _ = shop
    officer = bearer(secrets.officer)
    body = {"kind": "email", "value": CANARY}
    refused(door.http.post("/v1/subjects/find", json={**body, CANARY: 1}, headers=officer), 400, "invalid_json")
    refused(door.http.post("/v1/subjects/find", json={"kind": [CANARY]}, headers=officer), 400, "invalid_json")
    refused(door.http.post("/v1/subjects/find", json=body, headers=officer), 404, "not_found")
    plain = {**officer, "content-type": "text/plain"}
    answer = door.http.post("/v1/subjects/find", content=json.dumps(body), headers=plain)
    refused(answer, 415, "unsupported_media_type")


def test_a_credential_opens_its_own_doors_only(shop: tuple[Door, Secrets, House]) -> None:
    door, secrets, _ = shop
    tokens, find = secrets.tokens, {"kind": "email", "value": CANARY}
    own = door.http.get("/v1/destinations/warehouse/profiles", headers=bearer(tokens["warehouse"]))
    assert own.status_code == 200
    other = door.http.get("/v1/destinations/ad-platform/profiles", headers=bearer(tokens["warehouse"]))
    refused(other, 403, "forbidden")
    nobody = door.http.get("/v1/destinations/canary-4711/profiles", headers=bearer(tokens["warehouse"]))
    assert other.json() == nobody.json()  # a name that exists and one that does not look the same
    for wrong in (secrets.write_key, tokens["warehouse"]):
        refused(door.http.post("/v1/subjects/find", json=find, headers=bearer(wrong)), 401, "unauthenticated")
    for wrong in (secrets.write_key, secrets.officer):
        refused(door.http.get("/v1/destinations/warehouse/profiles", headers=bearer(wrong)), 401, "unauthenticated")
    for wrong in (secrets.officer, tokens["warehouse"]):
        body = {"userId": CANARY, "event": "Order Completed"}
        refused(door.http.post("/v1/track", json=body, headers=bearer(wrong)), 401, "unauthenticated")


def test_paths_that_are_not_there_tell_nothing(shop: tuple[Door, Secrets, House]) -> None:
    door, secrets, _ = shop
    refused(door.http.get("/" + quote(CANARY)), 404, "not_found")
    refused(
        door.http.get(f"/v1/subjects/email:{quote(CANARY)}/consents", headers=bearer(secrets.officer)), 404, "not_found"
    )
    refused(door.http.delete("/v1/track?" + quote(CANARY)), 405, "method_not_allowed")


def test_what_is_no_http_is_answered_without_an_echo_and_the_server_lives(shop: tuple[Door, Secrets, House]) -> None:
    door, _, house = shop
    port = int(door.url.rpartition(":")[2])
    for sent in (f"{CANARY}\r\n\r\n", f"GET /{CANARY} HTTP/9.9\r\n\r\n", f"GET / HTTP/1.1\r\n{CANARY}\r\n\r\n"):
        with socket.create_connection((HOST, port), timeout=20) as raw:
            raw.sendall(sent.encode())
            assert CANARY.encode() not in raw.recv(65536)
    assert door.http.get("/livez").text == "ok"
    assert "canary" not in house.log.read_text("utf-8")


def test_a_port_that_is_taken_ends_the_command_with_one_line(shop: tuple[Door, Secrets, House]) -> None:
    door, _, house = shop
    done = house.run("serve", "--port", door.url.rpartition(":")[2], check=False)
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert house.holders() == [door.process.pid]
