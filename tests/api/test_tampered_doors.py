"""Every door that could show a person shows nothing of one whose rows were edited, and each answers in one way (A19).

Whatever was edited: a choice, values, keys, the ledger. The owner of the database edits; the customers ask over HTTP.
"""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api.shop import Secrets, bearer
from tests.flows.feed_world import audited, rows_of, superuser
from vault.audit.entry import Tag, salted
from vault.flows.vault import Vault
from vault.worker import run

AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}
_LAST = "overlay({0} PLACING '\\xff00ff'::bytea FROM octet_length({0}) - 2)"
TAMPERED = {
    "choice": "UPDATE subject SET state = set_byte(state, 18, get_byte(state, 18) # 64) WHERE subject_id = $1",
    "values": f"UPDATE compartment SET fields = {_LAST.format('fields')} WHERE subject_id = $1",  # noqa: S608 - ours
    "keys": f"UPDATE keys.subject_key SET version = version + 1, wraps = {_LAST.format('wraps')} WHERE subject_id = $1",  # noqa: S608 - ours
    "ledger": "DELETE FROM ledger WHERE subject_id = $1 AND sequence = 1",
}
NOBODY = "nobody"


def address(name: str) -> str:
    return f"{name}@planted.example"


@pytest.fixture
async def people(vault: Vault, secrets: Secrets, http: httpx.AsyncClient) -> dict[str, UUID]:
    """One for each way of tampering, done to them once everybody got them; and Cleo, whom nothing happens to."""
    found = {}
    for name in (*TAMPERED, "cleo"):
        traits = {"email": address(name), "firstName": name.title()}
        message = {"type": "identify", "userId": name, "traits": traits, "messageId": f"m-{name}", "context": AGREED}
        answer = await http.post("/v1/batch", headers=bearer(secrets.server), json={"batch": [message]})
        assert answer.json()["stored"] == 1
        await run(vault, once=True)
        row = await rows_of(vault, "SELECT subject_id FROM change ORDER BY number DESC LIMIT 1")
        found[name] = UUID(bytes=row[0][0].bytes)
        lookup = await looked_up(http, secrets, name)
        assert lookup[0] == 200  # the control: it was answered before
    owner = await superuser(vault)
    for name, statement in TAMPERED.items():
        assert await owner.execute(statement, found[name]) not in {"UPDATE 0", "DELETE 0"}
    await owner.close()
    vault.warm.forget(found.values())  # who is warm is not read again: their next message writes over what was edited
    return found


async def looked_up(http: httpx.AsyncClient, secrets: Secrets, name: str, what: str = "traits") -> tuple[int, bytes]:
    path = f"/v1/spaces/default/collections/users/profiles/email:{address(name)}/{what}"
    answer = await http.get(path, headers=bearer(secrets.destinations["email-tool"]))
    return answer.status_code, answer.content


async def accused(vault: Vault, subject: UUID) -> list[str]:
    """The actors in whose name the log says that a check of this person failed."""
    salts = await rows_of(vault, "SELECT entry_id, salt FROM audit_salt WHERE subject_id = $1", subject)
    mine = {UUID(bytes=row[0].bytes): salted(row[1], subject.bytes) for row in salts}
    found = []
    for entry in await audited(vault, Tag.INTEGRITY_CHECK_FAILED):
        listed = entry.detail.get("subjects") or []
        name = mine.get(entry.entry_id)
        if name is not None and (entry.subject == name or (isinstance(listed, list) and name in listed)):
            found.append(entry.actor.split(":")[0])
    return found


async def test_a19_lookups_of_a_tampered_person_are_those_of_nobody(
    vault: Vault, secrets: Secrets, http: httpx.AsyncClient, people: dict[str, UUID]
) -> None:
    for what in ("traits", "links"):
        unknown = await looked_up(http, secrets, NOBODY, what)
        assert unknown[0] == 404
        for name in TAMPERED:
            if name != "ledger":  # which no lookup reads: nothing it rests on was touched
                assert await looked_up(http, secrets, name, what) == unknown, (name, what)
                assert "destination" in await accused(vault, people[name]), (name, what)
        assert (await looked_up(http, secrets, "cleo", "traits"))[0] == 200
    assert await accused(vault, people["cleo"]) == []


