"""Every principal at every door, with what is its own, another's, nobody's and no such thing at all (threats G12).

The table is held to the OpenAPI document: a door that is not in it fails the test. What is not in a row is 401.
"""

import json
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from api.app import build
from api.openapi import complete
from tests.api.shop import Secrets, bearer, identify, order, unhurried
from vault.destinations import store as destinations
from vault.flows.vault import Vault
from vault.sources import store as sources
from vault.staff import store as staff
from vault.worker import run

Door = tuple[str, str]
Row = dict[str, tuple[int, ...]]

SOURCES: Final = ("server", "client")
STAFF: Final = ("officer", "support", "marketer", "operator", "auditor")
PRINCIPALS: Final = (
    *SOURCES,
    "warehouse",
    "email-tool",
    *STAFF,
    "disabled source",
    "revoked destination",
    "revoked officer",
    "anonymous",
)
VARIANTS: Final = ("own", "other", "random", "malformed")
COLLECTIONS: Final = "/v1/spaces/default/collections"
LOOKUP: Final = "/v1/spaces/default/collections/users/profiles/{identifier}/traits"
TRACKING: Final = ("identify", "track", "page", "screen", "group", "alias", "batch", "import", *"itpsgab")


def _only(who: str | tuple[str, ...], *statuses: int) -> Row:
    return dict.fromkeys((who,) if isinstance(who, str) else who, statuses)


def _staff(who: tuple[str, ...], *statuses: int) -> Row:
    """Those who have the right, by variant; other roles are known and refused."""
    return dict.fromkeys(STAFF, (403,) * len(statuses)) | _only(who, *statuses)


# For each door, what each principal is answered for its own, another's, a random and a malformed object; one status where
# the path names no object.
EXPECTED: Final[dict[Door, Row]] = {
    **{("post", f"/v1/{path}"): _only(SOURCES, 200) for path in TRACKING},
    ("post", "/beacon/v1/batch"): {},  # its key is in its query, and no header is read
    ("post", "/v1/m"): _only(PRINCIPALS, 200),  # read and forgotten, whoever sends it
    ("get", "/sourceConfig"): _only("client", 200)
    | _only("server", 404),  # a server's key has no business in a browser
    ("post", "/v1/consents"): _only("server", 200) | _only("client", 404),  # a client speaks for its own device only
    ("get", "/v1/purposes"): _only(SOURCES, 200),
    # the key in the path is the credential, whoever asks: own, a server's, a random one, none
    ("get", "/v1/projects/{key}/settings"): _only(PRINCIPALS, 200, 404, 401, 401),
    ("get", "/v1/destinations/{name}/profiles"): _only(("warehouse", "email-tool"), 200, 403, 403, 403),
    ("post", "/v1/destinations/{name}/acknowledgements"): _only(("warehouse", "email-tool"), 200, 403, 403, 403),
    ("post", "/v1/destinations/{name}/reports"): _only(("warehouse", "email-tool"), 200, 403, 403, 403),
    # own: a person it may see; other: one that refused; nobody looks the same
    ("get", LOOKUP): _only("warehouse", 200, 404, 404, 404) | _only("email-tool", 200, 404, 404, 404),
    # neither has a contract for accounts: for them there are none
    **{
        ("get", f"{COLLECTIONS}/{path}"): _only(("warehouse", "email-tool"), 404, 404, 404, 404)
        for path in (
            "users/profiles/{identifier}/links",
            "accounts/profiles/{identifier}/traits",
            "accounts/profiles/{identifier}/links",
        )
    },
    ("post", "/v1/subjects/find"): _staff(("officer", "support"), 200),
    ("post", "/v1/subjects/{ref}/access"): _staff(("officer",), 202, 404, 404, 404),
    ("post", "/v1/subjects/{ref}/portability"): _staff(("officer",), 202, 404, 404, 404),
    ("post", "/v1/subjects/{ref}/erasure"): _staff(("officer",), 202, 404, 404, 404),
    ("get", "/v1/subjects/{ref}/consents"): _staff(("officer", "support"), 200, 404, 404, 404),
    ("get", "/v1/subjects/{ref}/disclosures"): _staff(("officer",), 200, 404, 404, 404),
    # requests are the controller's, not one officer's
    ("get", "/v1/requests/{request_id}"): _staff(("officer",), 200, 200, 404, 404),
    ("get", "/v1/requests/{request_id}/archive"): _staff(("officer",), 200, 410, 404, 404),
    ("get", "/v1/requests/{request_id}/certificate"): _staff(("officer", "auditor"), 404, 404, 404, 404),
    ("get", "/v1/sources/{name}/dropped"): _staff(("operator",), 200, 200, 404, 404),
    ("get", "/v1/audit/checkpoint"): _staff(("officer", "auditor"), 200),
    ("get", "/v1/audit/entries/{entry_id}/proof"): _staff(("officer", "auditor"), 200, 200, 404, 404),
    ("get", "/v1/audit/consistency"): _staff(("officer", "auditor"), 200),
    ("get", "/.well-known/profile-vault-keys.json"): _only(PRINCIPALS, 200),
    ("get", "/livez"): _only(PRINCIPALS, 404),  # asked from another machine
    ("head", "/livez"): _only(PRINCIPALS, 404),
    ("get", "/readyz"): _only(PRINCIPALS, 404),
    ("head", "/readyz"): _only(PRINCIPALS, 404),
    ("get", "/metrics"): _only(PRINCIPALS, 404),
}


