"""Claims about what a feed takes back, and why: withdrawn, retracted, merged, expired, erased, contract over, policy changed."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import ROOT, Reader, lines_of, open_shop, ops, rows_of
from tests.flows.rights_world import officer
from vault.bootstrap import open_vault
from vault.catalogue.load import read_folder
from vault.clock import DAY
from vault.config import Settings
from vault.errors import NotFound
from vault.flows import lookup
from vault.flows.enact import enact
from vault.flows.find import find
from vault.flows.honour import intake
from vault.flows.honour.advance import STEPS, advance
from vault.flows.honour.intake import open_request
from vault.flows.settle import settle_due
from vault.flows.vault import Vault
from vault.rights.request import Step

Edit = Callable[[str], str]
Open = Callable[..., AbstractAsyncContextManager[Vault]]


@pytest.fixture
def opened(database_url: str, tmp_path: Path, clock: FakeClock) -> Open:
    """Opens the vault with edited policies; the database, keys and clock stay the same."""

    @asynccontextmanager
    async def open_with(edits: Mapping[str, Edit]) -> AsyncIterator[Vault]:
        policies = tmp_path / "policies"
        shutil.rmtree(policies, ignore_errors=True)
        shutil.copytree(ROOT / "policies", policies)
        for name, edit in edits.items():
            path = policies / name
            before = path.read_text("utf-8")
            path.write_text(edit(before), "utf-8")
            assert path.read_text("utf-8") != before
        settings = Settings(
            data_dir=tmp_path / "data",
            keyring=tmp_path / "keyring",
            key_file=tmp_path / "root.key",
            journal=tmp_path / "journal",
            policies=policies,
            database_url=database_url,
        )
        async with open_vault(settings, clock=clock) as vault:
            await enact(vault.database, vault.journal, read_folder(policies), "a test", clock.now(), vault.policy)
        async with open_vault(settings, clock=clock) as vault:
            yield vault

    return open_with


async def test_a_withdrawal_takes_the_whole_profile_back_and_says_why(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    readers = {name: Reader(vault, name) for name in vault.catalogue.contracts}
    for reader in readers.values():
        await reader.read()
    await shop.withdraw("ada", "advertising")
    lines = {name: await reader.read() for name, reader in readers.items()}
    assert [(line["op"], line["reason"]) for line in lines["ad-platform"]] == [("remove", "withdrawn")]
    assert readers["ad-platform"].held == {}
    assert [ops(lines[name]) for name in ("warehouse", "email-tool", "support-desk")] == [["upsert"]] * 3


async def test_who_was_never_told_of_a_person_hears_nothing_of_their_withdrawal(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await shop.withdraw("ada", "marketing")
    assert ops(await Reader(vault, "email-tool").read()) == ["reset", "snapshot_end"]
    assert await rows_of(vault, "SELECT 1 FROM disclosure_state") == []


async def test_a_field_that_went_is_retracted_by_its_name_and_kind(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    reader = Reader(vault, "email-tool")
    await reader.read()
    await shop.send({"type": "identify", "userId": "ada", "traits": {"firstName": None}})
    retract, upsert = await reader.read()
    assert (retract["op"], retract["traits"]) == ("retract", ["firstName"])
    assert (retract.get("identifiers", []), retract.get("audiences", [])) == ([], [])
    assert upsert["traits"].keys() == {"email"}


async def test_an_audience_and_an_identifier_are_retracted_under_their_own_names(
    vault: Vault, clock: FakeClock
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    reader = Reader(vault, "ad-platform")
    await reader.read()
    await shop.withdraw("ada", "advertising")
    clock.advance(1)
    await shop.say("ada", "granted", "advertising")  # a new consent does not reopen old data
    await shop.send({"type": "identify", "userId": "ada", "traits": {"firstName": "Ada"}})
    await shop.send(
        {"type": "identify", "userId": "ada", "anonymousId": "a-1", "traits": {"email": "new@planted.example"}}
    )
    retract, upsert = await reader.read()
    assert (retract["traits"], retract["audiences"]) == ([], ["best_customers"])
    assert (upsert["op"], upsert["audiences"]) == ("upsert", [])


async def test_a_removal_is_not_lost_when_the_person_moved_on_before_it_was_asked_for_again(vault: Vault) -> None:
    """The page that said it never arrived; the next ones do not come by that person before the reader has passed it."""
    shop = await open_shop(vault)
    for user in ("ada", "bea", "cleo", "dora"):
        await shop.person(user)
    reader = Reader(vault, "email-tool")
    await reader.read()
    await shop.withdraw("ada", "marketing")
    lost = await lines_of(vault, "email-tool", reader.cursor, 1)
    assert ops(lost) == ["remove", "cursor"]
    for user in ("bea", "cleo", "dora", "ada"):
        await shop.person(user, lastName="Anew")
    first = await reader.page(1)
    assert ops(first) == ["remove", "cursor"]
    await reader.read(1)
    assert reader.emails() == {f"{user}@planted.example" for user in ("bea", "cleo", "dora")}


async def test_who_was_removed_makes_no_more_lines_whatever_they_do(vault: Vault) -> None:
    """Else a destination would be told when a person who withdrew is active."""
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    await shop.withdraw("ada", "marketing")
    assert ops(await reader.read()) == ["remove"]
    await shop.person("ada", lastName="Lovelace", order=5.0)
    assert await reader.read() == []


async def test_two_readers_of_one_destination_are_both_told(vault: Vault, clock: FakeClock) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    fast, slow = Reader(vault, "email-tool"), Reader(vault, "email-tool")
    await fast.read()
    await slow.read()
    await shop.withdraw("ada", "marketing")
    assert ops(await fast.read()) == ["remove"]
    await shop.person("ada", lastName="Lovelace")
    assert ops(await slow.read()) == ["remove"]


async def test_one_purpose_of_several_is_retracted_and_the_rest_stays(opened: Open) -> None:
    edits = {
        "destinations.toml": lambda text: text.replace('["marketing"]', '["marketing", "analytics"]').replace(
            "[email-tool.traits]\n", '[email-tool.traits]\nlifetime_value = ["reveal"]\n'
        ),
        "gate/rules.csv": lambda text: f"{text}\np, d:email-tool, trait:lifetime_value, analytics, reveal, allow\n",
    }
    async with opened(edits) as vault:
        shop = await open_shop(vault)
        await shop.person("ada", order=250.0)
        reader = Reader(vault, "email-tool")
        _, before, _ = await reader.read()
        assert before["purposes"] == ["analytics", "marketing"]
        assert before["allowed"]["analytics"]["traits"] == ["lifetime_value"]
        assert before["allowed"]["marketing"]["identifiers"] == ["email"]
        await shop.withdraw("ada", "marketing")
        retract, after = await reader.read()
        assert (retract["op"], retract["traits"]) == ("retract", ["email", "firstName"])
        assert (retract["identifiers"], retract["audiences"]) == (["email"], [])
        assert after["traits"] == {"lifetime_value": 250}
        assert (after["identifiers"], after["purposes"]) == ({}, ["analytics"])


async def test_a_profile_that_was_joined_to_another_is_removed_into_it(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.send({"type": "identify", "anonymousId": "device-1", "traits": {"email": "a@planted.example"}})
    await shop.person("ada", email="b@planted.example")
    reader = Reader(vault, "email-tool")
    await reader.read()
    assert len(reader.held) == 2
    await shop.send({"type": "identify", "userId": "ada", "anonymousId": "device-1", "traits": {}})
    lines = await reader.read()
    (remove,) = [line for line in lines if line["op"] == "remove"]
    (upsert,) = [line for line in lines if line["op"] == "upsert"]
    assert (remove["reason"], remove["into"]) == ("merged", upsert["id"])
    assert reader.held.keys() == {upsert["id"]}


async def test_an_expired_choice_takes_the_profile_back_at_its_end(vault: Vault, clock: FakeClock) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    clock.advance(micros=3 * 366 * DAY)
    assert ops(await Reader(vault, "email-tool").read()) == [
        "reset",
        "remove",
        "snapshot_end",
    ]  # before anybody settled it
    await settle_due(vault)
    await shop.settle()
    assert [(line["op"], line["reason"]) for line in await reader.read()] == [("remove", "expired")]


async def test_an_erased_person_is_removed_as_erased(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    actor = officer(vault)
    await advance(vault, await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure"))
    await shop.settle()
    assert [(line["op"], line["reason"]) for line in await reader.read()] == [("remove", "erased")]
    assert reader.held == {}


async def test_a_person_under_erasure_is_closed_before_the_keys_are_gone(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: object) -> None:
        """The erasure is taken step by step."""

    async def crash(*_: object) -> None:
        raise ConnectionResetError

    shop = await open_shop(vault)
    await shop.person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    actor = officer(vault)
    monkeypatch.setattr(intake, "erase_at_once", busy)
    monkeypatch.setitem(STEPS, Step.CASE, crash)
    with contextlib.suppress(ConnectionResetError):
        await advance(vault, await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure"))
    assert len(await rows_of(vault, "SELECT 1 FROM keys.subject_key")) == 1
    await shop.settle()
    assert [(line["op"], line["reason"]) for line in await reader.read()] == [("remove", "erased")]
    with pytest.raises(NotFound):
        await lookup.traits(vault, "support-desk", "email", "ada@planted.example")


async def test_a_contract_that_ended_takes_everything_back_from_every_reader(opened: Open, clock: FakeClock) -> None:
    agreement = 'agreement = "Data processing agreement of 2026-02-01"\n'
    ending = {"destinations.toml": lambda text: text.replace(agreement, f"{agreement}ends = 2026-04-01\n")}
    async with opened(ending) as vault:
        shop = await open_shop(vault)
        for user in ("ada", "bea", "cleo"):
            await shop.person(user)
        reader = Reader(vault, "email-tool")
        await reader.read()
        assert len(reader.held) == 3
        assert (await lookup.traits(vault, "email-tool", "email", "ada@planted.example"))["traits"]
        clock.advance(micros=60 * DAY)
        with pytest.raises(NotFound):  # at once, and before the feed has told of it
            await lookup.traits(vault, "email-tool", "email", "ada@planted.example")
        lines = await reader.read(2)  # nobody changed: the end alone must be told
        assert ops(lines) == ["reset", "remove", "remove", "remove", "snapshot_end"]
        assert {line["reason"] for line in lines if line["op"] == "remove"} == {"contract_ended"}
        assert reader.held == {}
        await shop.person("dora")
        assert await reader.read() == []


async def test_another_policy_starts_a_new_snapshot_and_takes_back_what_it_forbids(opened: Open) -> None:
    nothing_claimed = {"tests/destinations.toml": lambda _: "# nothing\n", "tests/fields.toml": lambda _: "# nothing\n"}
    async with opened(nothing_claimed) as vault:
        shop = await open_shop(vault)
        await shop.person("ada")
        reader = Reader(vault, "email-tool")
        await reader.read()
    first_name = "\np, d:email-tool, trait:firstName, *, *, deny\n"
    async with opened(nothing_claimed | {"gate/rules.csv": lambda text: text + first_name}) as vault:
        reader.vault = vault
        lines = await reader.read()
        assert ops(lines) == ["reset", "retract", "upsert", "snapshot_end"]
        assert lines[1]["traits"] == ["firstName"]
        assert lines[2]["traits"] == {"email": "ada@planted.example"}
    address = "\np, d:email-tool, trait:email, *, *, deny\np, d:email-tool, identifier:email, *, *, deny\n"
    async with opened(nothing_claimed | {"gate/rules.csv": lambda text: text + first_name + address}) as vault:
        reader.vault = vault
        lines = await reader.read()
        assert ops(lines) == ["reset", "remove", "snapshot_end"]
        assert lines[1]["reason"] == "policy"
        assert reader.held == {}
