"""Claims about starting: what is lost or fell behind stops it, and nothing is made anew in its place (promise 12)."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from tests.fakes import FakeClock
from vault.bootstrap import open_vault
from vault.canonical import canonical_json
from vault.catalogue.load import digest_of, read_folder
from vault.config import Settings
from vault.errors import ConfigError, Unavailable, Unreadable
from vault.flows.enact import enact
from vault.flows.vault import Vault
from vault.journal.journal import Journal
from vault.journal.narrowing import Narrowing
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


class _Ends:
    """A journal with which the process ends: behind the first word (the commit never comes), or before the second."""

    def __init__(self, journal: Journal, *, commit: bool) -> None:
        self._journal = journal
        self._commit = commit
        self._words = 0
        self.key = journal.key
        self.keep_policy = journal.keep_policy

    async def append(self, entries: Sequence[Narrowing]) -> int:
        if self._words:
            raise _Crash
        self._words += 1
        number = await self._journal.append(entries)
        if not self._commit:
            raise _Crash
        return number


def second() -> dict[str, str]:
    files = {**read_folder(ROOT / "policies")}
    files["purposes.toml"] += "\n# reviewed again\n"
    return files


async def apply_another(vault: Vault, journal: Journal | _Ends | None = None) -> None:
    """A second policy version, as `policy apply` makes it."""
    told = cast("Journal", journal or vault.journal)
    with contextlib.suppress(_Crash):
        await enact(vault.database, told, second(), "olivia", vault.clock.now(), vault.policy)


async def test_a_vault_opens_again(settings: Settings, clock: FakeClock) -> None:
    assert await start(settings, clock) == 1
    assert await start(settings, clock) == 1


async def test_a_lost_journal_stops_the_start(settings: Settings, clock: FakeClock) -> None:
    await start(settings, clock)
    shutil.rmtree(settings.journal_folder)
    with pytest.raises(Unavailable):
        await start(settings, clock)
    assert not list(settings.journal_folder.glob("*.journal"))


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
        await apply_another(vault, _Ends(vault.journal, commit=False))
    assert await start(settings, clock) == 1
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault)
    assert await start(settings, clock) == 2


async def test_a_policy_version_that_was_committed_before_a_crash_is_live_from_then_on(
    settings: Settings, clock: FakeClock
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault, _Ends(vault.journal, commit=True))
    async with open_vault(settings, clock=clock) as vault:  # which tells the journal
        assert vault.policy.number == 2
        await owner_does(vault, "DELETE FROM policy_version WHERE number = 2")
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def owner_does(vault: Vault, statement: str, *values: object) -> None:
    """As somebody who owns the database and holds no key."""
    async with vault.database.hot() as connection:
        await connection.execute(statement, *values)


INSERT = "INSERT INTO policy_version (number, digest, files, applied_at, applied_by) VALUES ($1, $2, $3, 0, 'operator')"


@pytest.mark.parametrize("number", [2, 3, 9])
async def test_e17_a_policy_version_that_somebody_inserted_stops_the_start(
    settings: Settings, clock: FakeClock, number: int
) -> None:
    files = second()
    version.check(files)  # they hold together, and their digest is public arithmetic
    async with open_vault(settings, clock=clock) as vault:
        await owner_does(vault, INSERT, number, digest_of(files), canonical_json(files))
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def test_e17_a_forged_version_is_not_taken_for_one_whose_commit_came_before_a_crash(
    settings: Settings, clock: FakeClock
) -> None:
    files = {**second(), "purposes.toml": second()["purposes.toml"] + "# and wider\n"}
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault, _Ends(vault.journal, commit=False))
        await owner_does(vault, INSERT, 2, digest_of(files), canonical_json(files))
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def test_e17_the_newest_policy_version_deleted_with_its_audit_leaf_stops_the_start(
    settings: Settings, clock: FakeClock
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        await apply_another(vault)
        await owner_does(vault, "DELETE FROM policy_version WHERE number = 2")
        await owner_does(vault, "DELETE FROM audit_in")
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def test_e17_the_files_of_the_live_version_edited_with_its_digest_stop_the_start(
    settings: Settings, clock: FakeClock
) -> None:
    files = second()
    async with open_vault(settings, clock=clock) as vault:
        await owner_does(
            vault, "UPDATE policy_version SET digest = $1, files = $2", digest_of(files), canonical_json(files)
        )
    with pytest.raises(Unreadable):
        await start(settings, clock)


async def test_e17_an_emptied_table_is_no_first_start(settings: Settings, clock: FakeClock) -> None:
    async with open_vault(settings, clock=clock) as vault:
        await owner_does(vault, "DELETE FROM policy_version")
    with pytest.raises(Unreadable):
        await start(settings, clock)
