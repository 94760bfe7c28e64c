"""Who passes where: every route of the application, generated from its own table (threats G12)."""

from collections.abc import Iterator
from uuid import UUID

import httpx
from litestar import Litestar
from openapi_spec_validator import validate
from structlog.testing import capture_logs

from api.app import build
from tests.api.shop import EMAIL, Secrets, bearer
from vault.flows.vault import Vault
from vault.sources import store as sources

# The keys that verify signatures; and what browser SDKs say about themselves, without a key: read by nobody, answered the same
OPEN = {"/.well-known/profile-vault-keys.json", "/v1/m"}
OPERATORS = {
    "/livez",
    "/readyz",
    "/metrics",
    "/schema",
    "/schema/openapi.json",
    "/schema/openapi.yaml",
    "/schema/openapi.yml",
}
FILLED = {"{name}": "warehouse", "{ref}": "ref", "{identifier}": "email:x@example.com", "{key}": "key"}
NOBODY = str(UUID(int=7))


def _routes(app: Litestar) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            for method in handler.http_methods:
                if method not in {"OPTIONS", "HEAD"}:
                    yield method, route.path_format


def _path(template: str) -> str:
    for hole, value in FILLED.items():
        template = template.replace(hole, value)
    return template.replace("{request_id}", NOBODY).replace("{entry_id}", NOBODY)


ROUTES = sorted(set(_routes(build())))
CLOSED = [route for route in ROUTES if route[1] not in OPEN | OPERATORS and not route[1].startswith("/schema")]


def test_the_table_of_routes_is_whole() -> None:
    assert len(CLOSED) > 30
    assert {path for _, path in ROUTES} >= OPEN | {"/livez", "/readyz", "/metrics", "/schema"}


async def test_g12_no_route_answers_a_stranger(http: httpx.AsyncClient) -> None:
    for method, template in CLOSED:
        for header in (None, "Bearer nonsense", "Basic bm9uc2Vuc2U6", "Basic ***", "Bearer " + "a" * 5000):
            headers = {"content-type": "application/json"} | ({} if header is None else {"authorization": header})
            answer = await http.request(method, _path(template), headers=headers, content=b"{}")
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (method, template, header)


async def test_g12_a_secret_of_one_audience_opens_no_door_of_another(http: httpx.AsyncClient, secrets: Secrets) -> None:
    groups = {
        "source": [secrets.server, secrets.client],
        "destination": list(secrets.destinations.values()),
        "staff": list(secrets.staff.values()),
    }
    for method, template in CLOSED:
        own = _audience(template)
        if template.startswith("/v1/projects"):
            continue  # its credential stands in its path
        for group, tokens in groups.items():
            if group == own:
                continue
            for token in tokens:
                answer = await http.request(
                    method, _path(template), headers=bearer(token) | {"content-type": "application/json"}, content=b"{}"
                )
                assert answer.status_code == 401, (method, template, group)


def _audience(template: str) -> str:
    if template.startswith(("/v1/destinations", "/v1/spaces")):
        return "destination"
    if template.startswith(("/v1/subjects", "/v1/requests", "/v1/sources", "/v1/audit")):
        return "staff"
    return "source"


async def test_g12_a_destination_sees_no_difference_between_another_and_none(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    told = []
    for name in ("ad-platform", "no-such-destination"):
        answer = await http.get(f"/v1/destinations/{name}/profiles", headers=bearer(secrets.destinations["warehouse"]))
        told.append((answer.status_code, answer.text))
    assert told[0] == told[1]
    assert told[0][0] == 403


async def test_a_role_without_the_right_opens_no_request(http: httpx.AsyncClient, secrets: Secrets) -> None:
    for role in ("marketer", "operator", "auditor"):
        for path in ("access", "portability", "erasure"):
            answer = await http.post(f"/v1/subjects/ref/{path}", headers=bearer(secrets.staff[role]))
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (role, path)


async def test_a_disabled_source_is_refused_at_once(http: httpx.AsyncClient, secrets: Secrets, vault: Vault) -> None:
    assert (await http.get("/v1/purposes", headers=bearer(secrets.server))).status_code == 200
    async with vault.database.begin() as connection:
        await sources.disable(connection, "shop", now=vault.clock.now(), key=vault.rows_key)
    assert (await http.get("/v1/purposes", headers=bearer(secrets.server))).status_code == 401


async def test_g17_operators_doors_exist_on_loopback_only_whatever_a_header_claims(
    http: httpx.AsyncClient, remote: httpx.AsyncClient
) -> None:
    for path in sorted(OPERATORS):
        assert (await http.get(path)).status_code == 200, path
        told = await remote.get(path, headers={"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"})
        assert (told.status_code, told.json()["code"]) == (404, "not_found"), path


async def test_h5_access_log_and_metrics_hold_route_templates_and_no_path(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    with capture_logs() as logs:
        await http.get(
            f"/v1/spaces/default/collections/users/profiles/email:{EMAIL}/traits",
            headers=bearer(secrets.destinations["email-tool"]),
        )
        await http.get(f"/{EMAIL}?email={EMAIL}")
        await http.request("JANE", "/livez")
    figures = (await http.get("/metrics")).text
    lines = [line for line in logs if line["event"] == "request"]
    assert [line["route"] for line in lines][:2] == [
        "/v1/spaces/default/collections/users/profiles/{identifier}/traits",
        "(none)",
    ]
    assert lines[2]["method"] == "OTHER"
    assert EMAIL not in str(logs) + figures
    assert "JANE" not in figures
    assert 'route="/v1/spaces/default/collections/users/profiles/{identifier}/traits"' in figures


async def test_readyz_says_what_is_not_protected(http: httpx.AsyncClient) -> None:
    told = (await http.get("/readyz")).json()
    assert told["ready"] is True
    assert told["rollback_protection"] in {"none", "separate"}
    assert any("keys of every purpose" in note for note in told["notes"])


async def test_every_answer_has_a_request_id_of_its_own(http: httpx.AsyncClient) -> None:
    ids = {(await http.get(path)).headers["request-id"] for path in ("/livez", "/livez", "/nothing", "/v1/purposes")}
    assert len(ids) == 4


async def test_the_openapi_document_is_valid_and_names_every_route(http: httpx.AsyncClient) -> None:
    document = (await http.get("/schema")).json()
    validate(document)
    shown = {path for _, path in ROUTES if not path.startswith("/schema")}
    assert set(document["paths"]) >= shown
