"""Companies and households over HTTP, by the paths and in the shapes of Segment's Profile API."""

import base64
from typing import Any

import httpx

from tests.api.shop import EMAIL, YES, Secrets, bearer, identify
from vault.flows.vault import Vault
from vault.worker import run

COLLECTIONS = "/v1/spaces/default/collections"


def group(number: int, user: str, account: str = "acme", **traits: Any) -> dict[str, Any]:
    stamp = {"consent": {"categoryPreferences": YES}}
    return {"userId": user, "groupId": account, "messageId": f"g-{number}", "traits": traits, "context": stamp}


async def test_a_client_of_segments_profile_api_reads_accounts_and_links(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    for one in (
        group(1, "u-1", name="Acme Ltd"),
        group(2, "u-2", plan="gold"),
        group(3, "u-1", "home", name="The Janes"),
    ):
        assert (await http.post("/v1/group", headers=bearer(secrets.server), json=one)).json()["stored"] == 1
    await http.post("/v1/identify", headers=bearer(secrets.server), json=identify())
    await run(vault, once=True)
    token = secrets.destinations["support-desk"]
    basic = {
        "authorization": "Basic " + base64.b64encode(f"{token}:".encode()).decode()
    }  # as Segment's clients send it
    found = await http.get(f"{COLLECTIONS}/accounts/profiles/group_id:acme/traits", headers=basic)
    assert found.json() == {
        "traits": {"name": "Acme Ltd", "plan": "gold"},
        "cursor": {"url": "", "has_more": False, "next": "", "limit": 10},
    }
    assert found.headers["cache-control"] == "no-store"
    some = await http.get(f"{COLLECTIONS}/accounts/profiles/group_id:acme/traits?include=plan", headers=basic)
    assert some.json()["traits"] == {"plan": "gold"}

    people, ids = f"{COLLECTIONS}/accounts/profiles/group_id:acme/links?limit=1", []
    first = (await http.get(people, headers=basic)).json()
    second = (await http.get(people, headers=basic, params={"limit": 1, "next": first["cursor"]["next"]})).json()
    for page in (first, second):
        (link,) = page["data"]
        assert link["to_collection"] == "users"
        ids += [(one["type"], one["id"]) for one in link["external_ids"] if one["type"] != "profile"]
        assert all(one["collection"] == "users" and one["encoding"] == "none" for one in link["external_ids"])
    assert sorted(ids) == [("email", EMAIL), ("user_id", "u-1"), ("user_id", "u-2")]
    assert (first["cursor"]["has_more"], second["cursor"]["has_more"]) == (True, False)

    mine = (await http.get(f"{COLLECTIONS}/users/profiles/email:{EMAIL}/links", headers=basic)).json()
    names = {one["id"] for link in mine["data"] for one in link["external_ids"] if one["type"] == "group_id"}
    assert names == {"acme", "home"}


async def test_g12_what_may_not_be_known_of_an_account_looks_like_no_account(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    await http.post("/v1/group", headers=bearer(secrets.server), json=group(1, "u-1", name="Acme Ltd"))
    answers = set()
    for name, account in (
        ("email-tool", "acme"),
        ("warehouse", "acme"),
        ("support-desk", "none"),
        ("support-desk", "null"),
    ):
        for door in ("traits", "links"):
            path = f"{COLLECTIONS}/accounts/profiles/group_id:{account}/{door}"
            answer = await http.get(path, headers=bearer(secrets.destinations[name]))
            answers.add((answer.status_code, answer.content))
    for path in (
        "accounts/profiles/user_id:u-1/traits",
        "users/profiles/group_id:acme/links",
        "users/profiles/group_id:acme/traits",
    ):
        answer = await http.get(f"{COLLECTIONS}/{path}", headers=bearer(secrets.destinations["support-desk"]))
        answers.add((answer.status_code, answer.content))
    assert len(answers) == 1
    ((status, content),) = answers
    assert status == 404
    assert b"acme" not in content.lower()


async def test_g15_limits_and_cursors_that_were_not_given_are_refused(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    await http.post("/v1/group", headers=bearer(secrets.server), json=group(1, "u-1", name="Acme Ltd"))
    desk = bearer(secrets.destinations["support-desk"])
    for query in ("limit=0", "limit=21", "next=canary", "next=" + "A" * 300, "limit=x"):
        answer = await http.get(f"{COLLECTIONS}/accounts/profiles/group_id:acme/links?{query}", headers=desk)
        assert answer.status_code == 400
        assert "canary" not in answer.text
    assert (
        await http.get(f"{COLLECTIONS}/accounts/profiles/group_id:acme/traits?limit=201", headers=desk)
    ).status_code == 400
