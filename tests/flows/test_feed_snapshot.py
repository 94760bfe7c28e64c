"""Claims about a feed: framed snapshots over pages, deltas after them, the same again for a page asked for twice."""

import json

import pytest

from tests.flows.feed_world import Reader, Shop, open_shop, ops, root_of, rows_of
from vault.changes.sequencer import sequence
from vault.changes.store import mark
from vault.flows.feedback import acknowledge, report
from vault.flows.release import page as release
from vault.flows.release.page import page
from vault.flows.vault import Vault

PEOPLE = ("ada", "bea", "cleo", "dora", "eve")


async def shop_with(vault: Vault, *users: str) -> Shop:
    shop = await open_shop(vault)
    for user in users:
        await shop.person(user, order=250.0)
    return shop


async def test_an_empty_vault_gives_an_empty_snapshot_and_then_nothing(vault: Vault) -> None:
    reader = Reader(vault, "email-tool")
    assert ops(await reader.page()) == ["reset", "snapshot_end", "cursor"]
    assert ops(await reader.page()) == ["cursor"]


async def test_a_snapshot_of_several_pages_is_framed_once_and_holds_everyone(vault: Vault) -> None:
    await shop_with(vault, *PEOPLE)
    reader = Reader(vault, "email-tool")
    pages = [await reader.page(2) for _ in range(3)]
    assert [ops(one) for one in pages] == [
        ["reset", "upsert", "upsert", "cursor"],
        ["upsert", "upsert", "cursor"],
        ["upsert", "snapshot_end", "cursor"],
    ]
    assert [one[-1]["more"] for one in pages] == [True, True, False]
    assert reader.emails() == {f"{user}@planted.example" for user in PEOPLE}


async def test_a_delta_after_the_snapshot_holds_what_changed_and_no_frame(vault: Vault) -> None:
    shop = await shop_with(vault, *PEOPLE)
    reader = Reader(vault, "email-tool")
    await reader.read(2)
    await shop.person("bea", firstName="Beatrice")
    (line,) = await reader.read()
    assert (line["op"], line["traits"]["firstName"]) == ("upsert", "Beatrice")
    assert await reader.read() == []


async def test_a_change_while_the_snapshot_is_read_comes_within_or_after_it(vault: Vault) -> None:
    shop = await shop_with(vault, *PEOPLE)
    reader = Reader(vault, "email-tool")
    await reader.page(2)
    await shop.person("ada", firstName="Augusta")
    await shop.withdraw("bea", "marketing")
    await shop.person("zoe")
    await reader.read(2)
    assert reader.emails() == {f"{user}@planted.example" for user in (*PEOPLE, "zoe") if user != "bea"}
    assert "Augusta" in {one["traits"]["firstName"] for one in reader.held.values()}


async def test_every_destination_sees_its_own_part_in_its_own_form(vault: Vault) -> None:
    await shop_with(vault, "ada")
    lines = {name: (await Reader(vault, name).read())[1] for name in vault.catalogue.contracts}
    assert lines["warehouse"]["traits"].keys() == {"lifetime_value", "order_count", "first_order_at", "last_order_at"}
    assert lines["warehouse"]["traits"]["lifetime_value"] == 250
    assert lines["warehouse"]["identifiers"] == {}
    assert lines["email-tool"]["traits"] == {"email": "ada@planted.example", "firstName": "Ada"}
    assert lines["email-tool"]["identifiers"] == {"email": ["ada@planted.example"]}
    assert lines["ad-platform"]["audiences"] == ["best_customers"]
    assert "ada" not in json.dumps(lines["ad-platform"])
    assert {name: line["purposes"] for name, line in lines.items()} == {
        "warehouse": ["analytics"],
        "email-tool": ["marketing"],
        "ad-platform": ["advertising"],
        "support-desk": ["support"],
    }


