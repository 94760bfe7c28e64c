"""Claims about a page before its first byte: on record, fresh, and decided on what is still so (promises 5, 7, 10, 12)."""

import asyncio
import struct
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, audited, lines_of, open_shop, ops, root_of, rows_of
from tests.flows.rights_world import officer
from vault.audit.entry import Tag
from vault.canonical import framed
from vault.clock import SECOND
from vault.disclosures.record import Basis, objects_of, parse_detail
from vault.errors import Unavailable
from vault.flows.find import find
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import open_request
from vault.flows.release import page as release
from vault.flows.vault import Vault
from vault.merkle import leaf_hash
from vault.merkle import root_of as tree_root


async def test_what_left_is_on_record_by_recipient_fields_purpose_basis_and_form(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada", order=250.0)
    (line,) = [one for one in await Reader(vault, "ad-platform").read() if one["op"] == "upsert"]
    (row,) = await rows_of(vault, "SELECT subject_id, destination, at, number, policy, detail FROM disclosure")
    assert row["subject_id"] == await root_of(vault, "ad-platform", line["id"])
    assert (row["destination"], row["at"], row["number"]) == (3, vault.clock.now(), line["version"])
    (released,) = parse_detail(row["detail"])
    assert (released.purpose, released.basis) == (vault.catalogue.purposes["advertising"].number, Basis.CONSENT)
    assert objects_of([released]) == {
        vault.catalogue.rule_objects[name] for name in ("trait:email", "identifier:email", "audience:best_customers")
    }


async def test_the_root_in_the_pages_entry_is_that_of_its_rows_and_their_salts(vault: Vault) -> None:
    shop = await open_shop(vault)
    for user in ("ada", "bea", "cleo"):
        await shop.person(user)
    await Reader(vault, "email-tool").read()
    (entry,) = await audited(vault, Tag.DISCLOSURE_PAGE_RELEASED)
    rows = await rows_of(vault, "SELECT * FROM disclosure ORDER BY subject_id")
    assert {row["page"] for row in rows} == {entry.entry_id}
    leaves = [
        leaf_hash(
            framed(
                row["salt"],
                row["subject_id"].bytes,
                struct.pack(">QII", row["number"], row["destination"], row["policy"]),
                row["detail"],
            )
        )
        for row in rows
    ]
    assert entry.detail["rows"] == tree_root(leaves).hex()
    assert (entry.detail["disclosed"], entry.actor) == (3, "destination:email-tool")
    assert len({row["salt"] for row in rows}) == 3
    other = await Reader(vault, "support-desk").read()
    assert other
    (again,) = [one for one in await audited(vault, Tag.DISCLOSURE_PAGE_RELEASED) if one.entry_id != entry.entry_id]
    assert again.detail["rows"] != entry.detail["rows"]


async def test_disclosures_are_durable_before_the_page_is_returned(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_shop(vault)).person("ada")
    seen: list[int] = []
    whole = release.record

    async def watched(*args: Any) -> None:
        await whole(*args)
        seen.append(len(await rows_of(vault, "SELECT 1 FROM disclosure")))
        assert len(await audited(vault, Tag.DISCLOSURE_PAGE_RELEASED)) == 1

    monkeypatch.setattr(release, "record", watched)
    await Reader(vault, "email-tool").read()
    assert seen == [1]


@pytest.mark.parametrize("step", ["write_page", "append"])
async def test_if_any_part_of_the_record_fails_nothing_is_released_and_nothing_is_half_written(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await (await open_shop(vault)).person("ada")

    async def broken(*_: Any) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(f"vault.flows.release.record.{step}", broken)
        with pytest.raises(Unavailable):
            await lines_of(vault, "email-tool")
    assert await rows_of(vault, "SELECT 1 FROM disclosure UNION ALL SELECT 1 FROM disclosure_state") == []
    assert await audited(vault, Tag.DISCLOSURE_PAGE_RELEASED) == []
    assert ops(await Reader(vault, "email-tool").read()) == ["reset", "upsert", "snapshot_end"]


async def test_a_page_that_grew_old_while_it_was_recorded_is_decided_again(
    vault: Vault, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ada withdraws while the disk is slow: what was decided before must not leave."""
    shop = await open_shop(vault)
    await shop.person("ada")
    await shop.person("bea")
    whole = release.record

    async def slow(*args: Any) -> None:
        await whole(*args)
        monkeypatch.setattr(release, "record", whole)
        await shop.withdraw("ada", "marketing")
        clock.advance(micros=SECOND + 1)

    monkeypatch.setattr(release, "record", slow)
    reader = Reader(vault, "email-tool")
    await reader.read()
    assert reader.emails() == {"bea@planted.example"}


async def test_a_decision_exactly_one_second_old_may_leave_and_an_older_one_never_does(
    vault: Vault, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_shop(vault)).person("ada")
    whole = release.record
    calls: list[int] = []

    async def slow(*args: Any) -> None:
        calls.append(1)
        await whole(*args)
        clock.advance(micros=SECOND)

    with monkeypatch.context() as patched:
        patched.setattr(release, "record", slow)
        assert ops(await lines_of(vault, "email-tool"))[1] == "upsert"
    assert len(calls) == 1

    async def slower(*args: Any) -> None:
        calls.append(1)
        await whole(*args)
        clock.advance(micros=SECOND + 1)

    with monkeypatch.context() as patched:
        patched.setattr(release, "record", slower)
        with pytest.raises(Unavailable):
            await lines_of(vault, "email-tool")
    assert len(calls) == 1 + release.ATTEMPTS


async def test_a_clock_that_went_back_releases_nothing_twice_and_loses_nothing(vault: Vault, clock: FakeClock) -> None:
    await (await open_shop(vault)).person("ada")
    clock.advance(-3600)
    assert ops(await Reader(vault, "email-tool").read()) == ["reset", "upsert", "snapshot_end"]


async def test_readers_of_one_destination_at_once_leave_one_true_state(vault: Vault) -> None:
    shop = await open_shop(vault)
    for user in ("ada", "bea", "cleo"):
        await shop.person(user)
    readers = [Reader(vault, "email-tool") for _ in range(4)]
    await asyncio.gather(*(reader.read(2) for reader in readers))
    await shop.withdraw("ada", "marketing")
    await asyncio.gather(*(reader.read() for reader in readers))
    assert all(reader.emails() == {"bea@planted.example", "cleo@planted.example"} for reader in readers)
    removed = await rows_of(vault, "SELECT removed_number FROM disclosure_state WHERE removed_number IS NOT NULL")
    assert len(removed) == 1


async def test_what_another_reader_turned_meanwhile_is_decided_again(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers decide at once; the one that decided before a withdrawal must not write over what the other was told."""
    shop = await open_shop(vault)
    await shop.person("ada")
    first, second = Reader(vault, "email-tool"), Reader(vault, "email-tool")
    await first.read()
    await second.read()
    await shop.send({"type": "identify", "userId": "ada", "traits": {"firstName": None}})
    whole = release.record

    async def late(*args: Any) -> None:
        monkeypatch.setattr(release, "record", whole)
        await shop.withdraw("ada", "marketing")
        assert ops(await second.read()) == ["remove"]
        await whole(*args)

    monkeypatch.setattr(release, "record", late)
    await first.read()
    assert first.held == {}
    (row,) = await rows_of(vault, "SELECT fields, reason FROM disclosure_state")
    assert (row["fields"], row["reason"]) == (b"", "withdrawn")


async def test_d1_a_page_that_a_removal_overtook_is_decided_again_though_it_changes_nothing_that_is_held(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader would be handed again what the destination has held, been told to delete, and deleted."""
    shop = await open_shop(vault)
    await shop.person("ada")
    first, second = Reader(vault, "email-tool"), Reader(vault, "email-tool")
    await first.read()
    whole = release.record

    async def late(*args: Any) -> None:
        monkeypatch.setattr(release, "record", whole)
        await shop.withdraw("ada", "marketing")
        assert ops(await first.read()) == ["remove"]
        await whole(*args)

    monkeypatch.setattr(release, "record", late)
    assert "upsert" not in ops(await second.read())
    (row,) = await rows_of(vault, "SELECT fields, reason FROM disclosure_state")
    assert (row["fields"], row["reason"]) == (b"", "withdrawn")
    assert len(await rows_of(vault, "SELECT FROM disclosure")) == 1


async def test_who_is_erased_while_the_page_is_recorded_is_not_released_and_leaves_no_row(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    subject: UUID = (await rows_of(vault, "SELECT subject_id FROM subject"))[0][0]
    whole = release.record

    async def late(*args: Any) -> None:
        monkeypatch.setattr(release, "record", whole)
        actor = officer(vault)
        await advance(vault, await open_request(vault, actor, await find(vault, actor, "user_id", "ada"), "erasure"))
        await whole(*args)

    monkeypatch.setattr(release, "record", late)
    reader = Reader(vault, "email-tool")
    await reader.read()
    assert reader.held == {}
    for table in ("disclosure", "audit_salt", "disclosure_state"):
        rows = await rows_of(vault, f"SELECT 1 FROM {table} WHERE subject_id = $1", subject)  # noqa: S608 - ours
        assert rows == [], table


async def test_an_empty_page_leaves_no_entry(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    reader = Reader(vault, "email-tool")
    await reader.read()
    before = await audited(vault, *Tag)
    for _ in range(3):
        assert await reader.read() == []
    assert await audited(vault, *Tag) == before
