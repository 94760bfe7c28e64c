"""Claims about the way back: reports only lower, once; confirmations close what was told; ids are the destination's own."""

import json
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, audited, ledger_of, open_shop, ops, root_of, rows_of
from tests.flows.rights_world import officer
from vault.audit.entry import Tag
from vault.clock import isoformat
from vault.consent.ledger import Decision, How
from vault.errors import Invalid, NotFound, TooLarge
from vault.flows.feedback import MAX_LINES, acknowledge, report
from vault.flows.find import find
from vault.flows.honour.advance import advance, advance_all
from vault.flows.honour.intake import fetch_certificate, open_request
from vault.flows.vault import Vault


def ndjson(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def reader_of(vault: Vault, destination: str) -> Reader:
    reader = Reader(vault, destination)
    await reader.read()
    return reader


async def reported(vault: Vault, root: Any) -> list[Any]:
    return [one for one in await ledger_of(vault, root) if one.how is How.REPORT]


@pytest.mark.parametrize("kind", ["unsubscribed", "complained"])
async def test_an_unsubscribe_lowers_the_destinations_purpose_and_no_other(vault: Vault, kind: str) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    tool, ads = await reader_of(vault, "email-tool"), await reader_of(vault, "ad-platform")
    (name,) = tool.held
    root = await root_of(vault, "email-tool", name)
    assert await report(vault, "email-tool", ndjson({"id": name, "kind": kind})) == {
        "reports": 1, "lowered": 1, "unknown": 0, "bounced": 0,
    }  # fmt: skip
    await shop.settle()
    assert [(line["op"], line["reason"]) for line in await tool.read()] == [("remove", "withdrawn")]
    assert ops(await ads.read()) == ["upsert"]
    (choice,) = await reported(vault, root)
    assert (choice.decision, choice.purpose) == (Decision.WITHDRAWN, vault.catalogue.purposes["marketing"].number)
    assert len(await audited(vault, Tag.DISCLOSURE_REPORT_TAKEN)) == 1


async def test_a_report_never_raises(vault: Vault, clock: FakeClock) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    tool = await reader_of(vault, "email-tool")
    (name,) = tool.held
    await shop.withdraw("ada", "marketing")
    clock.advance(60)
    for kind in ("unsubscribed", "complained", "bounced"):
        await report(vault, "email-tool", ndjson({"id": name, "kind": kind, "at": isoformat(clock.now())}))
    for wrong in ("granted", "subscribed", "resubscribed", ""):
        with pytest.raises(Invalid):
            await report(vault, "email-tool", ndjson({"id": name, "kind": wrong}))
    await shop.settle()
    await tool.read()
    assert tool.held == {}
    decisions = {one.decision for one in await reported(vault, await root_of(vault, "email-tool", name))}
    assert decisions <= {Decision.DENIED, Decision.WITHDRAWN}


async def test_a_bounce_lowers_nothing(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    tool = await reader_of(vault, "email-tool")
    (name,) = tool.held
    assert (await report(vault, "email-tool", ndjson({"id": name, "kind": "bounced"})))["bounced"] == 1
    assert await reported(vault, await root_of(vault, "email-tool", name)) == []
    await shop.settle()
    assert await tool.read() == []


async def test_the_same_report_again_has_no_further_effect(vault: Vault, clock: FakeClock) -> None:
    """A destination that retries, or repeats itself a thousand times, does not grow anybody's ledger."""
    shop = await open_shop(vault)
    await shop.person("ada")
    (name,) = (await reader_of(vault, "email-tool")).held
    root = await root_of(vault, "email-tool", name)
    plain = {"id": name, "kind": "unsubscribed"}
    dated = plain | {"at": isoformat(clock.now())}
    answers = []
    for _ in range(3):
        clock.advance(5)
        answers.append(await report(vault, "email-tool", ndjson(*[dated] * 50, *[plain] * 50)))
    assert answers == [{"reports": 100, "lowered": 100, "unknown": 0, "bounced": 0}] * 3
    assert len(await reported(vault, root)) == 1


async def test_a_later_report_still_closes_what_an_earlier_grant_could_open(vault: Vault, clock: FakeClock) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    (name,) = (await reader_of(vault, "email-tool")).held
    await report(vault, "email-tool", ndjson({"id": name, "kind": "unsubscribed"}))
    clock.advance(60)
    await report(vault, "email-tool", ndjson({"id": name, "kind": "unsubscribed", "at": isoformat(clock.now())}))
    assert len(await reported(vault, await root_of(vault, "email-tool", name))) == 2


async def test_one_wrong_line_and_no_line_has_an_effect(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    (name,) = (await reader_of(vault, "email-tool")).held
    good = {"id": name, "kind": "unsubscribed"}
    wrong: list[dict[str, Any]] = [
        good | {"purpose": "analytics"}, good | {"purpose": "nonsense"}, good | {"at": "yesterday"},
        good | {"at": "2026-03-02T09:00:00"}, good | {"kind": "granted"}, good | {"extra": 1}, {"kind": "unsubscribed"},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(Invalid):
            await report(vault, "email-tool", ndjson(good, one))
    with pytest.raises(Invalid):
        await report(vault, "email-tool", ndjson(good) + b"{not json\n")
    with pytest.raises(TooLarge):
        await report(vault, "email-tool", ndjson(*[good] * (MAX_LINES + 1)))
    with pytest.raises(NotFound):
        await report(vault, "nobody", ndjson(good))
    assert await reported(vault, await root_of(vault, "email-tool", name)) == []
    assert await audited(vault, Tag.DISCLOSURE_REPORT_TAKEN) == []


async def test_g12_invented_foreign_and_erased_ids_are_all_unknown(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await shop.person("bea")
    tool, ads = await reader_of(vault, "email-tool"), await reader_of(vault, "ad-platform")
    actor = officer(vault)
    await advance(vault, await open_request(vault, actor, await find(vault, actor, "user_id", "bea"), "erasure"))
    await shop.settle()
    (gone,) = [line["id"] for line in await tool.read()]
    ids = [gone, next(iter(ads.held)), "a" * 26, "", "x" * 5000, "\u202e" * 26]
    for one in ids:
        answer = await report(vault, "email-tool", ndjson({"id": one, "kind": "unsubscribed"}))
        assert answer == {"reports": 1, "lowered": 0, "unknown": 1, "bounced": 0}


async def test_the_name_of_a_profile_that_was_joined_still_finds_the_person(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.send({"type": "identify", "anonymousId": "device-1", "traits": {"email": "a@planted.example"}})
    await shop.person("ada")
    tool = await reader_of(vault, "email-tool")
    await shop.send({"type": "identify", "userId": "ada", "anonymousId": "device-1", "traits": {}})
    (old,) = [line["id"] for line in await tool.read() if line["op"] == "remove"]
    assert (await report(vault, "email-tool", ndjson({"id": old, "kind": "unsubscribed"})))["lowered"] == 1
    await shop.settle()
    await tool.read()
    assert tool.held == {}


async def test_a_confirmation_closes_what_was_told_once_and_only_for_its_own_destination(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    tool, ads = await reader_of(vault, "email-tool"), await reader_of(vault, "ad-platform")
    await shop.withdraw("ada", "marketing", "advertising")
    (mine,), (theirs,) = [[line["id"] for line in await one.read()] for one in (tool, ads)]
    assert await acknowledge(vault, "email-tool", ndjson({"id": theirs}, {"id": "a" * 26}, {"id": ""})) == 0
    assert await acknowledge(vault, "email-tool", ndjson({"id": mine}, {"id": mine})) == 1
    assert await acknowledge(vault, "email-tool", ndjson({"id": mine})) == 0
    rows = await rows_of(vault, "SELECT destination FROM disclosure_state WHERE acknowledged_at IS NOT NULL")
    assert [row[0] for row in rows] == [vault.catalogue.contracts["email-tool"].number]
    assert len(await audited(vault, Tag.DISCLOSURE_ACKNOWLEDGEMENT_TAKEN)) == 3
    with pytest.raises(Invalid):
        await acknowledge(vault, "email-tool", b'{"id":1}\n')


async def test_who_reads_from_an_older_cursor_is_told_again_what_was_confirmed_since(vault: Vault) -> None:
    """A recipient that put back a backup of its own holds again what it had deleted."""
    shop = await open_shop(vault)
    await shop.person("ada")
    tool = await reader_of(vault, "email-tool")
    before, held = tool.cursor, dict(tool.held)
    await shop.withdraw("ada", "marketing")
    (ada,) = [line["id"] for line in await tool.read()]
    assert await acknowledge(vault, "email-tool", ndjson({"id": ada})) == 1
    tool.cursor, tool.held = before, held
    assert ops(await tool.read()) == ["remove"]
    assert tool.held == {}
    assert ops(await Reader(vault, "email-tool").read()) == ["reset", "snapshot_end"]


async def test_reading_on_confirms_where_the_contract_says_so_and_nowhere_else(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    tool, ads = await reader_of(vault, "email-tool"), await reader_of(vault, "ad-platform")
    await shop.withdraw("ada", "marketing", "advertising")
    number = "SELECT destination FROM disclosure_state WHERE acknowledged_at IS NOT NULL"
    before = ads.cursor
    await ads.read()
    assert await rows_of(vault, number) == []
    lost, ads.cursor = ads.cursor, before  # the answer never arrived: nothing was carried out yet
    assert ops(await ads.read()) == ["remove"]
    assert await rows_of(vault, number) == []
    assert ads.cursor == lost
    await tool.read()
    for reader in (tool, ads):
        assert await reader.read() == []
    assert [row[0] for row in await rows_of(vault, number)] == [vault.catalogue.contracts["ad-platform"].number]
    assert len(await audited(vault, Tag.DISCLOSURE_ACKNOWLEDGEMENT_TAKEN)) == 1


async def test_reading_on_after_an_erasure_answers_for_the_certificate(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    ads = await reader_of(vault, "ad-platform")
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure")
    await advance(vault, request)
    await shop.settle()
    assert [line["reason"] for line in await ads.read()] == ["erased"]
    await ads.read()
    await advance_all(vault)
    found = await fetch_certificate(vault, actor, request)
    assert [one["destination"] for one in found["document"]["stated"]] == ["ad-platform"]
    assert found["document"]["due"] == []
