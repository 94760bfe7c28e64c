"""Data from before a rotation, whose epochs are destroyed, goes back with the wraps of a later backup of keys (threats D6, H8)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.flows.restored import ROOT, Backups
from tests.flows.rights_world import officer
from tests.worlds import identify, order, say
from vault.config import Settings
from vault.errors import NotFound
from vault.flows.backup.keys import bring_up
from vault.flows.find import find
from vault.flows.honour.at_once import erase_at_once
from vault.flows.keys_backup import back_up
from vault.flows.rotate import rotate
from vault.ids import uuid7
from vault.keys import names
from vault.storage import embedded
from vault.storage.session import Database


@pytest.fixture
async def backups(
    server: embedded.Server, database_url: str, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Backups]:
    settings = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
    )
    made = Backups(server, settings, clock)
    yield made
    await made.drop()


@pytest.mark.parametrize("with_wraps", [True, False])
async def test_d6_old_data_opens_after_a_rotation_for_everybody_but_who_was_erased(
    backups: Backups, tmp_path: Path, with_wraps: bool
) -> None:
    async with backups.open() as world:
        for name in ("ada", "bob", "cy"):
            await world.send(identify(name, email=f"{name}@example.com", firstName=name.title()), order(name, 300))
        await world.settle()
    copy = await backups.take()
    archive = tmp_path / "keys.tar"
    async with backups.open() as world:
        vault = world.vault
        ada = await world.subject("ada")
        assert ada is not None
        assert await erase_at_once(vault, officer(vault), uuid7(vault.clock.now()), ada)
        await world.choose(say("marketing", "denied"), user="bob")
        await world.settle()
        epochs = [name for name in vault.keystore.names() if names.purpose_of(name) is not None]
        await rotate(vault, epochs)
        await back_up(vault, archive)
        for name in epochs:
            for version in vault.keystore.versions(name)[:-1]:
                vault.keyring.destroy(name, version)
    if with_wraps:
        database = await Database.open(backups.server.url(copy))
        assert await bring_up(database, archive) == 2
        await database.close()
    async with backups.open(copy, accept=True) as world:
        assert world.vault.replayed.erased == 1
        served = [line["traits"].get("firstName") for line in await world.feed("email-tool")]
        assert served == (["Cy"] if with_wraps else [])  # without them nobody opens, and nobody is served
        with pytest.raises(NotFound):
            await find(world.vault, officer(world.vault), "user_id", "ada")
        if with_wraps:
            assert (await world.stands("bob"))["marketing"] == "withdrawn"
            assert "bob@example.com" in str(await world.feed("support-desk"))
            await world.check()
