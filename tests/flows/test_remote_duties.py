"""What an operator and the desk do with keys, on a vault whose key service is elsewhere: a real OpenBao, SoftHSM, moto's KMS.

The guard of a service refuses whoever waits for it on the event loop (`key_pending`), so each journey here also claims that it
does not. Threats H6, H8, D6.
"""

from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from tests.fakes import FakeClock
from tests.keyservices import PIN, REGION, ROOT_TOKEN, Services, private
from tests.worlds import World, identify, order, say
from vault.bootstrap import open_vault
from vault.cli.backup import _journal_key
from vault.clock import DAY, SystemClock
from vault.config import Settings
from vault.flows.backup.restore import Archives, put_back
from vault.flows.backup.take import back_up
from vault.flows.epochs import destroy_epoch, standing
from vault.flows.find import find
from vault.flows.honour import intake
from vault.flows.honour.scanned import scan_erasure
from vault.flows.honour.strays import sweep_strays
from vault.flows.keys_backup import back_up as back_up_keys
from vault.flows.retag import renew_tags
from vault.flows.rotate import renew_signing, rotate
from vault.flows.sweep.audit import audit_state
from vault.flows.vault import Vault
from vault.key_settings import ServiceSettings
from vault.keys import names
from vault.policy.actors import Actor
from vault.sources import store as sources

ROOT = Path(__file__).resolve().parents[2]


def elsewhere(kind: str, services: Services, folder: Path) -> ServiceSettings:
    prefix = f"pv{uuid4().hex[:12]}"
    if kind == "transit":
        token = private(folder / "token", ROOT_TOKEN)
        return ServiceSettings(kind=kind, prefix=prefix, transit_url=services.bao.url, transit_token_file=token)
    if kind == "awskms":
        return ServiceSettings(kind=kind, prefix=prefix, kms_region=REGION, kms_endpoint=services.kms)
    pin, module = private(folder / "pin", PIN), services.module(prefix)
    return ServiceSettings(kind=kind, prefix=prefix, pkcs11_module=module, pkcs11_token=prefix, pkcs11_pin_file=pin)


def settings_of(service: ServiceSettings, database_url: str, folder: Path) -> Settings:
    return Settings(
        data_dir=folder / "data",
        keyring=folder / "keyring",
        key_file=folder / "root.key",
        journal=folder / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
        service=service,
    )


def epochs_of(vault: Vault) -> list[str]:
    return [name for name in vault.keystore.names() if names.purpose_of(name) is not None]


async def given(vault: Vault) -> World:
    world = await World.of(vault)
    for name in ("ada", "bob", "cy"):
        await world.send(identify(name, email=f"{name}@example.com", firstName=name.title()), order(name, 300))
    await world.settle()
    return world


async def emails(world: World) -> set[str]:
    return {one["traits"]["email"] for one in await world.feed("email-tool")}


@pytest.mark.parametrize("kind", ["transit", "pkcs11"])
async def test_rotation_destruction_requests_scan_and_restore_work_with_a_service_elsewhere(
    kind: str, services: Services, database_url: str, empty_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    settings = settings_of(elsewhere(kind, services, tmp_path), database_url, tmp_path)
    async with open_vault(settings, clock=clock) as vault:
        world = await given(vault)
        told = await rotate(vault, epochs_of(vault))
        assert (told.done, told.shut) == (True, 0)
        for name in (names.index("email"), names.TOMBSTONE):
            version, _ = await renew_tags(vault, name)
            assert version == 2
        assert await renew_signing(vault, names.signing("certificate")) == 2
        clock.advance(1)
        await back_up_keys(vault, tmp_path / "keys.tar")
        for name in epochs_of(vault):
            gone = await destroy_epoch(vault, name, 1)
            assert gone.service_days == 0
        assert await emails(world) == {"ada@example.com", "bob@example.com", "cy@example.com"}
        await world.choose(say("marketing", "withdrawn"), user="cy")
        desk = Actor("staff", str(uuid4()), "officer")
        erasure = await intake.open_request(vault, desk, await find(vault, desk, "user_id", "ada"), "erasure")
        access = await intake.open_request(vault, desk, await find(vault, desk, "user_id", "bob"), "access")
        await world.settle()
        assert await intake.fetch_archive(vault, desk, access)
        report, _ = await scan_erasure(vault, erasure, record=True)
        assert not report.residue
        assert not (await audit_state(vault)).findings
        assert await sweep_strays(vault) == 0
        assert await emails(world) == {"bob@example.com"}
        made = await back_up(vault, tmp_path / "backups", ("data", "keys", "journal"), lambda _: None)
    archive = {one.kind: tmp_path / "backups" / one.kind / one.file for one in made}
    there = msgspec.structs.replace(settings, database_url=empty_url)
    await put_back(there, Archives(archive["data"], archive["keys"], None), lambda folder: _journal_key(there, folder))
    clock.advance(60)
    async with open_vault(there, clock=clock) as vault:
        async with vault.database.begin() as connection:
            known = {one.source.name: one.source for one in await sources.everyone(connection)}
        world = World(vault, known)
        assert await emails(world) == {"bob@example.com"}
        await world.check()
    assert not settings.key_file.exists()


async def test_an_epoch_whose_key_in_kms_waits_for_its_deletion_is_not_called_unreadable_before_h8(
    services: Services, database_url: str, tmp_path: Path
) -> None:
    clock = FakeClock(SystemClock().now())  # KMS says when by its own clock
    settings = settings_of(elsewhere("awskms", services, tmp_path), database_url, tmp_path)
    settings = msgspec.structs.replace(settings, data_backup_days=0, keyring_backup_days=0)
    async with open_vault(settings, clock=clock) as vault:
        world = await given(vault)
        marketing = names.epochs(vault.catalogue.purposes["marketing"].number)
        await rotate(vault, [marketing])
        gone = await destroy_epoch(vault, marketing, 1)
        assert gone.service_days in {7, 8}  # whole days, and KMS goes by its own clock
        (stated,) = (await standing(vault)).destroyed
        assert stated.unreadable_after == clock.now() + gone.service_days * DAY > clock.now()
        assert await emails(world) == {"ada@example.com", "bob@example.com", "cy@example.com"}
