"""What a restore puts in place before the data is loaded: nothing of another vault, and a key store whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.worlds import World
from vault import durable
from vault.config import Settings
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError, Invalid
from vault.flows.backup.archive import Manifest, digest_of, write_manifest
from vault.flows.backup.restore import Archives, put_back
from vault.flows.keys_backup import back_up
from vault.keys import names
from vault.keys.keystore import KeyStore


class Killed(Exception):
    """Stands for kill -9."""


@pytest.fixture
async def archives(world: World, tmp_path: Path) -> Archives:
    """A backup of the vault of `world`; its data is none, since these tests end before it is loaded."""
    folder, key = tmp_path / "archives", world.vault.keyring.key(names.JOURNAL)
    folder.mkdir()
    await back_up(world.vault, folder / "keys.tar")
    (folder / "data.dump").write_bytes(b"no dump")
    for kind, path in (("data", folder / "data.dump"), ("keys", folder / "keys.tar")):
        size, digest = digest_of(path)
        made = Manifest(1, kind, "s", "2026-01-01", None, "1", path.name, size, digest, {"server": 1})  # type: ignore[arg-type]
        write_manifest(path, made, key)
    return Archives(folder / "data.dump", folder / "keys.tar")


@pytest.fixture
def elsewhere(world: World, tmp_path: Path, empty_url: str) -> Settings:
    """A fresh machine with the root key of that vault."""
    return msgspec.structs.replace(
        world.vault.settings,
        keyring=tmp_path / "new" / "keyring",
        journal=tmp_path / "new" / "journal",
        database_url=empty_url,
    )


def opener(settings: Settings) -> Callable[[Path], bytes]:
    def journal_key(folder: Path) -> bytes:
        return KeyStore(folder, LocalKeyService.from_path(settings.key_file)).read(names.JOURNAL)[1]

    return journal_key


async def test_archives_of_another_vault_leave_nothing_behind(archives: Archives, elsewhere: Settings) -> None:
    with pytest.raises(Invalid) as told:
        await put_back(elsewhere, archives, lambda _: bytes(32))
    assert told.value.reason == "bad_backup"
    assert not list(elsewhere.keyring.glob("*"))
    assert not elsewhere.journal.exists()  # type: ignore[union-attr]


@pytest.mark.parametrize("last", ["journal.key", "made.json", "state.key"])
@pytest.mark.parametrize("step", ["written", "taken_up"])
async def test_h7_a_restore_that_was_killed_among_the_keys_is_done_again_with_all_of_them(
    world: World, archives: Archives, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch, last: str, step: str
) -> None:
    write, rename = durable.create, Path.rename

    def create(path: Path, data: bytes) -> None:
        write(path, data)
        if step == "written" and path.name == last:
            raise Killed

    def take_up(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if step == "taken_up" and path.name == last:
            raise Killed
        return moved

    with monkeypatch.context() as killed:
        killed.setattr(durable, "create", create)
        killed.setattr(Path, "rename", take_up)
        with pytest.raises(Killed):
            await put_back(elsewhere, archives, opener(elsewhere))
    with pytest.raises(ConfigError):  # there is no journal here, which is asked for once the keys are in place
        await put_back(elsewhere, archives, opener(elsewhere))
    store = KeyStore(elsewhere.keyring, LocalKeyService.from_path(elsewhere.key_file))
    assert store.names() == world.vault.keystore.names()
    assert store.lost() == []
    assert not list(elsewhere.keyring.glob(".restored*"))
