"""Claims about the scan for what an erasure left (threats D3, D5, D10): it finds what is there, and explains what may be."""

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import FakeClock
from tests.flows.rights_world import officer, rows_of
from tests.worlds import World, identify, message, order, say, track
from vault.audit.entry import Tag
from vault.errors import Conflict, NotFound
from vault.flows import lookup
from vault.flows.find import find
from vault.flows.honour.advance import advance, advance_all
from vault.flows.honour.intake import fetch_archive, fetch_certificate, open_request
from vault.flows.honour.scanned import scan_erasure
from vault.flows.residue.needles import Needles, Pattern
from vault.flows.residue.scan import indexed
from vault.flows.residue.verdict import STATISTICS, Report
from vault.ids import uuid7
from vault.keys import names
from vault.rights.casefile import ANSWER_WITHIN
from vault.storage.session import raw

EMAIL = "ada@example.com"


async def _lived(world: World) -> UUID:
    """Ada did everything that leaves a trace, and was erased: her request, certified. Bob did the same and stays."""
    for who, mail in (("ada", EMAIL), ("bob", "bob@example.com")):
        await world.send(
            track("Product Viewed", anon=f"device-{who}", name="kettle"),
            identify(who, anon=f"device-{who}", email=mail, firstName=who),
            order(who, 20, order_id=f"order-{who}"),
            {"type": "group", "userId": who, "groupId": "acme", "messageId": f"g-{who}", "traits": {"name": "Acme"}},
        )
        await world.send(order(None, 5, anon=f"old-{who}"))
        await world.send(message("alias", who, previousId=f"old-{who}"))  # two subjects, one person
        await world.choose(say("personalisation", "withdrawn"), user=who)
    await world.feeds()
    await lookup.traits(world.vault, "support-desk", "email", EMAIL)
    actor = officer(world.vault)
    ref = await find(world.vault, actor, "email", EMAIL)
    for _ in range(2):  # one is fetched, one waits
        access = await open_request(world.vault, actor, ref, "access")
        await advance(world.vault, access)
    await fetch_archive(world.vault, actor, access)
    await world.send(track("Product Reviewed", "ada", rating=5))  # a change that no destination has read yet
    request = await open_request(world.vault, actor, ref, "erasure")
    await world.settle()
    return request


async def _members(world: World) -> list[UUID]:
    return [UUID(bytes=row[0].bytes) for row in await rows_of(world.vault, "SELECT subject_id FROM erased")]


def _places(report: Report) -> set[str]:
    return {one.store for one in report.residue}


async def test_d5_after_an_erasure_nothing_is_left_that_nothing_explains(world: World) -> None:
    request = await _lived(world)
    await rows_of(world.vault, "ANALYZE")
    report, revision = await scan_erasure(world.vault, request, record=True)
    assert report.residue == ()
    why = {one.store: one.why for one in report.found}
    assert {"public.erased.subject_id", "public.request.detail", "public.dedup.event_key", "journal"} <= set(why)
    assert {"public.disclosure_state.subject_id", "public.recipient_notice.subject_id"} <= set(why)
    assert all(why.values())
    assert report.looked_for["known_from"] == "case file"
    assert report.looked_for["subjects"] == len(await _members(world)) == 2
    assert int(report.looked_for["tags"]) >= 3
    assert int(report.looked_for["compartments"]) >= 3
    assert int(report.looked_for["event_keys"]) >= 3
    assert int(report.looked_for["pseudonyms"]) >= 4
    document = (await fetch_certificate(world.vault, officer(world.vault), request))["document"]
    assert document["revision"] == revision == 2
    assert document["whole_scan"] == report.shown()
    assert document["scan"]["how"] == "by index"
    assert {one["scan"] for one in document["stores"]} == {"by index: nothing left"}


async def test_d5_once_all_have_answered_only_what_lasts_remains(world: World, clock: FakeClock) -> None:
    request = await _lived(world)
    clock.advance(micros=ANSWER_WITHIN)
    await world.settle()  # the case died; who never answered is overdue
    async with world.vault.database.hot() as driver:
        await driver.execute("UPDATE request SET step = 'answers'")
    report, _ = await scan_erasure(world.vault, request, record=False)
    assert report.looked_for["known_from"] == "journal"
    assert report.looked_for["subjects"] == len(await _members(world))
    assert report.residue == ()


