"""Threats D3, D10 to D13, each on a whole vault: queues, other processes, silent recipients, impostors, the log."""

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.rights_world import officer, rows_of
from tests.flows.test_webhook_flow import Recipient, hook_row, push, recipient, registered, transport  # noqa: F401
from tests.worlds import World, identify, order
from vault.audit.entry import Tag, parse, salted
from vault.bootstrap import open_vault
from vault.clock import DAY, HOUR
from vault.destinations.transport import Transport
from vault.errors import Gone, NotFound, Unavailable
from vault.flows import lookup
from vault.flows.browse import audit_verify
from vault.flows.find import find
from vault.flows.honour.intake import fetch_certificate, open_request, read_request
from vault.keys import names
from vault.policy.actors import Right
from vault.rights.casefile import ANSWER_WITHIN, open_case
from vault.rights.store import get_case

MAIL = "ada@planted.example"
ADA = ("email", MAIL)


async def _ada(world: World) -> None:
    await world.send(identify("ada", anon="phone", email=MAIL, firstName="Ada"), order("ada", 20, order_id="o-planted"))


async def _erase(world: World) -> UUID:
    actor = officer(world.vault)
    request = await open_request(world.vault, actor, await find(world.vault, actor, *ADA), "erasure")
    await world.settle()
    return request


async def _document(world: World, request: UUID) -> dict[str, Any]:
    found: dict[str, Any] = (await fetch_certificate(world.vault, officer(world.vault), request))["document"]
    return found


# --- D3: what was queued ----------------------------------------------------------------------------------------------


async def test_d3_what_waited_for_a_second_try_is_decided_anew_and_only_the_removal_leaves(
    world: World,
    transport: Transport,  # noqa: F811
    recipient: Recipient,  # noqa: F811
    clock: FakeClock,
) -> None:
    await _ada(world)
    await world.settle()
    recipient.statuses = ["503 Not Now"]
    await registered(world.vault, recipient)
    await push(world.vault, transport)
    assert MAIL in json.dumps(recipient.lines[0])
    waiting = await hook_row(world.vault)
    assert waiting["failures"] == 1
    assert not any(MAIL in str(value) for value in dict(waiting).values())  # the queue holds a place, never values
    await _erase(world)
    clock.advance(micros=HOUR)
    await push(world.vault, transport)
    later = json.dumps(recipient.lines[1:])
    assert MAIL not in later
    assert '"reason": "erased"' in later


# --- D10: other processes ---------------------------------------------------------------------------------------------


async def test_d10_another_process_with_everything_warm_opens_writes_and_shows_nothing_from_that_moment_on(
    world: World, clock: FakeClock
) -> None:
    """No time decides it: the first look after the commit is closed, since every statement checks versions."""
    await _ada(world)
    async with open_vault(world.vault.settings, clock=clock) as other:
        beside = World(other, world.sources)
        await beside.send(order("ada", 30))  # she is warm there now
        assert len(other.warm)
        assert (await lookup.traits(other, "email-tool", *ADA))["traits"]
        assert any(line["traits"].get("email") == MAIL for line in await beside.feed("email-tool"))
        ref = await find(other, officer(other), "user_id", "ada")
        actor = officer(world.vault)
        request = await open_request(world.vault, actor, await find(world.vault, actor, *ADA), "erasure")

        outcome = await beside.send(order("ada", 40), identify("ada", firstName="Eve"))
        assert outcome.stored == 0
        assert {one.code for one in outcome.dropped} == {"late_after_erasure"}
        with pytest.raises(NotFound):
            await lookup.traits(other, "email-tool", *ADA)
        with pytest.raises((NotFound, Gone)):
            await open_request(other, officer(other), ref, "access")
        lines, _ = await beside.lines("email-tool")
        assert not any(line["op"] == "upsert" for line in lines)
        await beside.settle()
        assert (await _document(world, request))["scan"]["residue"] == []
        assert not await rows_of(other, "SELECT FROM event e JOIN erased USING (subject_id)")


