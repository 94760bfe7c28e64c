"""Claims about erasure, on a real database: what goes, what stays, who is told, and how it ends when it is interrupted."""

import asyncio
import contextlib
import json
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import open_shop
from tests.flows.rights_world import gave, officer, person, rows_of
from tests.worlds import World, identify, order, say
from vault.changes.sequencer import sequence
from vault.clock import DAY, Micros, isoformat
from vault.disclosures.store import acknowledge
from vault.errors import Gone, NotFound, Unavailable
from vault.flows import lookup
from vault.flows.find import find
from vault.flows.honour import erase, intake, keep
from vault.flows.honour.advance import STEPS, advance, advance_all
from vault.flows.honour.intake import fetch_archive, fetch_certificate, open_request, read_request
from vault.flows.release.page import page
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.journal.narrowing import Erasure
from vault.keys import names
from vault.rights import certificate, store
from vault.rights.casefile import ANSWER_WITHIN, open_case
from vault.rights.request import Step
from vault.rights.store import Request, Transaction, get_case

EMAIL = "ada.planted@example.com"
KNOWN = {"email": EMAIL, "user_id": "user-planted"}
TRAITS = {"firstName": "Adaplanted", "email": EMAIL}
CONSENTS = ("marketing", "analytics", "advertising")
PERSONAL = ("keys.subject_key", "compartment", "ledger", "identifier", "link", "disclosure", "audit_salt", "subject")


class Crashed(Exception):
    """The process ended here."""


async def _busy(*_: object) -> None:
    """An erasure in one go that others came between: it is taken step by step."""


async def _erased(vault: Vault) -> dict[str, object]:
    """Ada, two orders, known to the e-mail tool; erased and certified."""
    subject = await person(vault, KNOWN, TRAITS, orders=2, consents=CONSENTS)
    await gave(vault, "email-tool", subject, "trait:email", "identifier:email")
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "erasure")
    await advance(vault, request)
    return {"subject": subject, "request": request, "actor": actor}


