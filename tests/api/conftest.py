"""The real application on a real vault: tokens of every audience, and a client that comes from this machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from tests.api.shop import Secrets
from tests.fakes import FakeClock
from vault.bootstrap import open_vault
from vault.config import Settings
from vault.destinations import store as destinations
from vault.flows.vault import Vault
from vault.sources import store as sources
from vault.staff import store as staff

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("officer", "support", "marketer", "operator", "auditor")


@pytest.fixture
async def vault(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Vault]:
    """A vault with the web shop's policies, on a database of its own."""
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
async def secrets(vault: Vault) -> Secrets:
    """A source of each class, a token for each destination, and one for a member of each role."""
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        _, server = await sources.add(connection, "shop", server=True, now=now, key=vault.rows_key)
        _, client = await sources.add(connection, "app", server=False, now=now, key=vault.rows_key)
        recipients = {
            contract.name: await destinations.add_token(connection, contract.number, now, vault.rows_key)
            for contract in vault.catalogue.contracts.values()
        }
        people = {}
        for role in ROLES:
            member = await staff.add(connection, f"a-{role}", role, now=now, key=vault.rows_key)
            people[role] = await staff.add_token(connection, member.staff_id, now=now, key=vault.rows_key)
    return Secrets(server, client, recipients, people)


@pytest.fixture
async def http(vault: Vault) -> AsyncIterator[httpx.AsyncClient]:
    """A client on loopback."""
    transport = httpx.ASGITransport(create_app(vault), client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://vault.test") as opened:
        yield opened


@pytest.fixture
async def remote(vault: Vault) -> AsyncIterator[httpx.AsyncClient]:
    """The same, from another machine."""
    transport = httpx.ASGITransport(create_app(vault), client=("203.0.113.7", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://vault.test") as opened:
        yield opened