async def test_h4_pseudonyms_differ_per_destination_and_only_their_own_destination_turns_them_round(
    vault: Vault,
) -> None:
    await shop_with(vault, "ada")
    ids = {name: (await Reader(vault, name).read())[1]["id"] for name in vault.catalogue.contracts}
    assert len(set(ids.values())) == len(ids)
    roots = {await root_of(vault, name, one) for name, one in ids.items()}
    assert roots == {row[0] for row in await rows_of(vault, "SELECT subject_id FROM subject")}
    assert await root_of(vault, "warehouse", ids["email-tool"]) not in roots
    told = json.dumps({"id": ids["email-tool"], "kind": "unsubscribed"}).encode()
    assert (await report(vault, "ad-platform", told))["unknown"] == 1


async def test_a_page_asked_for_twice_says_the_same_removals_and_retractions(vault: Vault) -> None:
    shop = await shop_with(vault, "ada", "bea", "cleo")
    reader = Reader(vault, "email-tool")
    await reader.read()
    await shop.withdraw("ada", "marketing")
    await shop.send({"type": "identify", "userId": "bea", "traits": {"firstName": None}})
    await shop.person("cleo", firstName="Cleopatra")
    first = await page(vault, "email-tool", reader.cursor)
    again = await page(vault, "email-tool", reader.cursor)
    assert first == again
    assert ops([json.loads(line) for line in first]) == ["remove", "retract", "upsert", "upsert", "cursor"]


async def test_a_removal_is_said_once_and_a_retraction_until_it_is_confirmed(vault: Vault) -> None:
    shop = await shop_with(vault, "ada", "bea")
    reader = Reader(vault, "email-tool")
    await reader.read()
    await shop.withdraw("ada", "marketing")
    await shop.send({"type": "identify", "userId": "bea", "traits": {"firstName": None}})
    await reader.read()
    await shop.person("ada", lastName="Lovelace")
    await shop.person("bea", lastName="Arthur", firstName=None)
    lines = await reader.read()
    assert ops(lines) == ["retract", "upsert"]  # of bea; the tool holds nothing of ada any more
    assert await acknowledge(vault, "email-tool", json.dumps({"id": lines[0]["id"]}).encode()) == 1
    await shop.person("bea", lastName="Archer", firstName=None)
    assert ops(await reader.read()) == ["upsert"]


async def test_no_committed_change_is_skipped_when_a_writer_commits_late(vault: Vault) -> None:
    shop = await shop_with(vault, "ada", "bea", "cleo")
    ids = await rows_of(vault, "SELECT subject_id FROM change ORDER BY number")
    reader = Reader(vault, "email-tool")
    names = [line["id"] for line in await reader.read() if line["op"] == "upsert"]
    async with vault.database.begin() as late:
        await mark(late, [ids[0][0]])  # written first, committed last
        await shop.person("bea", firstName="Beatrice")
        await shop.person("cleo", firstName="Cleopatra")
        assert {line["id"] for line in await reader.read()} == set(names[1:])
    assert await reader.read() == []  # committed, not numbered yet
    await sequence(vault.database, vault.clock)
    assert [line["id"] for line in await reader.read()] == [names[0]]


async def test_people_who_allow_nothing_make_no_line_and_the_cursor_still_moves(vault: Vault) -> None:
    shop = await shop_with(vault, *PEOPLE)
    for user in PEOPLE[:4]:
        await shop.withdraw(user, "marketing")
    reader = Reader(vault, "email-tool")
    pages = [await reader.page(2) for _ in range(3)]
    assert [ops(one) for one in pages] == [["reset", "upsert", "cursor"], ["cursor"], ["snapshot_end", "cursor"]]


async def test_how_a_page_is_sliced_shows_nowhere(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """People, removals between them and the end of the snapshot come in the same order, however few are read at once."""
    shop = await shop_with(vault, *PEOPLE)
    await Reader(vault, "email-tool").read()
    await shop.withdraw("bea", "marketing")
    await shop.withdraw("dora", "marketing")
    await shop.person("ada", firstName="Augusta")
    whole = await page(vault, "email-tool", None)
    for size in (1, 2, 3, 5):
        monkeypatch.setattr(release, "SLICE", size)
        assert (await page(vault, "email-tool", None))[:-1] == whole[:-1]
