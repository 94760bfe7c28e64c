"""Somebody who owns the database and holds no key writes requests, and what recipients are said to have answered (D, F7)."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.flows.rights_world import gave, officer, person, rows_of
from vault.audit.entry import Tag, parse
from vault.canonical import canonical_json
from vault.errors import Unreadable
from vault.flows.adopt import adopt
from vault.flows.find import find
from vault.flows.honour.advance import advance, advance_all
from vault.flows.honour.intake import fetch_certificate, open_request, read_request
from vault.flows.vault import Vault
from vault.policy.actors import Actor

KNOWN = {"email": "ada@example.com", "user_id": "ada"}
FORGED = """
INSERT INTO request (request_id, type, state, step, subject_id, received_at, due_at, opened_by, detail, code)
VALUES ($1, $2, 'in_progress', $3, $4, $5, $5, $6, $7, $8)
"""
KEYS = "SELECT 1 FROM keys.subject_key WHERE subject_id = $1"


async def owner_does(vault: Vault, statement: str, *values: object) -> None:
    async with vault.database.hot() as connection:
        await connection.execute(statement, *values)


async def accused(vault: Vault) -> list[str]:
    leaves = await rows_of(vault, "SELECT leaf FROM audit UNION ALL SELECT leaf FROM audit_in")
    entries = [parse(row[0]) for row in leaves]
    return [str(one.detail["request"]) for one in entries if one.tag is Tag.INTEGRITY_CHECK_FAILED]


async def erased(vault: Vault, *recipients: str) -> tuple[Actor, UUID, UUID]:
    """Ada, whose e-mail these recipients hold, erased and certified: by whom, her subject, the request."""
    ada = await person(vault, KNOWN, consents=("marketing",))
    for name in recipients:
        await gave(vault, name, ada, "trait:email")
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    await advance_all(vault)
    return actor, ada, request


@pytest.mark.parametrize(("kind", "step"), [("erasure", "fence"), ("erasure", "destroy"), ("access", "gather")])
@pytest.mark.parametrize("code", [None, b"", bytes(32)])
async def test_d_a_request_that_nobody_opened_is_refused_audited_and_holds_up_nobody(
    vault: Vault, kind: str, step: str, code: bytes | None
) -> None:
    ada = await person(vault, KNOWN)
    bea = await person(vault, {"email": "bea@example.com", "user_id": "bea"})
    actor, forged, now = officer(vault), UUID(int=uuid4().int >> 8), vault.clock.now()
    await owner_does(vault, FORGED, forged, kind, step, ada, now, UUID(actor.id), b"{}", code)
    await advance_all(vault)
    await advance_all(vault)
    assert await rows_of(vault, KEYS, ada) != []
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    assert await accused(vault) == [str(forged)]  # once, not with each round
    with pytest.raises(Unreadable):
        await read_request(vault, actor, forged)
    true = await open_request(vault, actor, await find(vault, actor, "user_id", "bea"), "erasure")
    await advance_all(vault)
    assert (await read_request(vault, actor, true))["state"] == "completed"
    assert await rows_of(vault, KEYS, bea) == []


@pytest.mark.parametrize(
    "column", ["subject_id = $2", "opened_by = $2", "step = 'destroy'", "type = 'erasure'", "received_at = 1"]
)
async def test_d_an_edited_request_goes_no_further(vault: Vault, column: str) -> None:
    await person(vault, KNOWN)
    bea = await person(vault, {"email": "bea@example.com", "user_id": "bea"})
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "access")
    values = [bea] if "$2" in column else []
    await owner_does(vault, f"UPDATE request SET {column} WHERE request_id = $1", request, *values)  # noqa: S608
    await advance_all(vault)
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    assert await rows_of(vault, KEYS, bea) != []
    assert await accused(vault) == [str(request)]


async def test_f7_a_request_whose_opening_is_not_in_the_log_goes_no_further(vault: Vault) -> None:
    await person(vault, KNOWN)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "access")
    await owner_does(vault, "DELETE FROM audit_in WHERE position('rights:request:opened'::bytea IN leaf) > 0")
    await advance_all(vault)
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    assert (await read_request(vault, actor, request))["failed"] == "integrity"


async def test_d_a_certificate_says_what_was_counted_and_not_what_somebody_wrote(vault: Vault) -> None:
    actor, _, request = await erased(vault, "email-tool")
    (row,) = await rows_of(vault, "SELECT detail FROM request")
    detail: dict[str, Any] = json.loads(row[0])
    detail |= {"kept": [], "persons": ["00" * 32], "tombstones": 77, "destroyed_at": 1}
    await owner_does(vault, "UPDATE request SET detail = $1", canonical_json(detail))
    await advance_all(vault)
    with pytest.raises(Unreadable):
        await fetch_certificate(vault, actor, request)


NOW = 1 << 50
FORGERIES = (
    "UPDATE recipient_notice SET told_at = $1, acknowledged_at = $1",
    "UPDATE recipient_notice SET told_at = $1, acknowledged_at = $1, told_code = ''::bytea, acknowledged_code = ''::bytea",
    "UPDATE disclosure_state SET removed_number = 1, reason = 'erased', acknowledged_at = $1",
    "DELETE FROM recipient_notice WHERE $1::bigint > 0",
)


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_d_no_row_makes_a_recipient_say_what_it_did_not_say(vault: Vault, forgery: str) -> None:
    actor, _, request = await erased(vault, "email-tool", "support-desk")
    await owner_does(vault, forgery, NOW)
    await advance(vault, request)
    document = (await fetch_certificate(vault, actor, request))["document"]
    assert document["stated"] == []
    assert {one["destination"] for one in document["due"]} == {"email-tool", "support-desk"}
    assert (await read_request(vault, actor, request))["state"] == "partly_completed"


async def test_d_what_a_recipient_said_of_a_withdrawal_is_not_made_to_speak_of_the_erasure(vault: Vault) -> None:
    """Before the erasure: a row that says the recipient has deleted already would leave it off the list."""
    ada = await person(vault, KNOWN, consents=("marketing",))
    await gave(vault, "email-tool", ada, "trait:email")
    await owner_does(vault, FORGERIES[2], NOW)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    await advance_all(vault)
    document = (await fetch_certificate(vault, actor, request))["document"]
    assert [one["destination"] for one in document["due"]] == ["email-tool"]


async def test_d_nobody_is_added_to_an_erasure_under_way(vault: Vault) -> None:
    """Its worker goes on deleting rows until the recipients have answered."""
    _, _, request = await erased(vault, "email-tool")
    bea = await person(vault, {"email": "bea@example.com", "user_id": "bea"})
    await owner_does(vault, "INSERT INTO erased (subject_id, at, request_id) VALUES ($1, 1, $2)", bea, request)
    await advance(vault, request)
    assert await rows_of(vault, "SELECT 1 FROM subject WHERE subject_id = $1", bea) != []


async def test_d_nobody_is_left_out_of_an_erasure_under_way(vault: Vault) -> None:
    ada = await person(vault, KNOWN)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    await owner_does(vault, "DELETE FROM erased")
    await advance_all(vault)
    assert (await read_request(vault, actor, request))["state"] == "completed"
    assert await rows_of(vault, "SELECT 1 FROM subject WHERE subject_id = $1", ada) == []
    assert await rows_of(vault, "SELECT 1 FROM identifier WHERE subject_id = $1", ada) == []


async def test_d_an_erasure_takes_the_tags_whose_records_somebody_deleted(vault: Vault) -> None:
    """No index leads from a person to `identity`: the tags are made from the sealed values as well."""
    ada = await person(vault, KNOWN)
    actor = officer(vault)
    ref = await find(vault, actor, "user_id", "ada")
    await owner_does(vault, "DELETE FROM identifier")
    request = await open_request(vault, actor, ref, "erasure")
    await advance_all(vault)
    assert await rows_of(vault, "SELECT 1 FROM identity WHERE subject_id = $1", ada) == []
    stores = {
        one["store"]: one["rows"] for one in (await fetch_certificate(vault, actor, request))["document"]["stores"]
    }
    assert stores["lookup tags"] == len(KNOWN)


async def test_a_request_from_before_there_were_codes_is_taken_over_once_and_carried_out(vault: Vault) -> None:
    ada = await person(vault, KNOWN, consents=("marketing",))
    await gave(vault, "email-tool", ada, "trait:email")
    old, now, actor = UUID(int=uuid4().int >> 8), vault.clock.now(), officer(vault)
    await owner_does(vault, FORGED, old, "erasure", "fence", ada, now, UUID(actor.id), b"{}", None)
    await owner_does(vault, "UPDATE audit_in SET code = NULL")
    async with vault.database.begin() as connection:
        await adopt(connection, vault.keystore, vault.catalogue)
    await advance_all(vault)
    assert (await read_request(vault, actor, old))["state"] == "partly_completed"
    assert await rows_of(vault, "SELECT 1 FROM audit_in WHERE code IS NULL") == []
    assert await accused(vault) == []