async def test_a_table_of_tomorrow_is_looked_at_in_every_form_in_which_an_id_may_stand(world: World) -> None:
    request = await _lived(world)
    member = (await _members(world))[0]
    raw = member.bytes
    async with world.vault.database.hot() as driver:
        await driver.execute(
            "CREATE SCHEMA plugin; CREATE TABLE plugin.later (n int, plain uuid, packed bytea, note text, doc jsonb, many uuid[])"
        )
        insert = "INSERT INTO plugin.later (n, {0}) VALUES (1, $1)"
        await driver.execute(insert.format("plain"), member)
        await driver.execute(insert.format("packed"), b"\x01\x02" + raw + bytes(9000))
        await driver.execute(insert.format("packed"), b'{"id":"' + str(member).encode() + b'"}')
        await driver.execute(insert.format("note"), f"seen {raw.hex().upper()} there")
        await driver.execute(
            insert.format("doc"), '{"cursor":"' + base64.urlsafe_b64encode(b"ab" + raw).decode() + '"}'
        )
        await driver.execute(insert.format("many"), [uuid7(world.now()), member])
    report, _ = await scan_erasure(world.vault, request, record=False)
    found = {one.store: one.rows for one in report.residue}
    assert found == {
        "plugin.later.plain": 1, "plugin.later.packed": 2, "plugin.later.note": 1, "plugin.later.doc": 1,
        "plugin.later.many": 1,
    }  # fmt: skip


