"""The doors of sources, as Segment's clients knock on them (standards 1.1 and 1.4)."""

import gzip
import json
from base64 import b64encode
from typing import Any

import httpx

from tests.api.shop import EMAIL, Secrets, bearer, identify, order

CALLS: dict[tuple[str, str], dict[str, Any]] = {
    ("identify", "i"): {"traits": {"email": EMAIL}},
    ("track", "t"): {"event": "Order Completed", "properties": {"order_id": "o-1", "revenue": 5}},
    ("page", "p"): {"name": "Home"},
    ("screen", "s"): {"name": "Home"},
    ("group", "g"): {"groupId": "g-1"},
    ("alias", "a"): {"previousId": "old"},
}
BAD_BYTES = [
    (b"", 400),
    (b"nonsense", 400),
    (b"[]", 400),
    (b'"' + EMAIL.encode() + b'"', 400),
    (b'{"batch":"' + EMAIL.encode() + b'"}', 400),
    (b'{"batch":[' + b"[" * 200_000, 400),
    (b'{"batch":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 400),
    (b'{"batch":[], "x":"\xff"}', 400),
    (b"\xef\xbb\xbf{}", 400),
    (b"{" + b" " * 600_000 + b"}", 413),
]
BAD_CHOICES: list[dict[str, Any]] = [
    {"role": "officer"},
    {"choices": "all"},
    {"choices": [{"purpose": EMAIL, "decision": "granted"}]},
    {"choices": [{"purpose": "marketing", "decision": EMAIL}]},
    {"choices": [{"purpose": "marketing", "decision": "granted", "saidAt": "2026-01-01T00:00:00"}]},
]


def _basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{key}:".encode()).decode()}


async def test_all_three_forms_of_the_write_key_are_taken(http: httpx.AsyncClient, secrets: Secrets) -> None:
    key = secrets.server
    for number, (headers, extra) in enumerate([(_basic(key), {}), (bearer(key), {}), ({}, {"writeKey": key})]):
        answer = await http.post("/v1/batch", headers=headers, json={"batch": [identify(f"m{number}")], **extra})
        assert answer.status_code == 200
        assert answer.json() == {"success": True, "stored": 1, "dropped": []}


async def test_a_wrong_header_is_not_made_good_by_a_right_body(http: httpx.AsyncClient, secrets: Secrets) -> None:
    body = {"batch": [], "writeKey": secrets.server}
    assert (await http.post("/v1/batch", headers=bearer("wrong"), json=body)).status_code == 401


async def test_a_gzipped_batch_as_text_plain_is_taken(http: httpx.AsyncClient, secrets: Secrets) -> None:
    headers = _basic(secrets.server) | {"content-type": "text/plain", "content-encoding": "gzip"}
    for path in ("batch", "b", "import"):
        body = gzip.compress(json.dumps({"batch": [identify(f"i-{path}"), order(f"o-{path}")]}).encode())
        answer = await http.post(f"/v1/{path}", headers=headers, content=body)
        assert answer.json()["stored"] == 2, path


async def test_every_call_has_its_path_and_its_letter(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for paths, message in CALLS.items():
        for path in paths:
            body = {"userId": "u-1", "messageId": f"m-{path}", **message}
            answer = await http.post(f"/v1/{path}", headers=_basic(secrets.server), json=body)
            assert (answer.status_code, answer.json()["success"]) == (200, True), path


async def test_a_server_source_is_told_what_was_dropped_and_why_and_a_client_source_is_not(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    batch = {
        "batch": [{"type": "track", "userId": "u-1", "event": "No Such Event", "messageId": "m-1"}, {"type": "track"}]
    }
    told = (await http.post("/v1/batch", headers=_basic(secrets.server), json=batch)).json()
    assert told["success"] is True
    assert [drop["index"] for drop in told["dropped"]] == [0, 1]
    assert all(set(drop) == {"index", "code", "purposes"} for drop in told["dropped"])
    answer = await http.post("/v1/batch", headers=_basic(secrets.client), json=batch)
    assert answer.json() == {"success": True}


async def test_a_message_that_comes_twice_is_stored_once(http: httpx.AsyncClient, secrets: Secrets) -> None:
    first = (await http.post("/v1/batch", headers=_basic(secrets.server), json={"batch": [order()]})).json()
    again = (await http.post("/v1/batch", headers=_basic(secrets.server), json={"batch": [order()]})).json()
    assert (first["stored"], again["stored"]) == (1, 0)


async def test_g1_g2_g6_bad_bytes_are_refused_in_one_shape_without_an_echo(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    for content, status in BAD_BYTES:
        for path in ("batch", "track") if not content.startswith(b'{"batch":"') else ("batch",):
            answer = await http.post(f"/v1/{path}", headers=_basic(secrets.server), content=content)
            told = answer.json()
            assert answer.status_code == status, content[:40]
            assert isinstance(told["code"], str)
            assert isinstance(told["message"], str)
            assert EMAIL not in answer.text


async def test_bare_nan_of_the_python_sdk_loses_no_batch(http: httpx.AsyncClient, secrets: Secrets) -> None:
    content = json.dumps({"batch": [order(revenue=float("nan")), identify()]}).encode()
    assert b"NaN" in content
    told = (await http.post("/v1/batch", headers=_basic(secrets.server), content=content)).json()
    assert told["stored"] >= 1


async def test_g7_a_bomb_is_413(http: httpx.AsyncClient, secrets: Secrets) -> None:
    headers = _basic(secrets.server) | {"content-encoding": "gzip"}
    answer = await http.post("/v1/batch", headers=headers, content=gzip.compress(bytes(50_000_000), 9))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_page_of_another_origin_may_send_and_read_answers_and_errors(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    origin = {"origin": "https://shop.example.com"}
    before = await http.options("/v1/t", headers=origin | {"access-control-request-method": "POST"})
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == "*"
    assert "authorization" in before.headers["access-control-allow-headers"]
    taken = await http.post("/v1/t", headers=origin | _basic(secrets.client), json=order())
    refused = await http.post("/v1/t", headers=origin, json=order())
    assert (taken.status_code, refused.status_code) == (200, 401)
    assert taken.headers["access-control-allow-origin"] == refused.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in taken.headers


async def test_no_other_door_may_be_read_across_origins(http: httpx.AsyncClient, secrets: Secrets) -> None:
    answer = await http.get(
        "/v1/destinations/warehouse/profiles",
        headers=bearer(secrets.destinations["warehouse"]) | {"origin": "https://shop.example.com"},
    )
    assert "access-control-allow-origin" not in answer.headers


async def test_analytics_js_is_told_to_send_here(http: httpx.AsyncClient, secrets: Secrets) -> None:
    told = (await http.get(f"/v1/projects/{secrets.client}/settings")).json()
    assert told["integrations"]["Segment.io"]["apiHost"] == "vault.test/v1"
    assert told["consentSettings"]["allCategories"] == ["advertising", "analytics", "functional"]
    assert (await http.get(f"/v1/projects/{secrets.server}/settings")).status_code == 404


async def test_choices_are_written_and_answered_with_the_state(http: httpx.AsyncClient, secrets: Secrets) -> None:
    body = {
        "userId": "u-1",
        "messageId": "c-1",
        "choices": [{"purpose": "marketing", "decision": "granted"}, {"purpose": "analytics", "decision": "denied"}],
    }
    answer = await http.post("/v1/consents", headers=_basic(secrets.server), json=body)
    assert answer.status_code == 200
    assert answer.json()["sequence"] >= 1
    assert answer.json()["state"]["marketing"] == "granted"
    assert answer.json()["state"]["analytics"] != "granted"


async def test_g6_g13_choices_that_cannot_be_read_are_400_without_an_echo(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    good = {"userId": "u-1", "messageId": "c-1", "choices": [{"purpose": "marketing", "decision": "granted"}]}
    for change in BAD_CHOICES:
        answer = await http.post("/v1/consents", headers=_basic(secrets.server), json={**good, **change})
        assert answer.status_code == 400, change
        assert EMAIL not in answer.text


async def test_g5_choices_are_taken_as_json_only(http: httpx.AsyncClient, secrets: Secrets) -> None:
    headers = _basic(secrets.server) | {"content-type": "text/plain"}
    answer = await http.post("/v1/consents", headers=headers, content=b"{}")
    assert answer.status_code == 415
