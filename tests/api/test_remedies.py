"""Whoever is refused reads what to do next, in words of ours: never a member that was made up, nor a value."""

import json
from typing import Any

import httpx
import pytest

from api.body import decode_own
from api.ingest.wire import Consents
from tests.api.shop import EMAIL, Secrets, bearer
from vault.errors import Invalid

CHOICE = {"purpose": "marketing", "decision": "denied"}
ACT = {"messageId": "c-1", "userId": "u-1", "choices": [CHOICE]}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "`messageId` is missing"),
        ({**ACT, "messageId": 7}, "`messageId` must be text"),
        ({**ACT, "userId": 7}, "`userId` must be text or null"),
        ({**ACT, "choices": {}}, "`choices` must be a list"),
        ({**ACT, "choices": [{"purpose": "marketing"}]}, "`choices[0].decision` is missing"),
        ({**ACT, "choices": [CHOICE, {**CHOICE, "purpose": 1}]}, "`choices[1].purpose` must be text"),
        ({**ACT, "choices": [{**CHOICE, "saidAt": "yesterday"}]}, "`choices[0].saidAt` is not as this call has it"),
        ({**ACT, "choices": [{**CHOICE, EMAIL: 1}]}, "`choices[0]` has a member that this call does not know"),
        ({**ACT, EMAIL: 1}, "it knows messageId, choices, userId, anonymousId"),
        ({**ACT, f"{EMAIL}` - at `$.choices": 1}, "a member that this call does not know"),
        ([], "The body must be an object"),
    ],
)
def test_g6_a_body_that_does_not_fit_is_told_which_member_by_its_declared_name(body: Any, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_own(json.dumps(body).encode(), Consents)
    assert told in refused.value.hint
    assert EMAIL not in refused.value.hint
    assert "yesterday" not in refused.value.hint


async def test_a_write_key_in_the_body_of_choices_is_told_where_it_belongs(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    refused = await http.post("/v1/consents", json={**ACT, "writeKey": secrets.server})
    assert refused.status_code == 401
    assert "in the header `Authorization` only" in refused.json()["message"]
    assert "in the body" in (await http.post("/v1/track", json={})).json()["message"]


async def test_what_cannot_be_refused_is_named_in_the_answer_and_the_rest_of_the_act_counts(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    """Somebody who refuses everything at once must not be refused for one purpose that rests on a contract."""
    both = {**ACT, "choices": [CHOICE, {"purpose": "service", "decision": "withdrawn"}]}
    answer = (await http.post("/v1/consents", json=both, headers=bearer(secrets.server))).json()
    assert (answer["sequence"], answer["state"]["marketing"], answer["ignored"]) == (1, "refused", ["service"])
    plain = (await http.post("/v1/consents", json={**ACT, "messageId": "c-2"}, headers=bearer(secrets.server))).json()
    assert sorted(plain) == ["sequence", "state"]


async def test_each_refusal_at_the_door_says_what_to_send(http: httpx.AsyncClient, secrets: Secrets) -> None:
    feed = "/v1/destinations/warehouse"
    reader = bearer(secrets.destinations["warehouse"])
    told = {
        "profile-vault destinations token": await http.get(f"{feed}/profiles"),
        "profile-vault staff add": await http.post("/v1/subjects/find", json={"kind": "email", "value": EMAIL}),
        "its parameters and their types": await http.get(f"{feed}/profiles?limit=abc", headers=reader),
        "the header Allow": await http.put("/v1/track", json={}),
        "application/x-ndjson": await http.post(
            f"{feed}/acknowledgements", content=b"{}", headers={**reader, "content-type": "text/csv"}
        ),
        "not valid JSON": await http.post("/v1/track", content=b'{"userId": "u-1"', headers=bearer(secrets.server)),
        "A message is a JSON object": await http.post("/v1/track", content=b"[]", headers=bearer(secrets.server)),
        "a list named `batch`": await http.post("/v1/batch", content=b"{}", headers=bearer(secrets.server)),
    }
    assert [answer.status_code for answer in told.values()] == [401, 401, 400, 405, 415, 400, 400, 400]
    for text, answer in told.items():
        assert text in answer.json()["message"], answer.json()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_probe_may_ask_for_the_head_alone(http: httpx.AsyncClient, path: str) -> None:
    answer, asked = await http.get(path), await http.head(path)
    assert (asked.status_code, asked.content) == (answer.status_code, b"")
