"""Addresses, queries and headers: one spelling each, few and small, and none that claims to be somebody else's."""

from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.front import MAX_HEAD, MAX_HEADERS, MAX_PARAMETERS, MAX_URL, check
from tests.api.shop import Secrets, bearer
from vault.errors import Invalid
from vault.flows.vault import Vault

HOST = (b"host", b"vault.test")
PLANTED = "jane.planted"


def _scope(raw: str, query: str = "", headers: tuple[tuple[bytes, bytes], ...] = (HOST,)) -> dict[str, Any]:
    """As a server makes it: the path decoded, broken UTF-8 replaced."""
    return {
        "type": "http",
        "http_version": "1.1",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
    }


def _refused(scope: dict[str, Any]) -> str:
    with pytest.raises(Invalid) as refused:
        check(scope)
    assert PLANTED not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return refused.value.reason


@pytest.mark.parametrize(
    "raw",
    [
        "/v1/purposes%2fx",
        "/v1%2Fpurposes",
        "/v1/subjects/a%5cb/consents",
        "/v1/subjects/a\\b/consents",
        "/v1/sources/%00/dropped",
        "/v1/sources/a%0d%0aset-cookie:b/dropped",
        "/v1/sources/%7f/dropped",
        "/v1/sources/%ff/dropped",
        "/v1/sources/%c0%af/dropped",
        "/v1/sources/%ed%a0%80/dropped",
        "/v1/x/../purposes",
        "/v1/x/%2e%2e/purposes",
        "/v1/./purposes",
        "/v1/%2e/purposes",
        "/..",
        "//v1/subjects/a/consents",
        "/v1//subjects/a/consents",
        "/v1/subjects//consents",
        "///",
        "//v1/tracks",
    ],
)
def test_g14_an_address_that_says_the_same_by_other_bytes_is_refused(raw: str) -> None:
    assert _refused(_scope(raw)) == "invalid_path"


@pytest.mark.parametrize(
    "raw",
    [
        "/",
        "/v1/track",
        "/v1/track/",
        "//v1/batch",
        "/v1//t",
        "/v1/spaces/default/collections/users/profiles/email:jane%2Bx%40example.com/traits",
        "/v1/spaces/default/collections/users/profiles/user_id:a;b=%27%25..c/traits",
        "/v1/subjects/%F0%9F%98%80/consents",
    ],
)
def test_addresses_of_real_clients_pass(raw: str) -> None:
    check(_scope(raw))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (f"cursor=a&cursor={PLANTED}", "repeated_parameter"),
        ("cursor=a&%63ursor=b", "repeated_parameter"),
        ("limit=1&x=2&limit=1", "repeated_parameter"),
        ("cursor&cursor", "repeated_parameter"),
        ("cursor=%00", "invalid_query"),
        ("cursor=%ff", "invalid_query"),
        ("cursor=%0d%0a", "invalid_query"),
        ("cursor=é", "invalid_query"),
        ("&".join(f"p{number}=1" for number in range(MAX_PARAMETERS + 1)), "invalid_query"),
        ("a=" + "b" * MAX_URL, "url_too_long"),
    ],
)
def test_g14_a_query_that_can_be_read_in_two_ways_is_refused(query: str, code: str) -> None:
    assert _refused(_scope("/v1/purposes", query)) == code