class World(msgspec.Struct):
    """Secrets by principal, and the objects that paths name."""

    http: httpx.AsyncClient
    secrets: dict[str, str]
    objects: dict[str, Callable[[str], tuple[str, ...]]]  # path parameter -> principal -> one for each variant


def _doors() -> list[Door]:
    paths = complete(build().openapi_schema.to_schema())["paths"]
    return sorted((method, path) for path, operations in paths.items() for method in operations)


def test_g12_every_door_of_the_document_has_a_row_and_every_row_a_door() -> None:
    assert set(_doors()) == set(EXPECTED)


@pytest.fixture
async def world(remote: httpx.AsyncClient, secrets: Secrets, vault: Vault) -> World:
    """Two people, one of whom agreed to everything; a request that is done and one that was; every kind of dead secret."""
    unhurried(remote._transport.app)  # type: ignore[attr-defined]
    known = {"server": secrets.server, "client": secrets.client, **secrets.destinations, **secrets.staff}
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        _, known["disabled source"] = await sources.add(connection, "old", server=True, now=now, key=vault.rows_key)
        await sources.disable(connection, "old", now=now, key=vault.rows_key)
        number = vault.catalogue.contracts["ad-platform"].number
        known["revoked destination"] = await destinations.add_token(connection, number, now, vault.rows_key)
        await destinations.revoke_tokens(connection, number, now, vault.rows_key)
        member = await staff.add(connection, "gone", "officer", now=now, key=vault.rows_key)
        known["revoked officer"] = await staff.add_token(connection, member.staff_id, now=now, key=vault.rows_key)
        await staff.disable(connection, "gone", now=now, key=vault.rows_key)
        colleague = await staff.add(connection, "colleague", "officer", now=now, key=vault.rows_key)
        other = await staff.add_token(connection, colleague.staff_id, now=now, key=vault.rows_key)
    silent = dict.fromkeys(("functional", "analytics", "advertising"), False)
    batch = [identify(), order(), identify("m-3", "u-2", silent), identify("m-4", "u-3")]
    batch[2]["traits"] = {"email": "joan@example.com"}
    batch[3]["traits"] = {"email": "june@example.com"}
    await remote.post("/v1/batch", headers=bearer(secrets.server), json={"batch": batch})
    requests = [await _request(remote, other, "u-3"), await _request(remote, other, "u-3")]
    await run(vault, once=True)
    await remote.get(f"/v1/requests/{requests[1]}/archive", headers=bearer(other))  # taken: gone for everyone
    await run(vault, once=True)
    refs = {}
    for who in ("officer", "support"):
        refs[who] = await _ref(remote, known[who], "u-1")
    theirs = await _ref(remote, other, "u-1")
    async with vault.database.hot() as connection:
        entries = [
            str(UUID(bytes=row[0].bytes)) for row in await connection.fetch("SELECT entry_id FROM audit LIMIT 2")
        ]
    elsewhere = {"warehouse": "email-tool", "email-tool": "warehouse"}
    objects: dict[str, Callable[[str], tuple[str, ...]]] = {
        "{key}": lambda _: (secrets.client, secrets.server, "pvw_" + "A" * 43, "%20"),
        "{name}": lambda who: (
            who if who in elsewhere else "shop",
            elsewhere.get(who, "app"),
            "no-such-thing",
            "%22'--",
        ),
        "{identifier}": lambda _: ("user_id:u-1", "user_id:u-2", f"user_id:{uuid4()}", "user_id"),
        "{ref}": lambda who: (refs.get(who, theirs), theirs, "A" * 72, "%25%27"),
        "{request_id}": lambda _: (*requests, str(uuid4()), "0"),
        "{entry_id}": lambda _: (*entries, str(uuid4()), "0"),
    }
    return World(remote, known, objects)


