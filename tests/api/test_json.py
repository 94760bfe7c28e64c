"""JSON of every class through real doors: tracking, alone and in a batch, and a door of our own (threats G1 to G4)."""

import json
from collections import Counter
from typing import Any, Final

import httpx
import pytest

from tests.api.shop import YES, Secrets, bearer, unhurried
from tests.fuzz.corpus import Case, cases
from vault.flows.vault import Vault
from vault.worker import run

CASES: Final = list(cases())
# Where the grammar leaves the choice. Tracking takes what real clients send; own doors take nothing that two readers could
# read in two ways.
TRACKING_TAKES: Final = {
    "nan",
    "infinity",
    "minus_infinity",
    "int64_past",
    "int64_before",
    "thirty_digits",
    "key_twice",
    "key_twice_equal",
    "key_twice_escaped",
    "nul_escape",
    "nul_escape_key",
    "lone_high",
    "lone_low",
    "low_then_high",
    "high_high",
    "high_then_letter",
    "lone_high_key",
}
_HOLE: Final = b'"@@"'
EVENT: Final[dict[str, Any]] = {
    "type": "track",
    "userId": "u-1",
    "event": "Order Completed",
    "context": {"consent": {"categoryPreferences": YES}},
}


@pytest.fixture(autouse=True)
def _unhurried(http: httpx.AsyncClient) -> None:
    unhurried(http._transport.app)  # type: ignore[attr-defined]


def _body(case: Case, template: Any) -> bytes:
    whole = json.dumps(template).encode()
    return whole.replace(_HOLE, b"0") if case.document is not None else whole.replace(_HOLE, case.text)


def _made(case: Case, template: Any) -> bytes:
    body = _body(case, template)
    return body if case.document is None else case.document(body)


def _taken(case: Case, takes: set[str]) -> bool:
    return case.verdict == "y" or (case.verdict == "i" and case.name.removeprefix("i_either_") in takes)


async def test_the_corpus_is_broad_and_its_verdicts_are_those_of_a_strict_parser() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 250
    assert Counter(case.verdict for case in CASES).keys() == {"y", "n", "i"}
    for case in CASES:
        if case.document is None and case.verdict == "y":
            json.loads(case.text)


async def test_g1_what_is_json_is_taken_and_what_is_not_is_400_on_every_tracking_path(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    headers = bearer(secrets.server)
    for number, case in enumerate(CASES):
        stored = {**EVENT, "messageId": f"s-{number}", "properties": {"order_id": "o", "coupon": "@@"}}
        unread = {**EVENT, "messageId": f"u-{number}", "properties": {"unknown": "@@"}, "integrations": {"All": "@@"}}
        batch = {"batch": [{**stored, "messageId": f"b-{number}"}]}
        for place, path, body in (("coupon", "track", stored), ("coupon", "batch", batch), ("unread", "track", unread)):
            answer = await http.post(f"/v1/{path}", headers=headers, content=_made(case, body))
            _judge(case, answer, place, path)


def _judge(case: Case, answer: httpx.Response, place: str, path: str) -> None:
    where = (case.name, place, path, answer.text[:200])
    assert answer.status_code in {200, 400, 413}, where
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json", where
    number = case.verdict == "i" and case.name.endswith(("exponent", "digits", "exponent_of_40_digits"))
    if number and not _taken(case, TRACKING_TAKES):
        # a number that no double holds loses its message, not the batch; where nothing reads it, it is not judged
        dropped = answer.json().get("dropped", [])
        assert {one["code"] for one in dropped} <= {"number_out_of_range", "invalid_event"}, where
        assert dropped or answer.status_code == 400 or place == "unread", where
    else:
        assert (answer.status_code == 200) == _taken(case, TRACKING_TAKES), where


async def test_g1_what_was_taken_is_json_when_it_leaves(
    http: httpx.AsyncClient, secrets: Secrets, vault: Vault
) -> None:
    for number, case in enumerate(CASES):
        if case.document is not None:
            continue
        person = {"type": "identify", "userId": f"u-{number}", "messageId": f"m-{number}", "context": EVENT["context"]}
        traits = {"email": f"jane{number}@example.com", "firstName": "@@"}
        await http.post(
            "/v1/identify", headers=bearer(secrets.server), content=_made(case, {**person, "traits": traits})
        )
    await run(vault, once=True)
    answer = await http.get("/v1/destinations/email-tool/profiles", headers=bearer(secrets.destinations["email-tool"]))
    lines = [json.loads(line, parse_constant=_refuse) for line in answer.text.splitlines()]
    names = [
        line["traits"]["firstName"] for line in lines if line.get("op") == "upsert" and "firstName" in line["traits"]
    ]
    assert len(names) > 20
    assert any("😀" in str(name) for name in names)


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


async def test_g1_g3_g4_a_door_of_our_own_takes_what_every_parser_reads_alike(
    http: httpx.AsyncClient, secrets: Secrets
) -> None:
    headers = bearer(secrets.server) | {"content-type": "application/json"}
    for number, case in enumerate(CASES):
        act = {
            "userId": "u-1",
            "messageId": f"m-{number}",
            "choices": [{"purpose": "marketing", "decision": "granted", "evidence": {"form": "@@"}}],
        }
        answer = await http.post("/v1/consents", headers=headers, content=_made(case, act))
        where = (case.name, answer.text[:200])
        assert answer.status_code in {200, 400, 413}, where
        # evidence is hashed in RFC 8785 form, which has no whole number past 2^53
        assert (answer.status_code == 200) == (
            _taken(case, {"thousand_zeros_exponent"}) and "int64" not in case.name
        ), where
