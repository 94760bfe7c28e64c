"""Claims about the erasure that is carried out in one transaction: it is the same as the one by steps, or it is none."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.flows.feed_world import open_shop
from tests.flows.rights_world import gave, officer, person, rows_of
from tests.worlds import World, identify, order
from vault.audit.entry import parse
from vault.errors import Gone, Unavailable
from vault.flows import lookup
from vault.flows.find import find, resolve_ref
from vault.flows.honour import at_once, intake
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import fetch_archive, fetch_certificate, open_request
from vault.flows.honour.opened import Desk
from vault.flows.replay import replay
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure
from vault.keys import names
from vault.rights import store
from vault.rights.casefile import CaseFile, open_case
from vault.rights.request import Step
from vault.storage.session import Raw, raw

EMAIL = "ada.planted@example.com"
ADA = ("email", "ada@planted.example")
CONSENTS = ("marketing", "analytics", "advertising")
TIMES = ("issued_at", "request", "certificate", "destroyed_at", "entry", "person", "received_at", "id", "audit")
TABLES = (
    "subject",
    "keys.subject_key",
    "event",
    "erased",
    "tombstone",
    "due",
    "casefile",
    "recipient_notice",
    "request",
)


async def _steps(*_: object) -> None:
    """The erasure is taken step by step."""


async def _erase(vault: Vault, *, email: str) -> UUID:
    subject = await person(vault, {"email": email, "user_id": email}, {"email": email}, orders=2, consents=CONSENTS)
    await gave(vault, "email-tool", subject, "trait:email", "identifier:email")
    actor = officer(vault)
    return await open_request(vault, actor, await find(vault, actor, "email", email), "erasure")


async def _shape(vault: Vault, request: UUID) -> dict[str, Any]:
    """What an erasure left: the certificate without times and ids, the rows of each table, the kinds of its leaves."""
    document = (await fetch_certificate(vault, officer(vault), request))["document"]
    said = {name: value for name, value in document.items() if not any(part in name for part in TIMES)}
    counts = {t: len(await rows_of(vault, f"SELECT 1 FROM {t}")) for t in TABLES}  # noqa: S608 - names above
    leaves = [parse(bytes(row[0])) for row in await rows_of(vault, "SELECT leaf FROM audit_in")]
    return {
        "certificate": json.dumps(said, sort_keys=True),
        "rows": counts,
        "leaves": sorted((leaf.tag, leaf.actor == officer(vault).label, leaf.subject is None) for leaf in leaves),
    }


async def test_in_one_go_and_step_by_step_leave_the_same(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await _erase(vault, email=EMAIL)
    await advance(vault, first)
    once = await _shape(vault, first)
    monkeypatch.setattr(intake, "erase_at_once", _steps)
    second = await _erase(vault, email="bob.planted@example.com")
    await advance(vault, second)
    both = await _shape(vault, second)
    assert both["certificate"] == once["certificate"]
    assert both["rows"] == {table: 2 * count for table, count in once["rows"].items()}
    assert [tag for tag in both["leaves"] if tag not in once["leaves"]] == []
    assert len(both["leaves"]) == 2 * len(once["leaves"]) - 1  # the policies were applied once


def _between(vault: Vault, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]) -> None:
    """`act` happens once, when the person was read and before they are locked."""
    whole = vault.journal.append
    left = [act]

    async def append(entries: list[Any]) -> int:
        if left and any(isinstance(one, Erasure) for one in entries):
            await left.pop()()
        return await whole(entries)

    monkeypatch.setattr(vault.journal, "append", append)


async def test_b8_what_a_writer_stored_meanwhile_goes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    vault = world.vault
    actor = officer(vault)
    _between(vault, monkeypatch, lambda: world.send(order("u-1", 20), identify("u-1", email="ada.two@example.com")))
    request = await open_request(vault, actor, await find(vault, actor, "user_id", "u-1"), "erasure")
    await advance(vault, request)
    found = (await fetch_certificate(vault, actor, request))["document"]
    assert [one["purpose"] for one in found["kept"]] == ["accounting"]
    assert len(await rows_of(vault, "SELECT 1 FROM tombstone")) == 4  # the second address and the order, too
    assert len(await rows_of(vault, "SELECT 1 FROM request")) == 1
    assert await rows_of(vault, "SELECT 1 FROM identity") == []
    assert [name for name in vault.keystore.names() if name.startswith("case-")] == [f"case-{request}"]


async def _case(vault: Vault, request: UUID) -> CaseFile:
    async with vault.database.begin() as connection:
        sealed = await store.get_case(connection, request)
    assert sealed is not None
    return open_case(vault.keyring.key(names.case(request)), request, sealed)


async def test_d1_who_got_values_after_the_person_was_read_is_in_the_case_and_owes_an_answer(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    _between(vault, monkeypatch, lambda: lookup.traits(vault, "email-tool", *ADA))
    actor = officer(vault)
    request = await open_request(vault, actor, await find(vault, actor, *ADA), "erasure")
    assert [one.name for one in (await _case(vault, request)).recipients] == ["email-tool"]
    assert len(await rows_of(vault, "SELECT 1 FROM recipient_notice")) == 1
    await advance(vault, request)
    document = (await fetch_certificate(vault, actor, request))["document"]
    assert [one["destination"] for one in document["due"]] == ["email-tool"]


async def test_d1_a_lookup_that_is_being_recorded_is_waited_for_before_recipients_are_read(vault: Vault) -> None:
    """Lookups hold the row of wraps and not the state row, so a lock of the state rows alone would miss it."""
    shop = await open_shop(vault)
    await shop.person("ada")
    actor = officer(vault)
    ref = await find(vault, actor, *ADA)
    async with vault.database.begin() as holding:
        driver = await raw(holding)
        (subject,) = [row[0] for row in await driver.fetch("SELECT subject_id FROM keys.subject_key FOR KEY SHARE")]
        task = asyncio.create_task(open_request(vault, actor, ref, "erasure"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(30), vault.database.hot() as looking:
            while not await looking.fetchval(waiting):
                pass
        await driver.execute(
            "INSERT INTO disclosure_state (subject_id, destination, fields, gone) VALUES ($1, 2, '\\x0001', '')",
            subject,
        )
    assert [one.name for one in (await _case(vault, await task)).recipients] == ["email-tool"]


async def test_d7_a_busy_person_is_erased_step_by_step_and_no_key_of_a_case_is_left_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits too long for a lock has changed nothing."""
    await world.send(identify("u-1", email="ada@example.com"))
    vault, whole = world.vault, at_once._take
    actor = officer(vault)
    ref = await find(vault, actor, "user_id", "u-1")

    async def impatient(driver: Raw, desk: Desk) -> None:
        await driver.execute("SET LOCAL lock_timeout = '100ms'")
        async with vault.database.begin() as busy:
            await (await raw(busy)).execute("SELECT FROM subject FOR UPDATE")
            await whole(driver, desk)

    monkeypatch.setattr(at_once, "_take", impatient)
    request = await open_request(vault, actor, ref, "erasure")
    assert [name for name in vault.keystore.names() if name.startswith("case-")] == [f"case-{request}"]
    await advance(vault, request)
    assert (await fetch_certificate(vault, actor, request))["document"]["revision"] == 1