# --- D11: recipients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "stands"),
    [
        (["503 Down"] * 40, (True, False)),
        (["404 Not Found"] * 40, (True, False)),
        (["410 Gone"], (True, True)),
        ([], (False, False)),  # 200 without effect: it took the line and says nothing
    ],
    ids=["down", "404", "410", "200 without effect"],
)
async def test_d11_d17_a_recipient_that_does_not_say_that_it_deleted_is_due_then_overdue_and_never_done(
    world: World,
    transport: Transport,  # noqa: F811
    recipient: Recipient,  # noqa: F811
    clock: FakeClock,
    answers: list[str],
    stands: tuple[bool, bool],
) -> None:
    await _ada(world)
    await world.settle()
    await registered(world.vault, recipient)
    await push(world.vault, transport)
    recipient.statuses = list(answers)
    request = await _erase(world)
    for days in (1, 6, 14):  # three weeks
        clock.advance(micros=days * DAY)
        await push(world.vault, transport)
        await world.settle()
    (due,) = (await _document(world, request))["due"]
    assert (due["destination"], due["overdue"]) == ("email-tool", False)
    assert '"reason": "erased"' in json.dumps(recipient.lines)  # it was offered, whatever it answered
    vault = world.vault
    async with vault.database.begin() as connection:
        sealed = await get_case(connection, request)
    assert sealed is not None
    case = open_case(vault.keyring.key(names.case(request)), request, sealed)
    assert [(one.name, one.identifiers) for one in case.recipients] == [("email-tool", {"email": (MAIL,)})]

    clock.advance(micros=ANSWER_WITHIN)
    await world.settle()
    document = await _document(world, request)
    assert document["stated"] == []
    assert [(one["told"], one["overdue"]) for one in document["due"]] == [(True, True)]
    assert (await read_request(vault, officer(vault), request))["state"] == "partly_completed"
    with pytest.raises(Unavailable):
        vault.keyring.key(names.case(request))
    row = await hook_row(vault)
    assert (row["failures"] > 0, row["disabled_at"] is not None) == stands


# --- D12: impostors ---------------------------------------------------------------------------------------------------


async def test_d12_who_is_no_officer_opens_no_erasure_and_a_reference_serves_one_officer_alone(world: World) -> None:
    """What exists: role, reference, trace. A second person and a time to cool are a later work (docs/threat-model.md)."""
    await _ada(world)
    vault = world.vault
    for role in ("support", "marketer", "auditor", "operator"):
        assert not vault.staff_gate.allows(role, Right.REQUEST_OPEN), role
    finder = officer(vault)
    ref = await find(vault, finder, *ADA)
    with pytest.raises(NotFound):
        await open_request(vault, officer(vault), ref, "erasure")
    assert await rows_of(vault, "SELECT FROM erased") == []
    request = await open_request(vault, finder, ref, "erasure")
    (entry,) = await world.audited(Tag.RIGHTS_REQUEST_OPENED)
    assert (entry.actor, entry.detail["request"]) == (finder.label, str(request))
    await world.settle()


# --- D13: the log -----------------------------------------------------------------------------------------------------


async def test_d13_after_an_erasure_the_log_holds_nothing_that_leads_to_the_person_and_still_verifies(
    world: World,
) -> None:
    await _ada(world)
    vault = world.vault
    (root,) = {UUID(bytes=row[0].bytes) for row in await rows_of(vault, "SELECT root FROM subject")}
    salts = {
        UUID(bytes=row[0].bytes): row[1]
        for row in await rows_of(vault, "SELECT entry_id, salt FROM audit_salt WHERE subject_id = $1", root)
    }
    await _erase(world)
    await world.settle()
    leaves = [(row[0], parse(row[0])) for row in await rows_of(vault, "SELECT leaf FROM audit")]
    hers = [entry for _, entry in leaves if entry.entry_id in salts]
    assert hers  # with the salt they named her
    assert all(entry.subject == salted(salts[entry.entry_id], root.bytes) for entry in hers)
    assert await rows_of(vault, "SELECT FROM audit_salt WHERE subject_id = $1", root) == []
    tags = [row[0] for row in await rows_of(vault, "SELECT tag FROM tombstone")]
    stable = {root.bytes, str(root).encode(), root.hex.encode(), MAIL.encode(), b"o-planted", b"phone"}
    stable |= {hashlib.sha256(one).hexdigest().encode() for one in (root.bytes, str(root).encode(), MAIL.encode())}
    stable |= {one.hex().encode() for one in tags}
    assert not any(one in leaf for leaf, _ in leaves for one in stable)
    assert (await audit_verify(vault))["ok"]
