"""The state audit finds what no single read can: rows put back together, and rows that stand under no code of their own.

Each time somebody owns the database and holds no key. On a vault that nobody touched it finds nothing.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, superuser
from tests.worlds import World, identify, order, preference, say
from vault.flows.sweep.audit import audit_state
from vault.flows.sweep.finding import Check
from vault.flows.vault import Vault

PERSONAL = (
    "subject", "keys.subject_key", "compartment", "event", "ledger", "identifier", "link", "disclosure", "audit_salt",
)  # fmt: skip


@pytest.fixture
async def owner(vault: Vault) -> AsyncIterator[asyncpg.Connection]:
    opened = await superuser(vault)
    yield opened
    await opened.close()


async def found(vault: Vault) -> set[tuple[Check, UUID | None]]:
    report = await audit_state(vault)
    return {(one.check, one.subject) for one in report.findings}


async def town(world: World) -> dict[str, UUID]:
    """Three people with orders, feeds that were read, one of them joined with a device."""
    for name in ("ada", "bea", "cleo"):
        await world.send(identify(name, email=f"{name}@planted.example", firstName=name.title()), order(name, 250))
    await world.send(identify("ada", anon="device-1"), order(anon="device-1"))
    await world.settle()
    for destination in world.vault.catalogue.contracts:
        await Reader(world.vault, destination).read()
    await world.settle()
    people = {}
    for name in ("ada", "bea", "cleo"):
        subject = await world.subject(name)
        assert subject is not None
        people[name] = subject
    return people


async def keep_yesterday(owner: asyncpg.Connection) -> None:
    await owner.execute("DROP SCHEMA IF EXISTS old CASCADE; CREATE SCHEMA old")
    for table in PERSONAL:
        await owner.execute(f"CREATE TABLE old.{table.rpartition('.')[2]} AS SELECT * FROM {table}")  # noqa: S608 - ours


async def put_back(owner: asyncpg.Connection, subject: UUID, tables: tuple[str, ...] = PERSONAL) -> None:
    """Everything of one person as it was: consistent with itself."""
    for table in tables:
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", subject)  # noqa: S608 - ours
        await owner.execute(
            f"INSERT INTO {table} SELECT * FROM old.{table.rpartition('.')[2]} WHERE subject_id = $1",  # noqa: S608
            subject,
        )


async def test_a_vault_that_nobody_touched_agrees(world: World, clock: FakeClock) -> None:
    people = await town(world)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.send(preference("bea", advertising=False))
    await world.settle()
    report = await audit_state(world.vault)
    assert report.findings == []
    assert report.people >= len(people)
    assert report.narrowings >= 4
    assert report.tags >= 7
    assert report.good


async def test_a_whole_person_put_back_is_found_and_named(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """A6, A20: nothing of it fails at a read. The journal names the person, the log counts what nobody explains."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.settle()
    await put_back(owner, people["ada"])
    await owner.execute("INSERT INTO change_in (subject_id) VALUES ($1)", people["ada"])
    await world.settle()
    reader = Reader(world.vault, "email-tool")
    await reader.read()
    assert "ada@planted.example" in reader.emails()  # a single read is deceived: hence the audit
    assert await found(world.vault) == {(Check.NARROWING, people["ada"]), (Check.LEAVES, None)}


async def test_a_whole_person_put_back_under_the_salts_of_today_is_found(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """Whoever leaves the salts where they are leaves leaves that accuse the person."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.settle()
    await put_back(owner, people["ada"], tuple(one for one in PERSONAL if one != "audit_salt"))
    assert (Check.LOG, people["ada"]) in await found(world.vault)
