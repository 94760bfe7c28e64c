"""A whole vault that changes its key service and its root key, over real services: nothing that it holds is lost or opens twice."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from tests.fakes import FakeClock
from tests.keyservices import PIN, ROOT_TOKEN, Services, private
from tests.worlds import World, identify, order
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.cli.moving import move_keys, target_of
from vault.config import Settings
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError, Locked
from vault.flows.browse import audit_verify
from vault.flows.vault import Vault
from vault.keys import names, shelf

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


async def told(vault: Vault, tag: Tag) -> int:
    async with vault.database.hot() as connection:
        rows = await connection.fetch("SELECT leaf FROM audit_in UNION ALL SELECT leaf FROM audit")
    return sum(tag.value.encode() in bytes(row[0]) for row in rows)


async def emails(world: World) -> set[str]:
    await world.settle()
    return {one["traits"]["email"] for one in await world.feed("email-tool")}


async def test_a_vault_moves_to_openbao_to_softhsm_and_home_to_another_root_key_with_all_that_it_holds(
    settings: Settings, services: Services, tmp_path: Path, clock: FakeClock
) -> None:
    prefix, label = f"pv{uuid4().hex[:12]}", f"pv{uuid4().hex[:12]}"
    private(tmp_path / "token", ROOT_TOKEN)
    private(tmp_path / "pin", PIN)
    stops = {
        "transit": f'key_service = "transit"\ntransit_url = "{services.bao.url}"\ntransit_token_file = "token"\n'
        f'key_prefix = "{prefix}"',
        "pkcs11": f'key_service = "pkcs11"\npkcs11_module = "{services.module(label)}"\npkcs11_token = "{label}"\n'
        f'pkcs11_pin_file = "pin"\nkey_prefix = "{prefix}"',
        "local": 'key_file = "root-2.key"\npublic_url = "https://not.taken.example"',
    }
    async with open_vault(settings, clock=clock) as vault:
        world = await World.of(vault)
        await world.send(identify("u-0", email="at-local@example.com"), order("u-0", 20))
    wanted = {"at-local@example.com"}
    for kind, text in stops.items():
        file = private(tmp_path / f"{kind}.toml", text)
        before = settings
        clock.advance(60)  # nobody holds the leases of before
        moved = await move_keys(before, file, clock)
        assert (moved.before, moved.now) == (before.service.kind, kind)
        settings = target_of(before, file)
        assert settings.public_url is None
        with pytest.raises(ConfigError, match="the key service does not open"):
            async with open_vault(before, clock=clock):
                pass
        async with open_vault(settings, clock=clock) as vault:
            world = World(vault, world.sources)
            await world.send(identify(f"u-{kind}", email=f"at-{kind}@example.com"), order(f"u-{kind}", 20))
            wanted.add(f"at-{kind}@example.com")
            assert await emails(world) == wanted
            await world.check()
    again = await move_keys(before, file, clock)  # the same command once more is harmless
    assert again.keys == 0
    async with open_vault(settings, clock=clock) as vault:
        clock.advance(60)
        await World(vault, world.sources).settle()
        assert await told(vault, Tag.KEY_MOVE_BEGUN) == len(stops)
        assert await told(vault, Tag.KEY_MOVE_DONE) == len(stops) + 1
        assert (await audit_verify(vault))["ok"]
    folder = tmp_path / "handed"
    LocalKeyService.from_path(tmp_path / "root.key").hand_out(folder, frozenset({"state"}), frozenset())
    with pytest.raises(ConfigError, match="another root key"):  # a folder of before is not taken for one of now
        LocalKeyService.from_path(settings.key_file).hand_out(folder, frozenset({"state"}), frozenset())


async def test_a_move_is_refused_while_the_vault_runs_or_towards_the_place_where_it_is(
    settings: Settings, tmp_path: Path, clock: FakeClock
) -> None:
    new = private(tmp_path / "new.toml", 'key_file = "root-2.key"')
    async with AsyncExitStack() as stack:
        vault = await stack.enter_async_context(open_vault(settings, clock=clock))
        stored = {path.name: path.read_bytes() for path in settings.keyring.glob("*.key")}
        with pytest.raises(ConfigError, match="stop all"):
            await move_keys(settings, new, clock)
        assert {path.name: path.read_bytes() for path in settings.keyring.glob("*.key")} == stored
        assert vault.keystore.read(names.JOURNAL)
    for text, why in (
        (f'key_file = "{settings.key_file}"', "already"),
        ('key_service = "local"', "key_file"),
        (f'key_file = "{settings.data_dir}/root"', "data folder"),
    ):
        with pytest.raises(ConfigError, match=why):
            await move_keys(settings, private(tmp_path / "bad.toml", text), clock)
    with pytest.raises(ConfigError, match="is not there"):
        await move_keys(settings, tmp_path / "none.toml", clock)


async def test_a_move_to_a_service_that_is_away_changes_nothing_h6(
    settings: Settings, services: Services, tmp_path: Path, clock: FakeClock
) -> None:
    async with open_vault(settings, clock=clock):
        pass
    private(tmp_path / "token", ROOT_TOKEN)
    away = 'key_service = "transit"\ntransit_url = "http://127.0.0.1:9"\ntransit_token_file = "token"'
    with pytest.raises(Locked):
        await move_keys(settings, private(tmp_path / "away.toml", away), clock)
    confined = services.bao.token('path "transit/decrypt/nothing" { capabilities = ["update"] }')
    private(tmp_path / "token", confined)
    refused = away.replace("http://127.0.0.1:9", services.bao.url)
    with pytest.raises(ConfigError, match="prepares"):
        await move_keys(settings, private(tmp_path / "refused.toml", refused), clock)
    async with open_vault(settings, clock=clock) as vault:
        assert vault.keystore.read(names.JOURNAL)
        assert await told(vault, Tag.KEY_MOVE_BEGUN) == 0


async def test_a_vault_opens_by_the_new_settings_where_a_move_stopped_after_it_was_decided(
    settings: Settings, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        world = await World.of(vault)
        await world.send(identify("ada", email="ada@example.com"), order("ada", 20))
    file = private(tmp_path / "new.toml", 'key_file = "root-2.key"')
    real, calls = shelf.settle, 0

    def stopping(folder: Path) -> None:
        nonlocal calls
        calls += bool((folder / shelf.DECIDED).is_dir())
        if calls:
            raise OSError("power")
        real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "settle", stopping)
        with pytest.raises(OSError, match="power"):
            await move_keys(settings, file, clock)
    assert (settings.keyring / shelf.DECIDED).is_dir()
    with pytest.raises(ConfigError, match="does not open"):
        async with open_vault(settings, clock=clock):
            pass
    moved = await asyncio.create_task(move_keys(settings, file, clock))
    assert moved.keys == 0
    async with open_vault(msgspec.structs.replace(settings, key_file=tmp_path / "root-2.key"), clock=clock) as vault:
        assert await emails(World(vault, world.sources)) == {"ada@example.com"}
        assert await told(vault, Tag.KEY_MOVE_DONE) == 1
