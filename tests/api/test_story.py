"""One person through every door: seen, lowered, answered, erased, proven."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from tests.api.shop import EMAIL, Secrets, bearer, identify, order
from vault.cli.erasures import erasures
from vault.flows.vault import Vault
from vault.worker import run


async def _feed(
    http: httpx.AsyncClient, secrets: Secrets, name: str, cursor: str | None = None
) -> tuple[list[Any], str]:
    params = {} if cursor is None else {"cursor": cursor}
    answer = await http.get(
        f"/v1/destinations/{name}/profiles", headers=bearer(secrets.destinations[name]), params=params
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.content.splitlines()]
    return lines[:-1], lines[-1]["cursor"]


async def _send(http: httpx.AsyncClient, secrets: Secrets, *messages: dict[str, Any]) -> None:
    answer = await http.post("/v1/batch", headers=bearer(secrets.server), json={"batch": list(messages)})
    assert answer.json()["stored"] == len(messages), answer.text


async def _ref(http: httpx.AsyncClient, secrets: Secrets) -> str:
    officer = bearer(secrets.staff["officer"])
    answer = await http.post("/v1/subjects/find", headers=officer, json={"kind": "email", "value": EMAIL})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ref"])


async def test_a_destination_sees_what_it_may_and_hears_of_a_withdrawal(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    await _send(http, secrets, identify(), order())
    await run(vault, once=True)
    lines, cursor = await _feed(http, secrets, "email-tool")
    upserts = [line for line in lines if line["op"] == "upsert"]
    assert len(upserts) == 1
    assert EMAIL in json.dumps(upserts[0])
    warehouse, _ = await _feed(http, secrets, "warehouse")
    assert EMAIL not in json.dumps(warehouse)
    assert [line["traits"]["lifetime_value"] for line in warehouse if line["op"] == "upsert"] == [250.0]

    token = bearer(secrets.destinations["email-tool"])
    path = f"/v1/spaces/default/collections/users/profiles/email:{EMAIL}/traits"
    assert (await http.get(path, headers=token)).json()["traits"]["email"] == EMAIL

    choice = {"userId": "u-1", "messageId": "c-1", "choices": [{"purpose": "marketing", "decision": "withdrawn"}]}
    assert (await http.post("/v1/consents", headers=bearer(secrets.server), json=choice)).status_code == 200
    missed = await http.get(path, headers=token)
    assert (missed.status_code, missed.json()["error"]["message"]) == (404, "Profile was not found.")
    await run(vault, once=True)
    lines, cursor = await _feed(http, secrets, "email-tool", cursor)
    assert [line["op"] for line in lines] == ["remove"]
    assert lines[0]["id"] == upserts[0]["id"]


async def test_an_unsubscribe_that_is_reported_lowers(http: httpx.AsyncClient, secrets: Secrets, vault: Vault) -> None:
    await _send(http, secrets, identify())
    await run(vault, once=True)
    lines, cursor = await _feed(http, secrets, "email-tool")
    person = next(line["id"] for line in lines if line["op"] == "upsert")
    report = json.dumps({"id": person, "kind": "unsubscribed", "at": "2026-03-02T09:00:00Z"}).encode() + b"\n"
    headers = bearer(secrets.destinations["email-tool"]) | {"content-type": "application/x-ndjson"}
    answer = await http.post("/v1/destinations/email-tool/reports", headers=headers, content=report)
    assert answer.status_code == 200, answer.text
    await run(vault, once=True)
    lines, _ = await _feed(http, secrets, "email-tool", cursor)
    assert [line["op"] for line in lines] == ["remove"]


async def test_an_access_request_is_answered_with_an_archive_once(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    await _send(http, secrets, identify(), order())
    await run(vault, once=True)
    await _feed(http, secrets, "email-tool")
    officer = bearer(secrets.staff["officer"])
    ref = await _ref(http, secrets)
    opened = await http.post(f"/v1/subjects/{ref}/access", headers=officer)
    assert opened.status_code == 202
    request = opened.json()["request"]
    await run(vault, once=True)
    archive = await http.get(f"/v1/requests/{request}/archive", headers=officer)
    assert archive.headers["content-type"] == "application/zip"
    assert archive.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(archive.content)) as zipped:
        text = b"".join(zipped.read(name) for name in zipped.namelist()).decode()
    assert EMAIL in text
    assert (await http.get(f"/v1/requests/{request}/archive", headers=officer)).status_code == 410
    for path in ("consents", "disclosures"):
        assert (await http.get(f"/v1/subjects/{ref}/{path}", headers=officer)).status_code == 200


async def test_g12_a_reference_works_for_its_finder_only(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    await _send(http, secrets, identify())
    ref = await _ref(http, secrets)
    support = bearer(secrets.staff["support"])
    other = await http.get(f"/v1/subjects/{ref}/consents", headers=support)
    made_up = await http.get("/v1/subjects/bm90aGluZw/consents", headers=support)
    assert other.status_code == made_up.status_code
    assert other.status_code in {403, 404}


async def test_an_erasure_leaves_nothing_but_a_certificate_that_verifies_offline(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault, tmp_path: Path
) -> None:
    await _send(http, secrets, identify(), order())
    await run(vault, once=True)
    _, cursor = await _feed(http, secrets, "email-tool")
    officer = bearer(secrets.staff["officer"])
    ref = await _ref(http, secrets)
    request = (await http.post(f"/v1/subjects/{ref}/erasure", headers=officer)).json()["request"]
    await run(vault, once=True)
    lines, _ = await _feed(http, secrets, "email-tool", cursor)
    assert [(line["op"], line["reason"]) for line in lines] == [("remove", "erased")]
    missed = await http.post("/v1/subjects/find", headers=officer, json={"kind": "email", "value": EMAIL})
    assert missed.status_code == 404
    assert (await http.get(f"/v1/requests/{request}", headers=officer)).json()["type"] == "erasure"
    issued = (await http.get(f"/v1/requests/{request}/certificate", headers=officer)).json()
    keys = (await http.get("/.well-known/profile-vault-keys.json")).json()
    (tmp_path / "certificate.json").write_text(json.dumps(issued))
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    command = ["verify", str(tmp_path / "certificate.json"), "--keys", str(tmp_path / "keys.json"), "--json"]
    done = CliRunner().invoke(erasures, command)
    assert (done.exit_code, json.loads(done.stdout)["signature"]) == (0, "holds")
    named = CliRunner().invoke(erasures, [*command, "--about", "email"], input=EMAIL + "\n")
    assert json.loads(named.stdout)["about"] is True
    stranger = CliRunner().invoke(erasures, [*command, "--about", "email"], input="x@example.com\n")
    assert (stranger.exit_code, json.loads(stranger.stdout)["about"]) == (1, False)
    issued["document"]["subjects"] = 99
    (tmp_path / "certificate.json").write_text(json.dumps(issued))
    assert CliRunner().invoke(erasures, command).exit_code != 0


async def test_drops_are_shown_by_name_and_the_log_proves_its_entries(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    message = {
        "type": "track",
        "userId": "u-1",
        "event": "No Such Event",
        "messageId": "m-9",
        "properties": {"email": EMAIL},
    }
    await http.post("/v1/batch", headers=bearer(secrets.server), json={"batch": [message]})
    told = await http.get("/v1/sources/shop/dropped", headers=bearer(secrets.staff["operator"]))
    assert "No Such Event" in told.text
    assert EMAIL not in told.text
    await run(vault, once=True)
    auditor = bearer(secrets.staff["auditor"])
    note = await http.get("/v1/audit/checkpoint", headers=auditor)
    assert note.headers["content-type"].startswith("text/plain")
    assert len(note.text.splitlines()) >= 5
    async with vault.database.hot() as connection:
        entry = await connection.fetchval("SELECT entry_id FROM audit ORDER BY number LIMIT 1")
    proof = (await http.get(f"/v1/audit/entries/{entry}/proof", headers=auditor)).json()
    assert {"index", "proof", "checkpoint"} <= set(proof)
