"""A whole vault for each test of a journey: the web shop's policies, a database and keys of its own, a clock that stands still."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.worlds import World
from vault.bootstrap import open_vault
from vault.config import Settings
from vault.flows.vault import Vault

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def vault(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Vault]:
    """Opened as `serve` opens it, without a worker: tests take the worker's steps themselves."""
    settings = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
    )
    async with open_vault(settings, clock=clock) as opened:
        yield opened


@pytest.fixture
async def world(vault: Vault) -> AsyncIterator[World]:
    """A shop on that vault. At the end everything that is stored is read again: no test may leave what does not agree."""
    made = await World.of(vault)
    yield made
    await made.check()


def special_shop(database_url: str, folder: Path) -> Settings:
    """The shop, which also sells what tells of health."""
    policies = folder / "policies"
    for path in (ROOT / "policies").rglob("*"):
        if path.is_file():
            (policies / path.relative_to(ROOT / "policies")).parent.mkdir(parents=True, exist_ok=True)
            (policies / path.relative_to(ROOT / "policies")).write_bytes(path.read_bytes())
    purpose = (
        '[care]\nnumber = 8\ntitle = "Care"\ncategories = ["care"]\nlegal_basis = "consent"\nnotice = "analytics"\n'
        'dpv = "https://w3id.org/dpv#ServiceProvision"\nart9 = "a"\n'
    )
    event = '[track."Clinic Visited"]\nnumber = 29\npurposes = ["care"]\nsensitivity = "special"\n'
    trait = (
        '[bloodType]\nnumber = 13\ntype = "text"\ncategory = "user.health_and_medical"\npurposes = ["care"]\n'
        'sensitivity = "special"\n'
    )
    for name, more in (("purposes.toml", purpose), ("events.toml", event), ("traits.toml", trait)):
        (policies / name).write_text((policies / name).read_text() + "\n" + more)
    return Settings(
        data_dir=folder / "data",
        keyring=folder / "keyring",
        key_file=folder / "root.key",
        journal=folder / "journal",
        policies=policies,
        database_url=database_url,
    )
