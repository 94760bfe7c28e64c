"""Somebody who owns the database takes tombstones away: the journal has them all (threats D1, D15)."""

from typing import NoReturn

import pytest

from tests.flows.rights_world import officer, rows_of
from tests.worlds import World, identify, say
from vault.audit.entry import Tag, parse
from vault.errors import Unavailable
from vault.flows.find import find
from vault.flows.graves import restore_graves
from vault.flows.honour import erase
from vault.flows.honour.intake import open_request
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure, Tombstone
from vault.worker import run

STONES = "SELECT tag, until, suppress, objected FROM tombstone ORDER BY tag"


async def erased(world: World) -> None:
    """Ada, who objected to marketing, is erased."""
    await world.send(identify("ada", email="ada@example.com"))
    await world.choose(say("marketing", "objected"), user="ada")
    actor = officer(world.vault)
    await open_request(world.vault, actor, await find(world.vault, actor, "user_id", "ada"), "erasure")


async def failures(vault: Vault) -> list[object]:
    leaves = await rows_of(vault, "SELECT leaf FROM audit UNION ALL SELECT leaf FROM audit_in")
    return [dict(e.detail) for row in leaves if (e := parse(row[0])).tag is Tag.INTEGRITY_CHECK_FAILED]


@pytest.mark.parametrize(
    "edit", ["DELETE FROM tombstone", "UPDATE tombstone SET until = 0", "UPDATE tombstone SET objected = 0"]
)
async def test_d1_tombstones_that_were_deleted_or_lowered_are_put_back_and_it_is_on_record(
    world: World, edit: str
) -> None:
    vault = world.vault
    await erased(world)
    before = [tuple(row) for row in await rows_of(vault, STONES)]
    assert len(before) == 2
    async with vault.database.hot() as connection:
        await connection.execute(edit)
    await run(vault, once=True)
    assert [tuple(row) for row in await rows_of(vault, STONES)] == before
    assert await failures(vault) == [{"check": "tombstones", "entries": 2}]
    outcome = await world.send(identify("ada", email="ada@example.com", at="2020-01-01T00:00:00Z"))
    assert outcome.stored == 0
    assert await restore_graves(vault) == 0


async def test_an_erasure_whose_commit_never_came_buries_nobody(world: World) -> None:
    vault = world.vault
    await world.send(identify("ada", email="ada@example.com"))
    subject = await world.subject("ada")
    assert subject is not None
    stone = Tombstone(bytes(16), 1, vault.clock.now(), suppress=False, objected=0)
    await vault.journal.append([Erasure(vault.clock.now(), subject, (subject,), (stone,))])
    assert await restore_graves(vault) == 0
    assert await rows_of(vault, STONES) == []


async def test_d7_an_erasure_that_is_about_to_commit_is_no_tampering(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says in the journal what it will do, and another process that starts just then compares."""
    vault, actor = world.vault, officer(world.vault)
    await world.send(identify("ada", email="ada@example.com"))
    ref = await find(vault, actor, "user_id", "ada")
    await open_request(vault, actor, ref, "access")  # beside an open request an erasure goes step by step

    def lost(*_: object) -> NoReturn:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(erase, "take", lost)
        with pytest.raises(Unavailable):
            await open_request(vault, actor, ref, "erasure")
    await restore_graves(vault)
    assert await failures(vault) == []
    await run(vault, once=True)
    assert len(await rows_of(vault, STONES)) == 2
    assert await failures(vault) == []