LEFT: dict[str, Callable[[UUID, bytes], tuple[str, tuple[Any, ...]]]] = {
    "public.compartment.subject_id": lambda one, _: (
        "INSERT INTO compartment VALUES ($1, 1, 1, $2, 1, '')", (one, bytes(16)),
    ),
    "keys.subject_key.subject_id": lambda one, _: ("INSERT INTO keys.subject_key VALUES ($1, 1, '')", (one,)),
    "public.identity.tag": lambda one, tag: ("INSERT INTO identity VALUES ($2, $1)", (one, tag)),
    "public.link.root": lambda one, _: (
        "INSERT INTO link VALUES ($2, $1, '', 1, 1, 1, true, 1, NULL)", (one, UUID(int=7)),
    ),
    "public.request.subject_id": lambda one, _: (
        "INSERT INTO request VALUES ($2, 'access', 'completed', 'done', $1, 1, 1, NULL, $2, '', NULL)", (one, UUID(int=7)),
    ),
    "public.disclosure_state.fields": lambda one, _: (
        "UPDATE disclosure_state SET fields = '\\x0001' WHERE subject_id = $1", (one,),
    ),
    "public.audit_salt.subject_id": lambda one, _: (
        "INSERT INTO audit_salt VALUES ($1, $2, '')", (one, UUID(int=7)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", LEFT)
async def test_a_row_that_stayed_is_found_by_index_and_named_in_the_certificate(world: World, place: str) -> None:
    await world.send(identify("ada", email=EMAIL))
    await world.feeds()
    vault, actor = world.vault, officer(world.vault)
    tag = (await rows_of(vault, "SELECT tag FROM identity"))[0][0]
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "erasure")
    await advance(vault, request)
    root = (await rows_of(vault, "SELECT DISTINCT subject_id FROM disclosure_state"))[0][0]
    async with vault.database.begin() as transaction:
        assert (await indexed(vault, await raw(transaction), request, waiting=True)).residue == ()
    statement, arguments = LEFT[place](root, tag)
    async with vault.database.hot() as driver:
        await driver.execute(statement, *arguments)
    async with vault.database.begin() as transaction:
        assert _places(await indexed(vault, await raw(transaction), request, waiting=True)) == {place}
    report, revision = await scan_erasure(vault, request, record=True)
    also = {"public.identity.subject_id"} if place == "public.identity.tag" else set()  # no index leads there
    assert _places(report) - also == {place}
    document = (await fetch_certificate(vault, actor, request))["document"]
    assert document["revision"] == revision
    assert {one["store"] for one in document["whole_scan"]["residue"]} == {place} | also
    async with vault.database.hot() as driver:
        await driver.execute("DELETE FROM keys.subject_key WHERE wraps = ''")  # what nobody can have is read at the end
    assert len(await world.audited(Tag.INTEGRITY_CHECK_FAILED)) == 1


async def test_no_certificate_is_issued_while_something_is_left_and_the_request_says_why(
    world: World, clock: FakeClock
) -> None:
    """The eraser does not know this table, and cannot empty it."""
    await world.send(identify("ada", email=EMAIL))
    vault, actor = world.vault, officer(world.vault)
    request = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "erasure")
    async with vault.database.hot() as driver:
        await driver.execute("CREATE TABLE later (subject_id uuid PRIMARY KEY)")
        await driver.execute("INSERT INTO later SELECT subject_id FROM erased")
    with pytest.raises(Conflict) as refused:
        await advance(vault, request)
    assert refused.value.reason == "residue_left"
    assert await rows_of(vault, "SELECT FROM certificate") == []
    await advance_all(vault)
    (row,) = await rows_of(vault, "SELECT convert_from(detail, 'UTF8')::jsonb ->> 'failed' FROM request")
    assert row[0] == "residue_left"
    report, revision = await scan_erasure(vault, request, record=True)
    assert (_places(report), revision) == ({"public.later.subject_id"}, None)
    async with vault.database.hot() as driver:
        await driver.execute("DROP TABLE later")
    clock.advance(3600)
    await advance_all(vault)
    assert (await fetch_certificate(vault, actor, request))["document"]["revision"] == 1


async def test_files_are_read_and_their_names(world: World) -> None:
    request = await _lived(world)
    member = (await _members(world))[0]
    settings = world.vault.settings
    (settings.data_dir / "tmp").mkdir(parents=True)
    (settings.data_dir / "tmp" / "page").write_bytes(bytes(3_000_000) + member.bytes)
    (settings.data_dir / f"export-{member}.zip").touch()
    (settings.keyring / "note").write_text(member.hex)
    report, _ = await scan_erasure(world.vault, request, record=False)
    assert {(one.store, one.rows) for one in report.residue} == {("data folder", 2), ("key store", 1)}


async def test_the_key_of_a_closed_case_is_residue(world: World, clock: FakeClock) -> None:
    request = await _lived(world)
    clock.advance(micros=ANSWER_WITHIN)
    await world.settle()
    assert names.case(request) not in world.vault.keystore.names()
    world.vault.keyring.make(names.case(request))
    report, _ = await scan_erasure(world.vault, request, record=False)
    assert _places(report) == {"key of a case that is closed"}


async def test_d2_whoever_comes_back_with_the_same_address_is_no_residue_of_the_erased_person(
    world: World, clock: FakeClock
) -> None:
    request = await _lived(world)
    clock.advance(2 * 86_400)
    await world.send(identify("ada", email=EMAIL))
    report, _ = await scan_erasure(world.vault, request, record=False)
    assert report.residue == ()
    again = {one.store for one in report.found if one.why is not None and "by itself" in one.why}
    assert again == {"public.identity.tag", "public.identifier.tag"}


async def test_samples_of_the_planner_are_named_until_the_next_analyze(world: World) -> None:
    vault, actor = world.vault, officer(world.vault)
    for who in ("ada", "eve", "bob"):
        await world.send(identify(who, email=f"{who}@example.com"))
    await rows_of(vault, "ANALYZE")
    request = await open_request(vault, actor, await find(vault, actor, "email", "eve@example.com"), "erasure")
    await advance(vault, request)
    before, _ = await scan_erasure(vault, request, record=False)
    (sampled,) = [one for one in before.found if one.store == STATISTICS]
    assert sampled.why is not None
    await rows_of(vault, "ANALYZE")
    after, _ = await scan_erasure(vault, request, record=False)
    assert STATISTICS not in {one.store for one in after.found if one.rows == sampled.rows}


async def test_only_an_erasure_whose_keys_are_gone_is_scanned(world: World) -> None:
    await world.send(identify("ada", email=EMAIL))
    vault, actor = world.vault, officer(world.vault)
    access = await open_request(vault, actor, await find(vault, actor, "email", EMAIL), "access")
    for unknown in (access, uuid7(world.now())):
        with pytest.raises(NotFound):
            await scan_erasure(vault, unknown, record=True)


@pytest.mark.parametrize("write", [
    lambda one: b"x" + one.bytes, lambda one: str(one).encode(), lambda one: str(one).upper().encode(),
    lambda one: one.hex.encode(), lambda one: base64.b64encode(b"x" + one.bytes), lambda one: base64.b64encode(one.bytes),
    lambda one: base64.urlsafe_b64encode(b"xy" + one.bytes + b"z"),
])  # fmt: skip
def test_a_pattern_finds_an_id_however_it_was_written(write: Callable[[UUID], bytes]) -> None:
    one = UUID("0192f3a1-5b3c-7d2e-8f00-fbffbe345678")
    pattern = Pattern(Needles(source="case file", subjects=(one,)))
    assert pattern.found(bytes(100) + write(one) + bytes(100))
    assert not pattern.found(bytes(100) + write(UUID(int=~one.int % 2**128)) + bytes(100))
