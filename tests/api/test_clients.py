"""What the real clients do beside the polite form: bytes that say nothing of their gzip, forms, beacons, settings, metrics."""

import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from tests.api.shop import YES, Secrets, bearer, identify, order
from vault.flows.vault import Vault

ORIGIN = {"origin": "https://shop.example.com"}
SPOOFED = {
    "host": "evil.example",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "forwarded": "host=evil.example;proto=https",
    "x-original-host": "evil.example",
}
REFUSED = {"analytics", "personalisation"}  # what a page view is for, and somebody can refuse
INGEST = ["identify", "track", "page", "screen", "group", "alias", "batch", "import", *"itpsgabm"]
TYPES = ["application/json", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""]


def basic(key: str, *, colon: bool = True) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{key}{':' * colon}".encode()).decode()}


@pytest.mark.parametrize("content_type", TYPES)
async def test_json_is_taken_under_any_content_type_or_none(
    http: httpx.AsyncClient, secrets: Secrets, content_type: str
) -> None:
    headers = basic(secrets.server) | ({"content-type": content_type} if content_type else {})
    answer = await http.post("/v1/batch", headers=headers, content=json.dumps({"batch": [order()]}).encode())
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)


async def test_basic_without_its_colon_is_taken(http: httpx.AsyncClient, secrets: Secrets) -> None:
    answer = await http.post("/v1/track", headers=basic(secrets.server, colon=False), json=order())
    assert answer.json()["stored"] == 1


