"""Claims about lookups: what the feed would show and no more, on record as sent, and silence that tells nobody apart."""

import asyncio
from functools import partial

import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, audited, open_shop, ops, rows_of, superuser
from vault.audit.entry import Tag
from vault.clock import SECOND
from vault.disclosures.record import objects_of, parse_detail, parse_objects
from vault.disclosures.store import acknowledge
from vault.errors import Invalid, NotFound, Unavailable
from vault.flows import lookup
from vault.flows.find import find
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import fetch_certificate, open_request
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.keys import names
from vault.policy.actors import Actor
from vault.storage.session import raw

ADA = ("email", "ada@planted.example")
EMAIL_TOOL = 2
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def disclosed(vault: Vault) -> list[set[str]]:
    rows = await rows_of(vault, "SELECT detail FROM disclosure ORDER BY at, page")
    names = {number: name for name, number in vault.catalogue.rule_objects.items()}
    return [{names[number] for number in objects_of(parse_detail(row[0]))} for row in rows]


async def test_a_lookup_answers_traits_as_the_feed_shows_them_and_records_just_these(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada", lastName="Lovelace", phone="+4915112345678")
    answer = await lookup.traits(vault, "support-desk", *ADA)
    assert {name: bytes(raw) for name, raw in answer["traits"].items()} == {
        "email": b'"ada@planted.example"',
        "firstName": b'"Ada"',
        "lastName": b'"Lovelace"',
        "phone": b'"***78"',
    }
    assert answer["cursor"] == {"url": "", "has_more": False, "next": "", "limit": 10}
    assert await disclosed(vault) == [{"trait:email", "trait:firstName", "trait:lastName", "trait:phone"}]


async def test_what_include_and_limit_leave_out_is_not_disclosed(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada", lastName="Lovelace")
    answer = await lookup.traits(vault, "support-desk", *ADA, include=["lastName", "phone", "nonsense"])
    assert answer["traits"].keys() == {"lastName"}
    answer = await lookup.traits(vault, "support-desk", *ADA, limit=2)
    assert (answer["traits"].keys(), answer["cursor"]["has_more"], answer["cursor"]["next"]) == (
        {"email", "firstName"}, True, "firstName",
    )  # fmt: skip
    assert sorted(await disclosed(vault), key=len) == [{"trait:lastName"}, {"trait:email", "trait:firstName"}]
    (row,) = await rows_of(vault, "SELECT fields FROM disclosure_state")
    assert len(parse_objects(row[0])) == 3


async def test_a_lookup_that_matches_no_trait_discloses_nothing(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    answer = await lookup.traits(vault, "support-desk", *ADA, include=["nonsense"])
    assert answer["traits"] == {}
    assert await rows_of(vault, "SELECT 1 FROM disclosure UNION ALL SELECT 1 FROM disclosure_state") == []


async def test_audiences_are_shown_as_true(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada", order=250.0)
    answer = await lookup.traits(vault, "ad-platform", *ADA)
    assert answer["traits"]["best_customers"] is True
    assert b"ada" not in bytes(answer["traits"]["email"])
    assert await disclosed(vault) == [{"trait:email", "audience:best_customers"}]


async def test_each_lookup_is_one_entry_of_its_own_kind(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    await lookup.traits(vault, "support-desk", *ADA)
    (entry,) = await audited(vault, Tag.DISCLOSURE_LOOKUP_RELEASED, Tag.DISCLOSURE_PAGE_RELEASED)
    assert (entry.tag, entry.actor) == (Tag.DISCLOSURE_LOOKUP_RELEASED, "destination:support-desk")
    assert entry.detail["disclosed"] == 1


async def test_g12_unknown_forbidden_withdrawn_and_broken_look_the_same(vault: Vault) -> None:
    shop = await open_shop(vault)
    for user in ("bea", "ada"):
        await shop.person(user)
    await shop.withdraw("ada", "marketing")
    await shop.person("cleo")
    owner = await superuser(vault)
    subject = await owner.fetchval("SELECT subject_id FROM change ORDER BY number DESC LIMIT 1")
    await owner.execute(
        "UPDATE subject SET state = set_byte(state, 9, get_byte(state, 9) # 255) WHERE subject_id = $1", subject
    )
    await owner.close()
    asked = [
        ("email", "nobody@planted.example"), ("email", "ada@planted.example"), ("email", "cleo@planted.example"),
        ("email", "not an address"), ("nonsense", "x"), ("email", "\u202eada@planted.example"), ("user_id", ""),
    ]  # fmt: skip
    answers = set()
    for kind, value in asked:
        with pytest.raises(NotFound) as told:
            await lookup.traits(vault, "email-tool", kind, value)
        answers.add((told.value.reason, str(told.value)))
    assert len(answers) == 1
    assert await rows_of(vault, "SELECT 1 FROM disclosure") == []
    (withheld,) = await audited(vault, Tag.DISCLOSURE_LOOKUP_WITHHELD)
    assert withheld.detail["unreadable"] == 1
    assert len(await audited(vault, Tag.INTEGRITY_CHECK_FAILED)) == 1
    assert (await lookup.traits(vault, "email-tool", "email", "bea@planted.example"))["traits"]


async def test_a_member_of_a_joined_profile_finds_the_whole_of_it(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.send({"type": "identify", "anonymousId": "device-1", "traits": {"email": "a@planted.example"}})
    await shop.person("ada")
    await shop.send({"type": "identify", "userId": "ada", "anonymousId": "device-1", "traits": {}})
    found = [await lookup.traits(vault, "support-desk", "email", f"{one}@planted.example") for one in ("a", "ada")]
    assert found[0]["traits"].keys() == found[1]["traits"].keys() == {"email", "firstName"}


async def test_a_lookup_never_takes_back_what_the_feed_gave_and_the_feed_takes_back_what_a_lookup_gave(
    vault: Vault,
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    await lookup.traits(vault, "email-tool", *ADA, include=["email"])
    await shop.send({"type": "identify", "userId": "ada", "traits": {"firstName": None}})
    assert ops(await reader.read()) == ["retract", "upsert"]
    await shop.person("bea")
    await lookup.traits(vault, "email-tool", "email", "bea@planted.example")
    await shop.withdraw("bea", "marketing")
    assert ops(await reader.read()) == ["remove"]


async def test_a_limit_out_of_range_is_told_before_anything_is_looked_for(vault: Vault) -> None:
    for limit in (0, -1, lookup.MAX_LIMIT + 1):
        with pytest.raises(Invalid):
            await lookup.traits(vault, "email-tool", *ADA, limit=limit)
    with pytest.raises(NotFound):
        await lookup.traits(vault, "nobody", *ADA)


async def test_without_a_record_nothing_is_answered_and_an_old_decision_is_taken_again(
    vault: Vault, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_shop(vault)).person("ada")
    whole = lookup.record_one
    calls = []

    async def slow(*args: object) -> bool:
        calls.append(1)
        recorded = await whole(*args)  # type: ignore[arg-type]
        if len(calls) == 1:
            clock.advance(micros=SECOND + 1)
        return recorded

    monkeypatch.setattr(lookup, "record_one", slow)
    assert (await lookup.traits(vault, "email-tool", *ADA))["traits"]
    assert len(calls) == 2

    async def broken(*_: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(lookup, "record_one", broken)
    with pytest.raises(Unavailable):
        await lookup.traits(vault, "email-tool", *ADA)


async def test_a_choice_that_has_ended_counts_for_nothing_before_its_wraps_are_gone(
    vault: Vault, clock: FakeClock
) -> None:
    """Promise 5: what the choices say decides, not what would still open. No worker has settled it yet."""
    await (await open_shop(vault)).person("ada")
    assert (await lookup.traits(vault, "email-tool", *ADA))["traits"]
    clock.advance(micros=vault.catalogue.purposes["marketing"].expires or 0)
    wraps = await rows_of(vault, "SELECT wraps FROM keys.subject_key")
    with pytest.raises(NotFound):
        await lookup.traits(vault, "email-tool", *ADA)
    assert await rows_of(vault, "SELECT wraps FROM keys.subject_key") == wraps
    assert len(await rows_of(vault, "SELECT FROM disclosure")) == 1


async def test_who_withdrew_while_the_decision_grew_old_is_not_shown(
    vault: Vault, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    whole = lookup.record_one

    async def slow(*args: object) -> bool:
        recorded = await whole(*args)  # type: ignore[arg-type]
        monkeypatch.setattr(lookup, "record_one", whole)
        await shop.withdraw("ada", "marketing")
        clock.advance(micros=SECOND + 1)
        return recorded

    monkeypatch.setattr(lookup, "record_one", slow)
    with pytest.raises(NotFound):
        await lookup.traits(vault, "email-tool", *ADA)


async def test_d1_a_lookup_that_an_erasure_overtook_is_neither_recorded_nor_answered(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_shop(vault)).person("ada")
    whole = lookup.record_one
    officer = Actor("staff", str(uuid7(vault.clock.now())), "officer")

    async def late(*args: object) -> bool:
        monkeypatch.setattr(lookup, "record_one", whole)
        await open_request(vault, officer, await find(vault, officer, *ADA), "erasure")
        return await whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(lookup, "record_one", late)
    with pytest.raises(NotFound):
        await lookup.traits(vault, "email-tool", *ADA)
    async with vault.database.hot() as connection:
        assert await connection.fetchval("SELECT count(*) FROM disclosure") == 0
        leaves = await connection.fetch("SELECT leaf FROM audit_in")
    assert not any(b"disclosure:lookup" in row[0] for row in leaves)


async def test_d1_an_erasure_waits_for_the_lookup_that_is_being_recorded(vault: Vault) -> None:
    """The lock that a record takes on the row of wraps holds off whoever destroys it."""
    shop = await open_shop(vault)
    await shop.person("ada")
    officer = Actor("staff", str(uuid7(vault.clock.now())), "officer")
    ref = await find(vault, officer, *ADA)
    async with vault.database.begin() as holding:
        driver = await raw(holding)
        await driver.fetch("SELECT FROM keys.subject_key FOR KEY SHARE")
        task = asyncio.create_task(open_request(vault, officer, ref, "erasure"))
        async with asyncio.timeout(30), vault.database.hot() as looking:
            while not await looking.fetchval(WAITING):
                pass
        assert not task.done()
    await task


async def test_d1_a_lookup_that_a_removal_overtook_is_not_answered_and_the_certificate_is_true(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would add nothing to what the destination held, so nothing that is held would change; it must still be the same."""
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    whole = lookup.record_one

    async def late(*args: object) -> bool:
        monkeypatch.setattr(lookup, "record_one", whole)
        await shop.withdraw("ada", "marketing")
        assert ops(await reader.read()) == ["remove"]
        async with vault.database.begin() as connection:
            subjects = [row[0] for row in await rows_of(vault, "SELECT subject_id FROM subject")]
            key = vault.keyring.key(names.STATE)
            assert await acknowledge(connection, EMAIL_TOOL, subjects, vault.clock.now(), key) == 1
        return await whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(lookup, "record_one", late)
    with pytest.raises(NotFound):
        await lookup.traits(vault, "email-tool", *ADA)
    assert len(await rows_of(vault, "SELECT FROM disclosure")) == 1  # the feed's
    officer = Actor("staff", str(uuid7(vault.clock.now())), "officer")
    request = await open_request(vault, officer, await find(vault, officer, *ADA), "erasure")
    await advance(vault, request)
    document = (await fetch_certificate(vault, officer, request))["document"]
    assert (document["due"], document["stated"]) == ([], [])  # whoever had got values after that would be missing here


@pytest.mark.parametrize("way", ["lookup", "page"])
async def test_d1_what_is_held_stays_locked_while_more_of_the_same_is_recorded(vault: Vault, way: str) -> None:
    """Whoever changes it is waited for, also by a release that changes nothing of it: it may be a removal."""
    await (await open_shop(vault)).person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    async with vault.database.begin() as holding:
        await (await raw(holding)).fetch("SELECT FROM disclosure_state FOR UPDATE")
        asked = Reader(vault, "email-tool").read if way == "page" else partial(lookup.traits, vault, "email-tool", *ADA)
        task = asyncio.ensure_future(asked())
        async with asyncio.timeout(30), vault.database.hot() as looking:
            while not await looking.fetchval(WAITING):
                pass
        assert not task.done()
    assert await task