async def test_when_the_erasure_is_answered_the_keys_are_gone_and_nobody_is_found(vault: Vault) -> None:
    subject = await person(vault, KNOWN, TRAITS, orders=1, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    request = await open_request(vault, actor, ref, "erasure")
    assert await rows_of(vault, "SELECT 1 FROM keys.subject_key WHERE subject_id = $1", subject) == []
    assert [row[0] for row in await rows_of(vault, "SELECT subject_id FROM erased")] == [subject]
    await advance(vault, request)
    with pytest.raises(NotFound):
        await find(vault, actor, "email", EMAIL)


async def test_nothing_that_the_person_had_is_left_but_what_law_keeps(vault: Vault) -> None:
    done = await _erased(vault)
    for table in PERSONAL:
        left = await rows_of(vault, f"SELECT 1 FROM {table} WHERE subject_id = $1", done["subject"])  # noqa: S608 - names above
        assert left == [], table
    assert await rows_of(vault, "SELECT 1 FROM identity") == []


async def test_d16_only_the_listed_fields_survive_under_a_subject_that_nothing_finds(vault: Vault) -> None:
    done = await _erased(vault)
    subjects = await rows_of(vault, "SELECT subject_id FROM subject")
    assert len(subjects) == 1
    assert subjects[0][0] != done["subject"]
    events = await rows_of(vault, "SELECT purposes FROM event")
    assert {row[0] for row in events} == {vault.catalogue.mask(["accounting"])}
    found = await fetch_certificate(vault, done["actor"], done["request"])
    (kept,) = found["document"]["kept"]
    assert kept["purpose"] == "accounting"
    assert kept["ground"] == "17-3-b"
    assert kept["records"] == 2
    assert kept["fields"] == [
        "Order Completed: currency", "Order Completed: order_id", "Order Completed: revenue", "Order Completed: time",
    ]  # fmt: skip
    assert kept["until"] == "2036-12-31T12:00:00.000Z"  # ten years of 365.25 days from the end of the year
    assert (await read_request(vault, done["actor"], done["request"]))["kept"] == [kept]


async def test_d16_what_was_kept_is_erased_at_the_end_of_its_retention(vault: Vault, clock: FakeClock) -> None:
    await _erased(vault)
    clock.advance(micros=12 * 366 * DAY)
    assert await keep.end_kept(vault) == 2
    for table in ("subject", "event", "keys.subject_key", "due"):
        assert await rows_of(vault, f"SELECT 1 FROM {table}") == [], table  # noqa: S608 - names above
    assert await keep.end_kept(vault) == 0


async def test_the_certificate_verifies_offline_and_says_whom_it_is_about(vault: Vault) -> None:
    done = await _erased(vault)
    found = await fetch_certificate(vault, done["actor"], done["request"])
    document = json.loads(json.dumps(found["document"]))
    certificate.verify(document, found["signature"], vault.keyring.signer("certificate").public)
    normal = normalise(vault.catalogue.identifiers["email"], EMAIL)
    assert normal is not None
    assert certificate.names(document, bytes.fromhex(found["salt"]), "email", normal) == "about"
    assert certificate.names(document, bytes.fromhex(found["salt"]), "email", b"bob@example.com") == "not_about"
    assert {one["scan"] for one in document["stores"]} == {"by index: nothing left"}
    assert EMAIL not in json.dumps(document)


async def test_a_recipient_that_has_not_answered_stands_under_due_and_never_under_stated(vault: Vault) -> None:
    done = await _erased(vault)
    found = await fetch_certificate(vault, done["actor"], done["request"])
    assert found["document"]["stated"] == []
    assert [one["destination"] for one in found["document"]["due"]] == ["email-tool"]
    assert (await read_request(vault, done["actor"], done["request"]))["state"] == "partly_completed"


async def test_the_next_page_tells_the_recipient_and_its_word_makes_a_new_revision(
    vault: Vault, clock: FakeClock
) -> None:
    done = await _erased(vault)
    clock.advance(60)
    await sequence(vault.database, vault.clock)
    told_at = isoformat(clock.now())
    lines = [json.loads(line) for line in await page(vault, "email-tool", None)]
    assert [line["reason"] for line in lines if line.get("op") == "remove"] == ["erased"]
    number = vault.catalogue.contracts["email-tool"].number
    clock.advance(60)
    await advance_all(vault)
    said_at = isoformat(clock.now())
    async with vault.database.begin() as connection:
        assert (
            await acknowledge(connection, number, [done["subject"]], vault.clock.now(), vault.keyring.key(names.STATE))
            == 1
        )
    clock.advance(60)  # the worker looks later than anything happened
    await advance_all(vault)
    found = await fetch_certificate(vault, done["actor"], done["request"])
    assert found["document"]["revision"] == 2
    assert found["document"]["due"] == []
    (stated,) = found["document"]["stated"]
    assert (stated["states"], stated["told"], stated["told_at"], stated["at"]) == ("deleted", True, told_at, said_at)
    await advance_all(vault)
    assert (await read_request(vault, done["actor"], done["request"]))["step"] == "done"
    for table in ("disclosure_state", "recipient_notice", "casefile", "change"):
        assert await rows_of(vault, f"SELECT 1 FROM {table}") == [], table  # noqa: S608 - names above
    with pytest.raises(Unavailable):
        vault.keyring.key(names.case(done["request"]))


async def test_d7_a_recipient_that_answers_before_the_rows_go_holds_up_no_certificate(
    vault: Vault, clock: FakeClock
) -> None:
    world = await World.of(vault)
    await world.send(identify("ada", email="ada@example.com", firstName="Ada"), order("ada", 300))
    await world.settle()
    _, cursor = await world.lines("ad-platform")
    await world.choose(say("advertising", "withdrawn"), user="ada")
    await world.settle()
    _, cursor = await world.lines("ad-platform", cursor)
    clock.advance(60)
    await world.choose(say("advertising", "granted"), user="ada")
    await world.send(order("ada", 300))
    await world.settle()
    _, cursor = await world.lines("ad-platform", cursor)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    while await sequence(vault.database, clock):  # the worker dies before it comes to the rows
        pass
    told, cursor = await world.lines("ad-platform", cursor)
    assert [(one["op"], one["reason"]) for one in told] == [("remove", "erased")]
    await world.lines("ad-platform", cursor)  # whoever reads on has deleted it
    held = "SELECT octet_length(gone) > 0 FROM disclosure_state WHERE reason = 'erased' AND acknowledged_at IS NOT NULL"
    assert [row[0] for row in await world.rows(held)] == [True]
    await world.settle()
    assert (await world.rows("SELECT count(*) FROM disclosure_state WHERE fields || gone <> ''::bytea"))[0][0] == 0
    assert (await fetch_certificate(vault, actor, request))["document"]["revision"] >= 1


async def test_what_nobody_observed_is_not_certified(vault: Vault, clock: FakeClock) -> None:
    done = await _erased(vault)
    async with vault.database.hot() as connection:
        await connection.execute("DELETE FROM disclosure_state")
    clock.advance(micros=ANSWER_WITHIN)
    await advance_all(vault)
    found = await fetch_certificate(vault, done["actor"], done["request"])
    assert found["document"]["stated"] == []
    (due,) = found["document"]["due"]
    assert (due["told"], due["told_at"], due["overdue"]) == (False, None, True)


async def test_a_removal_older_than_the_erasure_counts_as_told_at_no_known_time(vault: Vault) -> None:
    subject = await person(vault, KNOWN, TRAITS, consents=CONSENTS)
    await gave(vault, "email-tool", subject, "trait:email")
    async with vault.database.hot() as connection:
        await connection.execute("UPDATE disclosure_state SET removed_number = 1, reason = 'withdrawn'")
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "erasure")
    await advance(vault, request)
    (due,) = (await fetch_certificate(vault, actor, request))["document"]["due"]
    assert (due["told"], due["told_at"]) == (True, None)