@pytest.mark.parametrize("where", ["journal", "transaction"])
async def test_d7_an_erasure_that_certainly_did_not_happen_leaves_no_key_of_a_case(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    vault, actor = world.vault, officer(world.vault)
    ref = await find(vault, actor, "user_id", "u-1")

    async def broken(*_: object) -> int:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(*((vault.journal, "append") if where == "journal" else (at_once, "_destroy")), broken)
        with pytest.raises(Unavailable):
            await open_request(vault, actor, ref, "erasure")
    assert [name for name in vault.keystore.names() if name.startswith("case-")] == []
    assert await rows_of(vault, "SELECT 1 FROM erased") == []


async def test_h6_an_erasure_that_the_key_service_refused_is_not_carried_out_by_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The officer heard 503, and holds no request: what the journal says, the next start does."""
    await world.send(identify("u-1", email="ada@example.com"))
    vault, actor = world.vault, officer(world.vault)
    ref = await find(vault, actor, "user_id", "u-1")

    def away(_: object, name: str) -> int:
        raise Unavailable(name)

    with monkeypatch.context() as patch:
        patch.setattr(type(vault.keyring), "make", away)
        with pytest.raises(Unavailable):
            await open_request(vault, actor, ref, "erasure")
    assert (await replay(vault)).erased == 0
    assert len(await rows_of(vault, "SELECT 1 FROM keys.subject_key")) == 1


async def test_d7_the_key_of_a_case_stays_where_the_commit_may_have_happened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send(identify("u-1", email="ada@example.com"))
    vault, actor = world.vault, officer(world.vault)
    ref = await find(vault, actor, "user_id", "u-1")
    whole = vault.database.begin

    @asynccontextmanager
    async def unheard() -> AsyncIterator[AsyncConnection]:
        """Committed, and the answer of the server is lost."""
        async with whole() as connection:
            yield connection
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(vault.database, "begin", unheard)
        with pytest.raises(Unavailable):
            await at_once.erase_at_once(vault, actor, UUID(actor.id), await resolve_ref(vault, actor, ref))
    (request,) = [row[0] for row in await rows_of(vault, "SELECT request_id FROM erased")]
    assert (await _case(vault, request)).request_id == request
    await advance(vault, request)


async def test_an_access_request_of_that_moment_is_not_answered_with_the_erased_person(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(vault, {"email": EMAIL}, {"email": EMAIL}, orders=1, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    opened: list[UUID] = []

    async def asked() -> None:
        opened.append(await open_request(vault, actor, ref, "access"))
        await advance(vault, opened[0])

    _between(vault, monkeypatch, asked)
    request = await open_request(vault, actor, ref, "erasure")
    assert await rows_of(vault, "SELECT 1 FROM archive") == []
    assert await rows_of(vault, "SELECT 1 FROM request WHERE subject_id IS NOT NULL") == []
    assert len(await rows_of(vault, "SELECT 1 FROM erased WHERE request_id = $1", request)) == 1
    with pytest.raises(Gone):
        await fetch_archive(vault, actor, opened[0])


async def test_what_was_stored_is_counted_before_the_first_row_goes(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await _erase(vault, email=EMAIL)
    (row,) = await rows_of(vault, "SELECT step, detail FROM request")
    assert row[0] == Step.ROWS
    assert json.loads(row[1])["stores"] == {"keys": 1}
    await advance(vault, request)
    stores = (await fetch_certificate(vault, officer(vault), request))["document"]["stores"]
    rows = {one["store"]: one["rows"] for one in stores}
    assert rows["events"] >= 2
    assert rows["keys"] == rows["states"] == 1


async def test_d8_two_officers_at_once_carry_out_one_erasure(vault: Vault) -> None:
    await person(vault, {"email": EMAIL}, {"email": EMAIL}, orders=1, consents=CONSENTS)
    actor = officer(vault)
    ref = await find(vault, actor, "email", EMAIL)
    both = await asyncio.gather(*[open_request(vault, actor, ref, "erasure") for _ in range(4)])
    assert len(set(both)) == 1
    assert len(await rows_of(vault, "SELECT 1 FROM request")) == 1
    assert len([name for name in vault.keystore.names() if name.startswith("case-")]) == 1
