"""A whole vault on a key service in another machine: a real OpenBao. What it lets an identity do is what its process can.

Whatever waits for the service on the event loop is refused by its guard (`key_pending`), so these journeys also claim that
nothing does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from tests.between import Between
from tests.fakes import FakeClock
from tests.keyservices import ROOT_TOKEN, Bao, Services, private
from tests.worlds import World, identify, order, say
from vault.bootstrap import open_vault
from vault.catalogue.load import load, read_folder
from vault.catalogue.numbers import RIGHTS, bits
from vault.config import Settings
from vault.crypto.keyservice import AWAY, PENDING
from vault.crypto.services.rules import rules_for
from vault.errors import ConfigError, Locked, Unavailable
from vault.flows.find import find
from vault.flows.honour import intake
from vault.flows.people.read import profiles
from vault.flows.vault import Vault
from vault.key_settings import ServiceSettings
from vault.keys import names
from vault.keys.compartments import Opener, Wrapped
from vault.keys.keyring import ALL, Keyring
from vault.keys.roles import AUDIT, CHANGES, DESK, DUE, EVERYTHING, FEED, INGEST, REQUESTS, ProcessRole
from vault.policy.actors import Actor

ROOT = Path(__file__).resolve().parents[2]
WRITER = ProcessRole((INGEST,), (DUE,))
MARKETING = ProcessRole((FEED,), (), ("marketing",))
OFFICE = ProcessRole((DESK,), (REQUESTS,))
LOOPS = ProcessRole((), (CHANGES, AUDIT))
TURNS = 400  # of a hundredth of a second: how long what the vault does by itself may take on a busy machine


class Site:
    """One vault, its processes, and the gate before their key service."""

    def __init__(self, settings: Settings, bao: Bao, gate: Between, stack: AsyncExitStack, clock: FakeClock) -> None:
        self.settings, self.bao, self.gate = settings, bao, gate
        self._stack, self._clock = stack, clock

    def rules(self, role: ProcessRole) -> str:
        catalogue = load(read_folder(ROOT / "policies"))
        opened, sealed = role.locks(role.numbers({one.name: one.number for one in catalogue.purposes.values()}))
        return rules_for(self.settings.service, opened, sealed, prepares=role.whole)

    def token(self, role: ProcessRole, folder: str = "") -> Path:
        """A file with a token that may do what `keys access` prints for that role, and nothing else."""
        name = folder or "-".join(sorted(role.parts | set(role.purposes)))
        return private(self.settings.keyring.parent / f"token-{name}", self.bao.token(self.rules(role)))

    async def start(self, role: ProcessRole, token: Path | None = None) -> Vault:
        service = msgspec.structs.replace(self.settings.service, transit_token_file=token or self.token(role))
        settings = msgspec.structs.replace(self.settings, service=service)
        return await self._stack.enter_async_context(open_vault(settings, clock=self._clock, role=role))


@pytest.fixture
async def site(services: Services, database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Site]:
    gate = Between(services.bao.url).open()
    service = ServiceSettings(
        kind="transit", prefix=f"pv{uuid4().hex[:12]}", transit_url=gate.url, transit_token_file=tmp_path / "token"
    )
    settings = Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=tmp_path / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
        service=service,
    )
    private(tmp_path / "token", ROOT_TOKEN)
    async with AsyncExitStack() as stack:
        stack.callback(gate.close)
        yield Site(settings, services.bao, gate, stack, clock)


@pytest.fixture
async def world(site: Site) -> AsyncIterator[World]:
    """The shop on a vault in one process, whose identity may do everything."""
    made = await World.of(await site.start(EVERYTHING, site.settings.service.transit_token_file))
    yield made
    await made.check()


async def wrapped_of(vault: Vault) -> dict[UUID, tuple[Wrapped, ...]]:
    async with vault.database.hot() as connection:
        everyone = [UUID(bytes=row[0].bytes) for row in await connection.fetch("SELECT subject_id FROM subject")]
        stored, _ = await profiles(connection, everyone, vault.keyring.key("state"))
    return {subject: one.wrapped for subject, one in stored.items()}


async def soon(condition: Any) -> None:
    """Waits for what the vault does by itself."""
    for _ in range(TURNS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def test_one_process_does_all_its_work_with_a_service_elsewhere(site: Site, world: World) -> None:
    await world.send(identify("ada", email="ada@example.com"), order("ada", 20), identify("bea", email="b@example.com"))
    await world.settle()
    assert {one["traits"]["email"] for one in await world.feed("email-tool")} == {"ada@example.com", "b@example.com"}
    officer = Actor("staff", str(uuid4()), "officer")
    ref = await find(world.vault, officer, "user_id", "ada")
    access = await intake.open_request(world.vault, officer, ref, "access")
    await world.settle()
    assert await intake.fetch_archive(world.vault, officer, access)
    erasure = await intake.open_request(world.vault, officer, ref, "erasure")
    await world.settle()
    told = await intake.read_request(world.vault, officer, erasure)
    assert told["state"] in {"completed", "partly_completed"}
    assert await intake.fetch_certificate(world.vault, officer, erasure)
    assert not site.settings.key_file.exists()  # nothing fell back to a key of this machine


async def test_processes_with_identities_of_their_own_do_the_work_of_one(site: Site, world: World) -> None:
    writer, feed = await site.start(WRITER), await site.start(MARKETING)
    desk, loops = await site.start(OFFICE), await site.start(LOOPS)
    shop = World(writer, world.sources)
    await shop.send(identify("ada", email="ada@example.com"), order("ada", 20))
    await World(loops, {}).settle()
    (line,) = [one for one in (await World(feed, {}).lines("email-tool"))[0] if one["op"] == "upsert"]
    assert line["traits"]["email"] == "ada@example.com"
    await shop.choose(say("marketing", "withdrawn"), user="ada")
    await World(loops, {}).settle()
    assert "remove" in [one["op"] for one in (await World(feed, {}).lines("email-tool"))[0]]
    # The writer's own epoch of `rights` began after the desk: who needs it first is told to come again, nobody is skipped.
    ((subject, compartments),) = (await wrapped_of(desk)).items()
    epochs = {wrap.epoch for one in compartments for wrap in one.wraps if wrap.purpose == RIGHTS}
    await soon(lambda: epochs <= set(desk.keyring._epochs[RIGHTS]))
    assert all(Opener(desk.keyring, subject).open(one, RIGHTS) for one in compartments)
    with pytest.raises(Unavailable):  # what a writer sealed for the desk it cannot open after a restart
        Opener((await site.start(WRITER)).keyring, subject).open(compartments[0], RIGHTS)


def unwalled(process: Vault) -> Keyring:
    """A keyring of the process without its own checks, as somebody who runs code there would make it."""
    keyring = Keyring(process.keystore)
    keyring.open(ALL)
    keyring._check = lambda name: None  # type: ignore[method-assign]
    return keyring


async def test_a_feed_of_marketing_opens_no_other_purpose_though_its_code_tries_with_a_stolen_permit(
    site: Site, world: World
) -> None:
    await world.send(identify("ada", email="ada@example.com", phone="+4915112345678"), order("ada", 20))
    feed = await site.start(MARKETING)
    marketing = feed.catalogue.purposes["marketing"].number
    everything = await wrapped_of(feed)

    def attack() -> tuple[int, int]:  # in a thread, where nothing but the service's own policy is in the way
        keyring, opened, refused = unwalled(feed), 0, 0
        for subject, compartments in everything.items():
            for wrapped in compartments:
                for purpose in (*bits(wrapped.held), RIGHTS):
                    try:
                        Opener(keyring, subject).open(wrapped, purpose)
                    except Unavailable as error:
                        assert error.reason == "key_refused"  # noqa: PT017
                        refused += 1
                    else:
                        assert purpose == marketing
                        opened += 1
        for name in ("purpose-0", "rights", "signing-certificate", "salt", "request"):
            with pytest.raises(Unavailable):
                feed.keystore.held(name)
        with pytest.raises(Unavailable):  # nor may it make, renew or destroy keys of the service
            keyring.make("purpose-6")
        return opened, refused

    opened, refused = await asyncio.to_thread(attack)
    assert opened
    assert refused > opened


async def test_a_process_whose_identity_lacks_a_key_of_its_role_does_not_start(site: Site, world: World) -> None:
    for role, token in (
        (OFFICE, site.token(MARKETING)),
        (ProcessRole((FEED,), (), ("analytics",)), site.token(MARKETING)),
    ):
        with pytest.raises(ConfigError, match="does not open"):
            await site.start(role, token)


async def test_a_lost_key_service_is_locked_and_says_why_before_a_database_is_asked(site: Site, world: World) -> None:
    site.gate.close()
    unreachable = msgspec.structs.replace(site.settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Locked, match="refuses the connection"):
        async with open_vault(unreachable):
            pass
    site.gate.open()


async def test_another_key_service_is_a_mistake_in_the_settings_and_not_an_outage(
    site: Site, world: World, services: Services
) -> None:
    renamed = msgspec.structs.replace(site.settings.service, prefix=f"pv{uuid4().hex[:12]}")
    for service in (renamed, ServiceSettings()):
        settings = msgspec.structs.replace(site.settings, service=service)
        private(settings.key_file, bytes(32).hex())
        with pytest.raises(ConfigError, match=r"sealed by another one|another key service"):
            async with open_vault(settings):
                pass


async def test_h6_in_an_outage_keys_in_memory_serve_on_and_what_needs_the_service_waits_for_it(
    site: Site, world: World
) -> None:
    await world.send(identify("ada", email="ada@example.com"))
    officer = Actor("staff", str(uuid4()), "officer")
    ref = await find(world.vault, officer, "user_id", "ada")
    site.gate.close()
    await world.send(identify("bea", email="b@example.com"), order("ada", 20))
    await world.choose(say("marketing", "withdrawn"), user="bea")
    await world.settle()
    assert [one["traits"]["email"] for one in await world.feed("email-tool")] == ["ada@example.com"]
    with pytest.raises(Unavailable) as told:
        await intake.open_request(world.vault, officer, ref, "erasure")
    assert told.value.reason == AWAY
    assert await find(world.vault, officer, "user_id", "ada")  # nothing was half erased
    assert [one["traits"]["email"] for one in await world.feed("email-tool")] == ["ada@example.com"]
    site.gate.open()
    await soon(lambda: world.vault.keystore.fault is None)  # it looks for itself
    request = await intake.open_request(world.vault, officer, ref, "erasure")
    await world.settle()
    assert (await intake.read_request(world.vault, officer, request))["state"] in {"completed", "partly_completed"}


async def test_a_key_that_another_process_makes_or_destroys_is_taken_in_without_a_restart(
    site: Site, world: World, clock: FakeClock
) -> None:
    other = await site.start(EVERYTHING, site.settings.service.transit_token_file)
    name, slow = names.epochs(0), Keyring(world.vault.keystore)
    await asyncio.to_thread(slow.open, ALL)
    await asyncio.to_thread(other.keyring.make, name)
    with pytest.raises(Unavailable) as told:  # on the loop nobody waits
        slow.epoch_key(0, 2)
    assert told.value.reason == PENDING
    assert slow.stale
    await asyncio.to_thread(slow.fetch_wanted)
    assert not slow.stale
    assert slow.epoch_key(0, 2) == other.keyring.epoch_key(0, 2)
    await soon(lambda: world.vault.keyring.epoch(0)[0] == 2)
    assert world.vault.keyring.epoch_key(0, 2) == other.keyring.epoch_key(0, 2)
    await asyncio.to_thread(other.keyring.destroy, name, 1)
    await soon(lambda: 1 not in world.vault.keyring._held[name])
    clock.advance(61)  # who read the rows of before has opened them by now
    world.vault.keyring.refresh()
    with pytest.raises(Unavailable):
        world.vault.keyring.epoch_key(0, 1)
    asked = len(site.gate.asked)
    for _ in range(50):  # an epoch that never was asks the service nothing (threats A14)
        with pytest.raises(Unavailable):
            world.vault.keyring.epoch_key(0, 99)
    assert len(site.gate.asked) == asked


async def test_nothing_of_the_service_lies_on_disk_but_sealed_keys_a15(site: Site, world: World) -> None:
    keys = [held.key for versions in world.vault.keyring._held.values() for held in versions.values()]
    stored = b"".join(path.read_bytes() for path in site.settings.keyring.iterdir() if path.is_file())
    assert ROOT_TOKEN.encode() not in stored
    for key in keys:
        assert key not in stored
        assert key.hex().encode() not in stored