def test_queries_of_real_clients_pass() -> None:
    for query in (
        "",
        "cursor=&limit=10",
        "include=a,b&limit=10&verbose=true",
        "a;b=c",
        "&".join(f"p{n}" for n in range(16)),
    ):
        check(_scope("/v1/purposes", query))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([HOST, HOST], "repeated_header"),
        ([HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "repeated_header"),
        ([HOST, (b"content-type", b"application/json"), (b"content-type", b"text/plain")], "repeated_header"),
        ([HOST, (b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")], "repeated_header"),
        ([HOST, (b"transfer-encoding", b"gzip, chunked")], "invalid_header"),
        ([(b"x-host", b"vault.test")], "invalid_header"),
        ([HOST, *[(b"x-a", b"b")] * MAX_HEADERS], "headers_too_large"),
        ([HOST, (b"x-a", b"b" * MAX_HEAD)], "headers_too_large"),
        ([HOST, (b"b" * MAX_HEAD, b"")], "headers_too_large"),
    ],
)
def test_g14_headers_that_decide_come_once_and_all_are_small(headers: list[tuple[bytes, bytes]], code: str) -> None:
    assert _refused(_scope("/v1/purposes", headers=tuple(headers))) == code


@given(st.text(max_size=40), st.text(max_size=40), st.binary(max_size=40))
def test_no_address_query_or_header_makes_anything_but_a_refusal(path: str, query: str, value: bytes) -> None:
    scope = _scope("/")
    scope |= {"path": "/" + path, "query_string": query.encode("utf-8", "surrogatepass"), "raw_path": None}
    scope["headers"] = [HOST, (b"x-a", value)]
    try:
        check(scope)
    except Invalid as refused:
        assert refused.reason.startswith(("invalid_", "repeated_"))  # noqa: PT017 - both outcomes are fine


# --- through the application ------------------------------------------------------------------------------------------


async def test_a_refusal_before_routing_looks_like_every_other(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/v1/purposes?cursor=1&cursor={PLANTED}")
    told = answer.json()
    assert (answer.status_code, told["status"], told["code"]) == (400, 400, "repeated_parameter")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["request-id"]) > 8
    assert PLANTED not in answer.text
    assert 'route="(none)",status="400"' in (await http.get("/metrics")).text


CLAIMS = {
    "x-forwarded-for": "127.0.0.1",
    "x-real-ip": "127.0.0.1",
    "x-client-ip": "127.0.0.1",
    "true-client-ip": "127.0.0.1",
    "forwarded": "for=127.0.0.1;host=evil.test;proto=https",
    "x-forwarded-host": "evil.test",
    "x-forwarded-proto": "https",
    "x-forwarded-port": "444",
    "x-forwarded-prefix": "/evil",
    "x-original-url": "/metrics",
    "x-rewrite-url": "/metrics",
    "x-host": "evil.test",
}
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
HOPS = {"connection": "close, authorization", "te": "trailers", "keep-alive": "timeout=1", "proxy-connection": "close"}


async def test_g17_what_headers_claim_about_sender_host_or_path_changes_no_answer(
    http: httpx.AsyncClient, remote: httpx.AsyncClient, secrets: Secrets
) -> None:
    for client in (http, remote):
        for path, secret in (
            (f"/v1/projects/{secrets.client}/settings", secrets.client),
            ("/v1/purposes", secrets.server),
            ("/livez", secrets.server),
            ("/schema/openapi.json", secrets.server),
            ("/nothing", secrets.server),
        ):
            plain = await client.get(path, headers=bearer(secret))
            for extra in (*({name: value} for name, value in CLAIMS.items()), CLAIMS, HOPS):
                told = await client.get(path, headers=bearer(secret) | extra)
                assert (told.status_code, told.content) == (plain.status_code, plain.content), (path, extra)
                assert "evil" not in str(told.headers)


async def test_g14_no_header_or_member_makes_one_method_another(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for name in OVERRIDES:
        for method in ("GET", "DELETE", "PUT"):
            answer = await http.post("/v1/purposes", headers=bearer(secrets.server) | {name: method})
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
    body = b"_method=GET"
    assert (
        await http.post("/v1/purposes?_method=GET", headers=bearer(secrets.server), content=body)
    ).status_code == 405


async def test_g13_calls_whose_path_says_it_all_take_no_members(http: httpx.AsyncClient, secrets: Secrets) -> None:
    officer = bearer(secrets.staff["officer"])
    for kind in ("access", "portability", "erasure"):
        answer = await http.post(
            f"/v1/subjects/nobody/{kind}", headers=officer, json={"tenant_id": 1, "verified": True}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "unexpected_body")
        assert (await http.post(f"/v1/subjects/nobody/{kind}", headers=officer, json={})).status_code == 404


async def test_redirects_are_never_made(vault: Vault, secrets: Secrets) -> None:
    transport = httpx.ASGITransport(create_app(vault))
    async with httpx.AsyncClient(transport=transport, base_url="http://vault.test", follow_redirects=False) as client:
        for path in ("/v1", "/v1/", "/v1/track/", "/v1/purposes/", "/schema/", "/livez/", ""):
            for method in ("GET", "POST", "HEAD", "OPTIONS"):
                answer = await client.request(method, path, headers=bearer(secrets.server))
                assert not 300 <= answer.status_code < 400, (method, path)