async def test_gzip_is_taken_announced_or_not(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for name, said in (("one", {}), ("two", {"content-encoding": "gzip"}), ("three", {"content-encoding": "x-gzip"})):
        body = gzip.compress(json.dumps({"batch": [order(name)], "writeKey": secrets.server}).encode())
        for headers in (basic(secrets.server), {}):  # with the key in the header, and only in the body
            answer = await http.post("/v1/batch", headers=headers | said, content=body)
            assert answer.status_code == 200, name
    again = await http.post(
        "/v1/batch", headers=basic(secrets.server), json={"batch": [order(n) for n in ("one", "two")]}
    )
    assert again.json()["stored"] == 0  # they were there


async def test_g7_a_bomb_that_nobody_announced_is_413_and_one_in_another_is_400(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    bomb = gzip.compress(bytes(50_000_000), 9)
    answer = await http.post("/v1/batch", headers=basic(secrets.server), content=bomb)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    nested = gzip.compress(gzip.compress(b'{"batch":[]}'))
    answer = await http.post("/v1/batch", headers=basic(secrets.server) | {"content-encoding": "gzip"}, content=nested)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_the_context_of_a_batch_counts_for_its_messages(http: httpx.AsyncClient, secrets: Secrets) -> None:
    bare = {key: value for key, value in order("m-1").items() if key != "context"}
    own = order("m-2") | {"context": {"consent": {"categoryPreferences": {}}}}
    batch = {"batch": [bare, own], "context": {"consent": {"categoryPreferences": YES}}, "integrations": {"All": True}}
    told = (await http.post("/v1/batch", headers=basic(secrets.server), json=batch)).json()
    assert told["stored"] == 2
    answer = await http.post("/v1/batch", headers=basic(secrets.server), json={"batch": [order("m-3")]})
    assert answer.json()["dropped"] == []


async def test_what_only_a_retry_changes_makes_no_second_message(http: httpx.AsyncClient, secrets: Secrets) -> None:
    first = order() | {"sentAt": "2026-01-05T09:00:00Z", "_metadata": {"retryCount": 0}, "writeKey": secrets.server}
    again = order() | {"sentAt": "2026-01-05T09:00:09Z", "_metadata": {"retryCount": 1}, "writeKey": secrets.server}
    counts = [(await http.post("/v1/track", json=message)).json() for message in (first, again)]
    assert [count["stored"] for count in counts] == [1, 0]
    assert [drop["code"] for drop in counts[1]["dropped"]] in ([], ["duplicate"])


async def test_too_many_events_are_dropped_by_themselves_and_the_rest_is_kept(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    batch = {"batch": [order("m-1"), *[{"type": "track"}] * 2_500]}
    answer = await http.post("/v1/batch", headers=basic(secrets.server), json=batch)
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert answer.json()["dropped"][-1] == {"index": 2_500, "code": "too_many_events", "purposes": []}


async def test_one_message_that_is_too_large_loses_no_other(http: httpx.AsyncClient, secrets: Secrets) -> None:
    huge = order("m-1") | {"properties": {"text": "x" * 40_000}}
    answer = await http.post("/v1/batch", headers=basic(secrets.server), json={"batch": [huge, order("m-2")]})
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert answer.json()["dropped"] == [{"index": 0, "code": "event_too_large", "purposes": []}]


async def test_no_ingest_path_answers_3xx_for_clients_count_it_as_delivered(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    for path in INGEST:
        for spelling in (
            f"/v1/{path}",
            f"/v1/{path}/",
            f"//v1/{path}",
            f"/v1//{path}",
            f"/v1/{path}?a=1",
            f"/V1/{path}",
        ):
            for method in ("POST", "GET"):
                answer = await http.request(method, f"http://vault.test{spelling}", content=b"{}")
                assert not 300 <= answer.status_code < 400, (method, spelling)
                assert answer.status_code < 500, (method, spelling)


async def test_no_ingest_door_answers_410_or_another_status_that_makes_clients_send_a_lost_batch_for_ever(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    for content in (b"", b"nonsense", b"[]", b'{"batch":{}}', b"{" + b" " * 600_000 + b"}"):
        answer = await http.post("/v1/batch", headers=basic(secrets.server), content=content)
        assert answer.status_code in {400, 413}  # every client drops on these; 408, 410, 429 and 5xx come again


async def test_a_preflight_is_answered_for_every_browser_path_and_may_be_kept_for_a_day(
    http: httpx.AsyncClient,
) -> None:
    asked = ORIGIN | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-retry-count,anonymousid,sentat,rsa-retry-attempt,*",
    }
    for path in [*(f"/v1/{one}" for one in INGEST), "/v1/projects/k/settings", "/sourceConfig", "/beacon/v1/batch"]:
        told = (await http.options(path, headers=asked)).headers
        allowed = set(told["access-control-allow-headers"].replace(" ", "").split(","))
        assert allowed >= set(asked["access-control-request-headers"].split(",")), path
        assert told["access-control-allow-origin"] == "*"
        assert told["access-control-max-age"] == "86400"


async def test_a_page_may_read_when_to_come_again(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for headers in (basic(secrets.client), {}):
        told = (await http.post("/v1/t", headers=ORIGIN | headers, json=order())).headers
        assert {"retry-after", "x-ratelimit-reset"} <= set(told["access-control-expose-headers"].split(", "))


async def test_metrics_of_the_browser_sdk_are_swallowed_and_leave_nothing(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    series = {"series": [{"type": "Counter", "metric": "analytics_js.invoke", "value": 1, "tags": {"a": "b"}}]}
    for content in (json.dumps(series).encode(), b"", b"nonsense"):
        answer = await http.post("/v1/m", headers={"content-type": "text/plain"} | ORIGIN, content=content)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert (await http.post("/v1/m", content=bytes(70_000))).status_code == 413


async def test_who_sends_no_key_is_told_how_to_send_it(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for headers, body in (({}, order()), (bearer("wrong"), order()), ({}, {"batch": []})):
        answer = await http.post("/v1/batch", headers=headers, json=body)
        assert answer.status_code == 401
        assert "writeKey" in answer.json()["message"]
        assert answer.headers["www-authenticate"].startswith("Basic ")


# --- settings of the browser SDKs --------------------------------------------------------------------------------------


async def test_g17_no_header_steers_where_a_page_sends_its_events(http: httpx.AsyncClient, secrets: Secrets) -> None:
    answer = await http.get(f"/v1/projects/{secrets.client}/settings", headers=SPOOFED)
    assert "evil" not in answer.text
    segment = answer.json()["integrations"]["Segment.io"]
    assert (segment["protocol"], segment["apiHost"]) == ("http", "vault.test/v1")


async def test_settings_name_categories_turn_metrics_off_and_may_be_cached_and_read_by_any_page(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    answer = await http.get(f"/v1/projects/{secrets.client}/settings", headers=ORIGIN)
    told = answer.json()
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert told["consentSettings"] == {
        "allCategories": ["advertising", "analytics", "functional"],
        "hasUnmappedDestinations": True,
    }
    assert told["integrations"].keys() == {"Segment.io"}  # another name would make the SDK load scripts from elsewhere
    assert told["integrations"]["Segment.io"]["consentSettings"] == {"categories": []}
    assert told["integrations"]["Segment.io"]["apiKey"] == secrets.client
    assert told["metrics"]["sampleRate"] == 0
    assert told["metrics"]["host"] == told["integrations"]["Segment.io"]["apiHost"]
    refused = await http.get("/v1/projects/unknown/settings", headers=ORIGIN)
    assert (refused.status_code, refused.headers["cache-control"]) == (401, "no-store")


@pytest.fixture
async def behind_a_proxy(vault: Vault, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The same vault with a `public_url`."""
    vault.settings = msgspec.structs.replace(vault.settings, public_url="https://vault.example.com:8443/in")
    transport = httpx.ASGITransport(create_app(vault), client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.9:8000") as opened:
        yield opened


async def test_g17_the_configured_address_is_told_whatever_the_request_says(
    behind_a_proxy: httpx.AsyncClient, secrets: Secrets
) -> None:
    told = (await behind_a_proxy.get(f"/v1/projects/{secrets.client}/settings", headers=SPOOFED)).json()
    segment = told["integrations"]["Segment.io"]
    assert (segment["protocol"], segment["apiHost"]) == ("https", "vault.example.com:8443/in/v1")


# --- RudderStack -------------------------------------------------------------------------------------------------------


async def test_rudderstacks_browser_sdk_gets_a_source_without_destinations(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    for path, headers in (
        (f"/sourceConfig/?p=npm&v=3.34.1&writeKey={secrets.client}", {}),
        ("/sourceConfig/", basic(secrets.client)),
    ):
        answer = await http.get(path, headers=ORIGIN | headers)
        source = answer.json()["source"]
        assert (source["enabled"], source["destinations"]) == (True, [])
        assert isinstance(source["config"], dict)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == ("no-store" if headers else "public, max-age=300")
    # what a shared cache keeps for an address, no header of whoever asked first has chosen
    named = await http.get(f"/sourceConfig/?writeKey={secrets.client}", headers=basic(secrets.server))
    assert named.json()["source"]["writeKey"] == secrets.client
    assert (await http.get("/sourceConfig/", headers=basic(secrets.server))).status_code == 404
    assert (await http.get("/sourceConfig/")).status_code == 401


async def test_a_beacon_is_taken_with_its_key_in_the_address_and_a_servers_key_is_not(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    body = json.dumps({"batch": [{**order(), "anonymousId": "a-1"}], "sentAt": "2026-01-05T09:00:00Z"})
    headers = {"content-type": "text/plain;charset=UTF-8"} | ORIGIN
    answer = await http.post(f"/beacon/v1/batch?writeKey={secrets.client}", headers=headers, content=body)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    for query in (f"?writeKey={secrets.server}", "?writeKey=wrong", ""):
        assert (await http.post(f"/beacon/v1/batch{query}", headers=headers, content=body)).status_code == 401


@pytest.mark.parametrize(
    ("management", "denied"),
    [
        ({"allowedConsentIds": ["analytics"], "deniedConsentIds": ["advertising", "functional"]}, set()),
        ({"allowedConsentIds": [], "deniedConsentIds": ["analytics"], "provider": "custom"}, REFUSED),
        ({"allowedConsentIds": ["analytics"], "deniedConsentIds": ["analytics"]}, REFUSED),
        ({}, REFUSED),
        ({"allowedConsentIds": "all"}, REFUSED),
        ("yes", REFUSED),
    ],
)
async def test_rudderstacks_stamp_limits_as_segments_does(
    http: httpx.AsyncClient, secrets: Secrets, management: Any, denied: set[str]
) -> None:
    page = {"type": "page", "name": "Home", "userId": "u-1", "messageId": "p-1"}
    stamped = page | {"context": {"consentManagement": management}}
    told = (await http.post("/v1/page", headers=basic(secrets.server), json=stamped)).json()
    assert {purpose for drop in told["dropped"] for purpose in drop["purposes"]} == denied
    assert told["stored"] == (0 if denied else 1)


async def test_where_both_stamps_speak_what_one_refuses_is_refused(http: httpx.AsyncClient, secrets: Secrets) -> None:
    both = {"consent": {"categoryPreferences": YES}, "consentManagement": {"deniedConsentIds": ["analytics"]}}
    page = {"type": "page", "name": "Home", "userId": "u-1", "messageId": "p-1", "context": both}
    told = (await http.post("/v1/page", headers=basic(secrets.server), json=page)).json()
    assert told["stored"] == 0


async def test_an_identify_of_a_person_that_never_was_keeps_its_mail(http: httpx.AsyncClient, secrets: Secrets) -> None:
    answer = await http.post("/v1/i", headers=basic(secrets.server), json=identify())
    assert answer.json() == {"success": True, "stored": 1, "dropped": []}