async def test_d17_three_weeks_later_the_case_still_has_what_the_recipient_needs_and_dies_at_its_deadline(
    vault: Vault, clock: FakeClock
) -> None:
    done = await _erased(vault)
    clock.advance(micros=21 * DAY)
    await advance_all(vault)
    async with vault.database.begin() as connection:
        sealed = await get_case(connection, done["request"])
    assert sealed is not None
    case = open_case(vault.keyring.key(names.case(done["request"])), done["request"], sealed)
    assert [(one.name, one.identifiers) for one in case.recipients] == [("email-tool", {"email": (EMAIL,)})]
    assert EMAIL.encode() not in sealed
    clock.advance(micros=ANSWER_WITHIN)
    await advance_all(vault)
    with pytest.raises(Unavailable):
        vault.keyring.key(names.case(done["request"]))
    found = await fetch_certificate(vault, done["actor"], done["request"])
    assert [one["overdue"] for one in found["document"]["due"]] == [True]
    assert "salt" not in found
    assert (await read_request(vault, done["actor"], done["request"]))["state"] == "partly_completed"


async def test_d8_erased_twice_or_at_once_is_one_request_and_one_certificate(vault: Vault) -> None:
    await person(vault, KNOWN, TRAITS, orders=1, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    both = await asyncio.gather(*[open_request(vault, actor, ref, "erasure") for _ in range(4)])
    assert len(set(both)) == 1
    await asyncio.gather(*[advance(vault, both[0]) for _ in range(3)])
    await advance(vault, both[0])
    assert await open_request(vault, actor, ref, "erasure") == both[0]
    assert len(await rows_of(vault, "SELECT 1 FROM certificate")) == 1
    with pytest.raises(NotFound):
        await open_request(vault, actor, ref, "access")


@pytest.mark.parametrize("step", [Step.CASE, Step.KEEP, Step.DESTROY, Step.ROWS, Step.CERTIFY])
async def test_d7_an_erasure_that_stopped_before_any_step_ends_the_same(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    async def crash(*_: object) -> None:
        raise Crashed

    await person(vault, KNOWN, TRAITS, orders=2, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    with monkeypatch.context() as patched, contextlib.suppress(Crashed):
        patched.setattr(intake, "erase_at_once", _busy)
        patched.setitem(STEPS, step, crash)
        await advance(vault, await open_request(vault, actor, ref, "erasure"))
    request = (await rows_of(vault, "SELECT request_id FROM request"))[0][0]
    await advance_all(vault)
    found = await fetch_certificate(vault, actor, request)
    assert found["document"]["revision"] == 1
    assert len(await rows_of(vault, "SELECT 1 FROM subject")) == 1  # the kept one
    assert len(await rows_of(vault, "SELECT 1 FROM event")) == 2


@pytest.mark.parametrize("step", [Step.FENCE, Step.CASE, Step.KEEP, Step.DESTROY, Step.ROWS, Step.CERTIFY])
async def test_d7_a_step_whose_commit_never_came_is_taken_again_whole(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """Everything of the step was done but its last line: what it wrote is undone, what lies outside is harmless."""
    subject = await person(vault, KNOWN, TRAITS, orders=2, consents=CONSENTS)
    await gave(vault, "email-tool", subject, "trait:email", "identifier:email")
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    whole = store.move

    async def crash(connection: Transaction, before: Request, *rest: Any, **more: Any) -> bool:
        if before.step == step:
            raise Crashed
        return await whole(connection, before, *rest, **more)

    with monkeypatch.context() as patched, contextlib.suppress(Crashed):
        patched.setattr(intake, "erase_at_once", _busy)
        patched.setattr(store, "move", crash)
        await advance(vault, await open_request(vault, actor, ref, "erasure"))
    request = (await rows_of(vault, "SELECT request_id FROM request"))[0][0]
    assert await rows_of(vault, "SELECT 1 FROM certificate") == []
    await advance_all(vault)
    found = await fetch_certificate(vault, actor, request)
    assert found["document"]["revision"] == 1
    assert [one["destination"] for one in found["document"]["due"]] == ["email-tool"]
    assert len(await rows_of(vault, "SELECT 1 FROM subject")) == 1  # the kept one
    assert len(await rows_of(vault, "SELECT 1 FROM event")) == 2
    assert len(await rows_of(vault, "SELECT 1 FROM certificate")) == 1


async def test_d1_who_got_values_after_the_case_was_written_owes_an_answer_too(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup was decided before the fence and is recorded after the case file: the keys are still there."""
    await (await open_shop(vault)).person("ada")
    ada = ("email", "ada@planted.example")
    actor = officer(vault)
    whole = lookup.record_one
    opened: list[UUID] = []

    async def crash(*_: object) -> None:
        raise Crashed

    async def late(*args: Any) -> bool:
        monkeypatch.setattr(lookup, "record_one", whole)
        with monkeypatch.context() as patched, contextlib.suppress(Crashed):
            patched.setattr(intake, "erase_at_once", _busy)
            patched.setitem(STEPS, Step.KEEP, crash)
            await open_request(vault, actor, await find(vault, actor, *ada), "erasure")
        opened.extend([row[0] for row in await rows_of(vault, "SELECT request_id FROM casefile")])
        return await whole(*args)

    monkeypatch.setattr(lookup, "record_one", late)
    assert (await lookup.traits(vault, "email-tool", *ada))["traits"]
    assert await rows_of(vault, "SELECT FROM recipient_notice") == []
    (request,) = opened
    await advance(vault, request)
    assert [
        tuple(row) for row in await rows_of(vault, "SELECT destination, acknowledged_at FROM recipient_notice")
    ] == [(2, None)]
    document = (await fetch_certificate(vault, actor, request))["document"]
    assert [one["destination"] for one in document["due"]] == ["email-tool"]


async def test_the_journal_holds_members_and_tombstones_before_the_keys_go(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = await person(vault, KNOWN, TRAITS, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)

    async def refused(*_: object) -> int:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(vault.journal, "append", refused)
        with pytest.raises(Unavailable):
            await open_request(vault, actor, ref, "erasure")
    assert len(await rows_of(vault, "SELECT 1 FROM keys.subject_key WHERE subject_id = $1", subject)) == 1
    await open_request(vault, actor, ref, "erasure")
    (entry,) = [one.narrowing for one in vault.journal.read() if isinstance(one.narrowing, Erasure)]
    assert entry.members == (subject,)
    stored = await rows_of(vault, "SELECT tag, until, suppress FROM tombstone ORDER BY tag")
    assert [(one.tag, one.until, one.suppress) for one in entry.tombstones] == [tuple(row) for row in stored]
    assert len(stored) == len(KNOWN)
    assert {row[1] for row in stored} == {erase.end_of_day(vault.clock.now())}


async def test_every_member_of_a_profile_goes_with_its_root(vault: Vault) -> None:
    root = await person(vault, {"user_id": "user-planted"}, TRAITS)
    member = await person(vault, {"email": EMAIL}, orders=1, root=root)
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "erasure")
    await advance(vault, request)
    assert {row[0] for row in await rows_of(vault, "SELECT subject_id FROM erased")} == {root, member}
    assert (await fetch_certificate(vault, actor, request))["document"]["subjects"] == 2
    assert await rows_of(vault, "SELECT 1 FROM keys.subject_key WHERE subject_id = ANY($1)", [root, member]) == []


async def test_an_archive_of_the_person_goes_with_their_keys(vault: Vault) -> None:
    await person(vault, KNOWN, TRAITS, orders=1, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    access = await open_request(vault, actor, ref, "access")
    await advance(vault, access)
    await open_request(vault, actor, ref, "erasure")
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    with pytest.raises(Unavailable):
        vault.keyring.key(names.archive(access))
    with pytest.raises(Gone):
        await fetch_archive(vault, actor, access)


async def test_a_request_in_work_holds_no_value_of_the_person(vault: Vault) -> None:
    await _erased(vault)
    rows = await rows_of(vault, "SELECT detail FROM request")
    rows += await rows_of(vault, "SELECT document FROM certificate")
    rows += await rows_of(vault, "SELECT leaf FROM audit_in")
    text = b"".join(bytes(row[0]) for row in rows)
    for planted in (EMAIL, "Adaplanted", "user-planted", "order-planted"):
        assert planted.encode() not in text


def test_d4_no_tombstone_tells_the_hour() -> None:
    assert erase.end_of_day(Micros(5 * DAY + 7)) == 6 * DAY