async def _ref(http: httpx.AsyncClient, token: str, user: str) -> str:
    found = await http.post("/v1/subjects/find", headers=bearer(token), json={"kind": "user_id", "value": user})
    return str(found.json()["ref"])


async def _request(http: httpx.AsyncClient, token: str, user: str) -> str:
    opened = await http.post(f"/v1/subjects/{await _ref(http, token, user)}/access", headers=bearer(token))
    return str(opened.json()["request"])


def _content(door: Door, number: int) -> dict[str, Any]:
    method, path = door
    if method == "get":
        return {"params": {"first": 1, "second": 1}} if path.endswith("consistency") else {}
    if path.endswith(("acknowledgements", "reports")):
        return {"content": b"", "headers": {"content-type": "application/x-ndjson"}}
    if path == "/v1/subjects/find":
        return {"json": {"kind": "user_id", "value": "u-1"}}
    if path == "/v1/consents":
        choices = [{"purpose": "personalisation", "decision": "denied"}]
        return {"json": {"userId": "u-1", "messageId": f"c-{number}", "choices": choices}}
    if path in {"/v1/batch", "/v1/b", "/v1/import"}:
        return {"json": {"batch": []}}
    if "/subjects/" in path:
        return {}
    return {"json": {"userId": "u-9", "messageId": f"e-{number}", "event": "E", "groupId": "g", "previousId": "p"}}


async def test_g12_every_principal_is_answered_by_the_table_and_forbidden_looks_like_unknown(world: World) -> None:
    wrong = []
    asked = 0
    # what takes something away from everybody is asked last
    for door in sorted(EXPECTED, key=lambda one: (one[1].endswith("/erasure"), one[1].endswith("/archive"))):
        for who in PRINCIPALS:
            hole = next((hole for hole in world.objects if hole in door[1]), None)
            things = world.objects[hole](who) if hole is not None else ("",)
            expected = EXPECTED[door].get(who, (401,) * len(things))
            if hole in {"{request_id}", "{entry_id}"}:
                expected = (*expected[:3], 404)  # no such path: told before anybody is asked who they are
            told: dict[str, tuple[int, str]] = {}
            for variant, thing, status in zip(VARIANTS, things, expected, strict=False):
                asked += 1
                answer = await _ask(world, door, who, (hole or "", thing), asked)
                told[variant] = (answer.status_code, answer.text)
                if answer.status_code != status:
                    wrong.append((*door, who, variant, answer.status_code, status))
                if answer.status_code >= 400:
                    assert answer.headers["content-type"] == "application/problem+json", (door, who, variant)
            refused = {
                told[variant] for variant in ("other", "random") if variant in told and told[variant][0] in {403, 404}
            }
            if door[1] != "/v1/projects/{key}/settings":
                assert len(refused) <= 1, (door, who, refused)
    assert wrong == []
    assert asked > 1_000


async def _ask(world: World, door: Door, who: str, filled: tuple[str, str], number: int) -> httpx.Response:
    method, path = door
    secret = world.secrets.get(who)
    content = _content(door, number)
    headers = ({} if secret is None else bearer(secret)) | content.pop("headers", {})
    return await world.http.request(method, path.replace(*filled) if filled[0] else path, headers=headers, **content)


async def test_g12_nobody_learns_from_a_refusal_which_secret_it_was(world: World) -> None:
    told = set()
    for who in ("disabled source", "revoked destination", "revoked officer", "anonymous", "warehouse", "officer"):
        answer = await _ask(world, ("get", "/v1/purposes"), who, ("", ""), 0)
        told.add((answer.status_code, answer.text, json.dumps(sorted(name for name, _ in answer.headers.items()))))
    assert len(told) == 1
