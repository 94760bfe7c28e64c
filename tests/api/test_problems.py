"""Errors on the wire: one shape, one table, and never an echo."""

from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from structlog.testing import capture_logs

import vault.errors
from api.problems import EXCEPTION_HANDLERS, MEDIA_TYPE, STATUSES, TYPE_PREFIX, status_of
from vault.errors import Conflict, Gone, Invalid, PolicyError, TooLarge, Unavailable, Unreadable, VaultError, Withheld

PLANTED = "jane@example.com"


class Body(msgspec.Struct, forbid_unknown_fields=True):
    count: int


@get("/fault")
async def fault() -> None:
    raise RuntimeError(PLANTED)


@get("/raise/{code:str}")
async def raised(code: FromPath[str]) -> None:
    made: dict[str, VaultError] = {
        "invalid": Invalid("Say it again.", code="no_such_purpose"),
        "large": TooLarge("The limit is 1 byte."),
        "gone": Gone(),
        "conflict": Conflict(),
        "retry": Conflict(code="retry"),
        "unreadable": Unreadable("compartment 7"),
        "unavailable": Unavailable("the journal"),
        "withheld": Withheld(),
        "policy": PolicyError(["purposes.toml:3: no"]),
    }
    raise made[code]


@get("/number")
async def number(count: FromQuery[int]) -> int:
    return count


@post("/body")
async def body(data: JSONBody[Body]) -> int:
    return data.count


@get("/v1/spaces/default/thing")
async def lookup() -> None:
    raise vault.errors.NotFound("Profile was not found.")


@pytest.fixture
async def client() -> Any:
    app = Litestar(
        [fault, raised, number, body, lookup],
        exception_handlers=EXCEPTION_HANDLERS,
        logging_config=None,
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vault") as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("invalid", 400, "no_such_purpose"),
        ("large", 413, "too_large"),
        ("gone", 410, "gone"),
        ("conflict", 409, "conflict"),
        ("retry", 503, "retry"),
        ("unreadable", 500, "integrity"),
        ("unavailable", 503, "unavailable"),
        ("withheld", 403, "withheld"),
        ("policy", 500, "policy"),
    ],
)
async def test_every_family_has_its_status_and_keeps_its_exact_code(
    client: httpx.AsyncClient, name: str, status: int, code: str
) -> None:
    answer = await client.get(f"/raise/{name}")
    told = answer.json()
    assert answer.status_code == told["status"] == status
    assert told["code"] == code
    assert told["type"] == TYPE_PREFIX + code
    assert told["message"] == told["detail"]
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["cache-control"] == "no-store"


async def test_hints_are_told_to_callers_and_kept_back_for_faults_of_ours(client: httpx.AsyncClient) -> None:
    assert "Say it again." in (await client.get("/raise/invalid")).json()["detail"]
    for name in ("unreadable", "unavailable", "policy"):
        told = (await client.get(f"/raise/{name}")).text
        assert not any(word in told for word in ("compartment 7", "journal", "purposes.toml"))


async def test_what_is_unavailable_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    assert int((await client.get("/raise/unavailable")).headers["retry-after"]) > 0


async def test_g6_a_fault_is_500_with_a_log_line_of_its_type_only(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await client.get("/fault")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert PLANTED not in answer.text
    assert logs == [
        {"event": "request.fault", "exception": "RuntimeError", "route": "/fault", "log_level": "error"},
    ]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", f"/number?count={PLANTED}", b"", 400, "invalid_request"),
        ("POST", "/body", b'{"count":"' + PLANTED.encode() + b'"}', 400, "invalid_request"),
        ("POST", "/body", b'{"count":1,"' + PLANTED.encode() + b'":1}', 400, "invalid_request"),
        ("GET", f"/{PLANTED}", b"", 404, "not_found"),
        ("DELETE", "/fault", b"", 405, "method_not_allowed"),
    ],
)
async def test_g6_what_the_framework_refuses_is_told_without_its_words(
    client: httpx.AsyncClient, method: str, path: str, content: bytes, status: int, code: str
) -> None:
    answer = await client.request(method, path, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert PLANTED not in answer.text


async def test_lookup_errors_have_the_shape_that_segments_clients_read(client: httpx.AsyncClient) -> None:
    told = (await client.get("/v1/spaces/default/thing")).json()
    assert told["error"] == {"code": "not_found", "message": "Profile was not found."}


def test_every_family_of_errors_is_in_the_table() -> None:
    families = [one for one in vars(vault.errors).values() if isinstance(one, type) and issubclass(one, VaultError)]
    assert {family.code for family in families} <= set(STATUSES)
    for family in families:
        assert 400 <= status_of(family(["x"]) if family is PolicyError else family())[0] <= 599