async def test_a_feed_leaves_out_who_was_tampered_with_and_nobody_else(
    vault: Vault, secrets: Secrets, http: httpx.AsyncClient, people: dict[str, UUID]
) -> None:
    answer = await http.get("/v1/destinations/email-tool/profiles", headers=bearer(secrets.destinations["email-tool"]))
    text = answer.text
    assert address("cleo") in text
    for name in TAMPERED:
        assert address(name) not in text, name
        assert "destination" in await accused(vault, people[name])


async def test_the_desk_is_told_that_something_does_not_agree_in_one_way(
    vault: Vault, secrets: Secrets, http: httpx.AsyncClient, people: dict[str, UUID]
) -> None:
    """An officer must know, and is shown no value, no cause, and no difference between the causes.

    What reads nothing that was edited is answered: values were edited, and choices are honest.
    """
    officer = bearer(secrets.staff["officer"])
    told: dict[str, set[tuple[int, str]]] = {"consents": set(), "disclosures": set()}
    honest = {("values", "consents"), ("values", "disclosures"), ("ledger", "disclosures")}
    for name in TAMPERED:
        find = await http.post("/v1/subjects/find", headers=officer, json={"kind": "email", "value": address(name)})
        ref = find.json()["ref"]
        for what, answers in told.items():
            answer = await http.get(f"/v1/subjects/{ref}/{what}", headers=officer)
            if (name, what) in honest:
                assert answer.status_code == 200, (name, what)
            else:
                answers.add((answer.status_code, plain(answer.json())))
        assert name == "values" or "staff" in await accused(vault, people[name]), name
    for what, answers in told.items():
        ((status, body),) = answers
        assert (status, json.loads(body)["code"]) == (500, "integrity"), what


async def test_a_request_about_a_tampered_person_stands_still_and_says_why(
    vault: Vault, secrets: Secrets, http: httpx.AsyncClient, people: dict[str, UUID]
) -> None:
    officer = bearer(secrets.staff["officer"])
    told = set()
    for name in TAMPERED:
        find = await http.post("/v1/subjects/find", headers=officer, json={"kind": "email", "value": address(name)})
        opened = await http.post(f"/v1/subjects/{find.json()['ref']}/access", headers=officer)
        assert opened.status_code == 202
        request = opened.json()["request"]
        await run(vault, once=True)
        state = (await http.get(f"/v1/requests/{request}", headers=officer)).json()
        told.add((state["state"], state.get("failed")))
        assert (await http.get(f"/v1/requests/{request}/archive", headers=officer)).status_code in {404, 409}
        assert "vault" in await accused(vault, people[name]), name
    assert told == {("in_progress", "integrity")}


async def test_nothing_is_stored_for_a_tampered_person_and_its_source_sees_one_answer(
    vault: Vault, secrets: Secrets, http: httpx.AsyncClient, people: dict[str, UUID]
) -> None:
    told = set()
    for name in TAMPERED:
        if name == "ledger":
            continue  # a message rests on the state row, which is whole
        message: dict[str, Any] = {"type": "identify", "userId": name, "messageId": f"n-{name}", "context": AGREED,
                                   "traits": {"firstName": "New"}}  # fmt: skip
        answer = await http.post("/v1/batch", headers=bearer(secrets.server), json={"batch": [message]})
        choice = {
            "userId": name,
            "messageId": f"c-{name}",
            "choices": [{"purpose": "marketing", "decision": "granted"}],
        }
        chosen = await http.post("/v1/consents", headers=bearer(secrets.server), json=choice)
        told.add((answer.status_code, plain(answer.json()), chosen.status_code, plain(chosen.json())))
        assert "source" in await accused(vault, people[name]), name
    assert len(told) == 1, told
    assert "New" not in str(told)


def plain(body: Any) -> str:
    """A body without what is random in each answer."""
    return json.dumps(
        {key: value for key, value in body.items() if key not in {"instance", "trace_id"}}, sort_keys=True
    )
