"""Claims about starting: what is lost or fell behind stops it, and nothing is made anew in its place (promise 12)."""

import shutil
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.catalogue.load import read_folder
from vault.config import Settings
from vault.errors import ConfigError, Unavailable, Unreadable
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal.narrowing import PolicyApplied
from vault.policy import version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
    )


async def start(settings: Settings, clock: FakeClock) -> int:
    """The number of the policy version that is live after the start."""
    async with open_vault(settings, clock=clock) as vault:
        return vault.policy.number


class _Crash(Exception):
    """The process ended here."""


async def apply_another(vault: Vault, *, commit: bool = True) -> None:
    """A second policy version, as `policy apply` makes it; without `commit` the crash comes between journal and commit."""
    files = {**read_folder(ROOT / "policies")}
    files["purposes.toml"] += "\n# reviewed again\n"
    try:
        async with vault.database.begin() as connection:
            applied = await version.apply(connection, files, "olivia", vault.clock.now())
            await vault.journal.append([PolicyApplied(vault.clock.now(), applied.number, applied.digest)])
            detail = {"number": applied.number, "digest": applied.digest.hex()}
            await leave(vault, connection, Tag.POLICY_VERSION_APPLIED, "operator", detail)
            if not commit:
                raise _Crash  # noqa: TRY301 - it stands for the end of the process
    except _Crash:
        pass


async def test_a_vault_opens_again(settings: Settings, clock: FakeClock) -> None:
    assert await start(settings, clock) == 1
    assert await start(settings, clock) == 1


async def test_a_lost_journal_stops_the_start(settings: Settings, clock: FakeClock) -> None:
    await start(settings, clock)
    shutil.rmtree(settings.journal)
    with pytest.raises(Unavailable):
        await start(settings, clock)
    assert not list(settings.journal.glob("*.journal"))


async def test_a7_lost_keys_stop_the_start(settings: Settings, clock: FakeClock) -> None:
    await start(settings, clock)
    shutil.rmtree(settings.keyring)
    with pytest.raises(ConfigError):
        await start(settings, clock)


async def test_a_lost_key_file_is_not_made_anew_beside_keys_that_need_it(settings: Settings, clock: FakeClock) -> None:
    await start(settings, clock)
    settings.key_file.unlink()
    with pytest.raises(ConfigError):
        await start(settings, clock)
    assert not settings.key_file.exists()


async def test_e17_a_policy_version_that_was_taken_out_of_the_database_stops_the_start(
    settings: Settings, clock: FakeClock
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault)
        async with vault.database.hot() as connection:
            await connection.execute("DELETE FROM policy_version WHERE number = 2")
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def test_a_policy_version_whose_commit_never_came_stops_nothing(settings: Settings, clock: FakeClock) -> None:
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault, commit=False)
    assert await start(settings, clock) == 1
