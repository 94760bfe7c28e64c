"""A process has the secrets of its own keys: it does its work with them, and nothing else opens (design section 2, promise 2).

Each process here is a vault opened from a key folder that `keys hand-out` would write, on one database with the others.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from tests.fakes import FakeClock
from tests.logins import login_for
from tests.worlds import World, identify, order, say
from vault.bootstrap import EVERYTHING, open_vault
from vault.catalogue.numbers import RIGHTS, bits
from vault.crypto import aead
from vault.crypto.derive import derive
from vault.crypto.services.local import LocalKeyService
from vault.errors import ConfigError, Unavailable
from vault.flows import ready, wipe
from vault.flows.find import find
from vault.flows.honour import intake
from vault.flows.people.read import profiles
from vault.flows.release.page import page
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.keys import names
from vault.keys.compartments import Opener, Wrapped
from vault.keys.keyring import ALL, Keyring
from vault.keys.keystore import KeyStore
from vault.keys.roles import AUDIT, CHANGES, DESK, DUE, FEED, INGEST, REQUESTS, ProcessRole
from vault.policy.actors import Actor
from vault.profile.sealing import open_fields
from vault.profile.values import parse_fields
from vault.storage import grants

WRITER = ProcessRole((INGEST,), (DUE,))
MARKETING = ProcessRole((FEED,), (), ("marketing",))
OFFICE = ProcessRole((DESK,), (REQUESTS,))
KINDS: tuple[intake.RequestType, ...] = ("access", "erasure")
LOOPS = ProcessRole((), (CHANGES, AUDIT))


class Site:
    """One vault and its processes. `whole` holds the root key, and did its work before the others started."""

    def __init__(self, whole: Vault, stack: AsyncExitStack, clock: FakeClock, folder: Path) -> None:
        self.whole = whole
        self._stack = stack
        self._clock = clock
        self._folder = folder

    def secrets(self, role: ProcessRole) -> Path:
        """The role's key folder."""
        numbers = role.numbers({one.name: one.number for one in self.whole.catalogue.purposes.values()})
        folder = self._folder / ("-".join(sorted(role.parts | set(role.purposes))))
        for _ in range(2):  # a second time changes nothing
            LocalKeyService.from_path(self.whole.settings.key_file).hand_out(folder, *role.locks(numbers))
        return folder

    async def start(self, role: ProcessRole, secrets: Path | None = None) -> Vault:
        url = await login_for(str(self.whole.settings.database_url), role.parts)
        settings = msgspec.structs.replace(
            self.whole.settings, key_file=secrets or self.secrets(role), database_url=url
        )
        return await self._stack.enter_async_context(open_vault(settings, clock=self._clock, role=role))


@pytest.fixture
async def site(vault: Vault, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(vault, stack, clock, tmp_path / "secrets")


async def wrapped_of(vault: Vault) -> dict[UUID, tuple[Wrapped, ...]]:
    async with vault.database.hot() as connection:
        everyone = [UUID(bytes=row[0].bytes) for row in await connection.fetch("SELECT subject_id FROM subject")]
        stored, _ = await profiles(connection, everyone, vault.keyring.key("state"))
    return {subject: one.wrapped for subject, one in stored.items()}


async def test_four_processes_with_keys_of_their_own_do_the_work_of_one(site: Site, world: World) -> None:
    writer, feed = await site.start(WRITER), await site.start(MARKETING)
    desk, loops = await site.start(OFFICE), await site.start(LOOPS)
    shop = World(writer, world.sources)
    await shop.send(identify("ada", email="ada@example.com"), order("ada", 20))
    await shop.send(identify("bea", email="bea@example.com"))
    await World(loops, {}).settle()
    emails = [line["traits"] for line in (await World(feed, {}).lines("email-tool"))[0] if line["op"] == "upsert"]
    assert sorted(one["email"] for one in emails) == ["ada@example.com", "bea@example.com"]

    await shop.choose(say("marketing", "withdrawn"), user="ada")
    await World(loops, {}).settle()
    told = [line["op"] for line in (await World(feed, {}).lines("email-tool"))[0]]
    assert sorted(told) == ["remove", "reset", "snapshot_end", "upsert"]

    officer = Actor("staff", str(uuid4()), "officer")
    ref = await find(desk, officer, "user_id", "ada")
    states = []
    for kind in KINDS:
        request = await intake.open_request(desk, officer, ref, kind)
        await World(desk, {}).settle()
        states.append((await intake.read_request(desk, officer, request))["state"])
    assert states == ["completed", "partly_completed"]  # the second: a recipient has yet to say that it deleted
    await World(loops, {}).settle()
    assert [line["traits"]["email"] for line in await world.feed("email-tool")] == ["bea@example.com"]


async def test_what_a_writer_sealed_for_the_desk_opens_there_and_not_in_the_writer_after_a_restart(
    site: Site, world: World
) -> None:
    writer = await site.start(WRITER)
    await World(writer, world.sources).send(identify("ada", email="ada@example.com"))
    again, desk = await site.start(WRITER), await site.start(OFFICE)
    for subject, compartments in (await wrapped_of(desk)).items():
        for wrapped in compartments:
            assert Opener(desk.keyring, subject).open(wrapped, RIGHTS).purposes == wrapped.purposes
            with pytest.raises(Unavailable):
                Opener(again.keyring, subject).open(wrapped, RIGHTS)
    # Two writers at once: each has an epoch of its own, and values of either open at the desk, which started before them.
    await World(again, world.sources).send(
        identify("ada", phone="+4915112345678"), identify("bea", email="b@example.com")
    )
    await World(writer, world.sources).send(identify("cleo", email="c@example.com"))
    for subject, compartments in (await wrapped_of(desk)).items():
        assert all(Opener(desk.keyring, subject).open(wrapped, RIGHTS) for wrapped in compartments)


async def test_evidence_is_taken_by_any_writer_after_another(site: Site, world: World) -> None:
    for evidence in ({"form": "checkout"}, {"form": "account"}):
        writer = World(await site.start(WRITER), world.sources)
        await writer.send(identify("ada", email="ada@example.com"))
        await writer.choose(say("marketing", "granted", evidence=evidence), user="ada")
    assert (await world.stands("ada"))["marketing"] == "granted"  # and `world` opens every evidence at its end


def unwalled(feed: Vault) -> Keyring:
    """A keyring of the process without its own checks, as somebody who runs code there would make it."""
    keyring = Keyring(feed.keystore)
    keyring.open(ALL)
    keyring._check = lambda name: None  # type: ignore[method-assign]
    return keyring


async def test_a_feed_of_marketing_cannot_open_another_purpose_though_its_code_has_a_stolen_permit(
    site: Site, world: World
) -> None:
    await world.send(identify("ada", email="ada@example.com", phone="+4915112345678"), order("ada", 20))
    feed = await site.start(MARKETING)
    marketing = feed.catalogue.purposes["marketing"].number
    keyring = unwalled(feed)
    opened = 0
    stolen = site.whole.gate.rights("staff:mallory", uuid4())  # reaches every field of every compartment
    for subject, compartments in (await wrapped_of(site.whole)).items():
        for wrapped in compartments:
            for purpose in (*bits(wrapped.held), RIGHTS):
                opener = Opener(keyring, subject)
                if purpose == marketing:
                    opener.open(wrapped, purpose)
                    opened += 1
                    continue
                with pytest.raises(Unavailable) as refused:
                    opener.open(wrapped, purpose)
                assert refused.value.reason == "key_refused"
    assert opened
    # With the keys that it does have the same permit opens values: it is the key service that refuses, not the permit.
    rows: list[Any] = await world.rows("SELECT subject_id, compartment_id, fields FROM compartment")
    found = {one.compartment_id: (s, one) for s, many in (await wrapped_of(site.whole)).items() for one in many}
    for row in rows:
        subject, wrapped = found[bytes(row[1])] if isinstance(row[1], bytes) else found[row[1].bytes]
        if wrapped.held >> marketing & 1:
            compartment = Opener(keyring, subject).open(wrapped, marketing)
            assert open_fields(compartment, zip(*parse_fields(row[2]), strict=True), stolen)


async def test_a_feed_does_not_rotate_even_the_purpose_that_it_opens(site: Site, world: World) -> None:
    await world.send(identify("ada", email="ada@example.com"))
    feed = await site.start(MARKETING)
    name = names.epochs(feed.catalogue.purposes["marketing"].number)
    assert feed.keystore.opens(name)
    with pytest.raises(Unavailable) as refused:
        await rotate(feed, [name])
    assert refused.value.reason == "key_refused"
    assert feed.keystore.versions(name) == [1]


STOLEN = (  # what would turn a process that releases into one that writes
    "UPDATE keys.subject_key SET wraps = wraps",
    "DELETE FROM keys.subject_key",
    "UPDATE subject SET state = state",
    "UPDATE subject SET version = version + 1",
    "DELETE FROM subject",
    "DELETE FROM ledger",
    "INSERT INTO ledger (subject_id, sequence, entry) SELECT subject_id, 99, entry FROM ledger LIMIT 1",
    "UPDATE compartment SET fields = fields",
    "UPDATE identity SET subject_id = subject_id",
    "INSERT INTO destination_token (token_hash, destination, created_at) VALUES ('x', 1, 1)",
    "UPDATE destination_token SET revoked_at = NULL",
    "INSERT INTO source (name, server, key_hash, created_at) VALUES ('mallory', true, 'x', 1)",
    "UPDATE staff SET role = 'officer'",
    "INSERT INTO policy_version SELECT number + 1, digest, files, applied_at, applied_by FROM policy_version",
    "UPDATE webhook SET url = 'http://127.0.0.1/'",
    "SELECT sealed FROM casefile",
    "SELECT detail FROM request",
    "SELECT detail FROM disclosure",
    "DELETE FROM tombstone",
    "DELETE FROM audit",
    "DELETE FROM audit_in",
    "UPDATE instance SET value = 'x'",
)


async def test_a_feed_writes_no_keys_choices_states_or_tokens_whatever_its_code_sends(site: Site, world: World) -> None:
    """The same taken process, by the connection that it has: PostgreSQL refuses it."""
    await world.send(identify("ada", email="ada@example.com"))
    feed = await site.start(MARKETING)
    async with feed.database.hot() as connection:
        assert await connection.fetchval("SELECT current_user::text") == "t_feed"
    for statement in STOLEN:
        with pytest.raises(Unavailable) as refused:
            async with feed.database.hot() as connection:
                await connection.execute(statement)
        assert "42501" in str(refused.value), statement
    assert (await ready.check(feed)).database_role == "own"
    assert (await ready.check(site.whole)).database_role == "owner"


@pytest.mark.parametrize("role", [OFFICE, ProcessRole((), (REQUESTS,))])
async def test_a_desk_writes_how_far_the_journal_was_compared_and_never_which_log_this_is(
    site: Site, role: ProcessRole
) -> None:
    """A taken desk: under another name no checkpoint that anybody keeps would belong to this log any more (A12)."""
    named = "SELECT value FROM instance WHERE name = 'log'"
    desk = await site.start(role)
    log = await _value(site.whole, named)
    async with desk.database.hot() as connection:
        assert await connection.execute("UPDATE instance SET value = 'x' WHERE name = 'log'") == "UPDATE 0"
    assert await _value(site.whole, named) == log
    for statement in (
        "INSERT INTO instance (name, value) VALUES ('log', 'x') ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        "ALTER TABLE instance DISABLE ROW LEVEL SECURITY",
        "DELETE FROM instance",
    ):
        with pytest.raises(Unavailable) as refused:
            async with desk.database.hot() as connection:
                await connection.execute(statement)
        assert "42501" in str(refused.value), statement
    async with desk.database.hot() as connection:
        assert await connection.execute("UPDATE instance SET value = value WHERE name = 'incarnation'") == "UPDATE 1"


async def _value(vault: Vault, query: str) -> str:
    async with vault.database.hot() as connection:
        return str(await connection.fetchval(query))


async def test_a_process_with_a_right_too_few_does_not_start_and_with_one_too_many_says_so(
    site: Site, world: World
) -> None:
    await site.start(MARKETING)
    await world.rows("GRANT UPDATE (state) ON subject TO profile_vault_feed")
    url = str(site.whole.settings.database_url).replace("vault@", "t_feed@")
    settings = msgspec.structs.replace(site.whole.settings, key_file=site.secrets(MARKETING), database_url=url)
    async with open_vault(settings, role=MARKETING) as feed:
        told = await ready.check(feed)
        assert told.database_role == "too much"
        assert any("UPDATE on subject" in note for note in told.notes)
    await world.rows("REVOKE INSERT ON disclosure FROM profile_vault_feed")
    with pytest.raises(ConfigError, match="lacks INSERT on disclosure"):
        async with open_vault(settings, role=MARKETING):
            pass


async def test_one_process_that_holds_every_key_and_connects_as_a_feed_does_not_start(site: Site, world: World) -> None:
    await site.start(MARKETING)
    await world.rows("GRANT UPDATE (state) ON subject TO profile_vault_feed")  # not its work to put that right
    url = str(site.whole.settings.database_url).replace("vault@", "t_feed@")
    with pytest.raises(ConfigError, match="its role in the database lacks"):
        async with open_vault(msgspec.structs.replace(site.whole.settings, database_url=url), role=EVERYTHING):
            pass


async def test_a_process_refuses_what_it_has_no_keys_for(site: Site, world: World, tmp_path: Path) -> None:
    feed = await site.start(MARKETING)
    with pytest.raises(Unavailable) as refused:
        await page(feed, "warehouse", None)
    assert refused.value.reason == "other_process"
    with pytest.raises(ConfigError):  # a desk, from the folder of a feed
        await site.start(OFFICE, secrets=site.secrets(MARKETING))
    with pytest.raises(ConfigError):  # another purpose than it was handed
        await site.start(ProcessRole((FEED,), (), ("analytics",)), secrets=site.secrets(MARKETING))
    site.whole.settings = msgspec.structs.replace(site.whole.settings, keyring=tmp_path / "other")
    with pytest.raises((ConfigError, Unavailable)):  # nothing is made by who has no root key
        await site.start(MARKETING)
    assert KeyStore(tmp_path / "other", LocalKeyService(ROOT)).empty


class Older(LocalKeyService):
    """Seals as releases before key folders did (docs/formats/keystore.md, form 1)."""

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        key = derive(ROOT, "keyservice/1", key_name.encode())
        return b"\x01" + aead.seal(key, plaintext, b"keyservice/1|" + key_name.encode())


ROOT = bytes(range(32))


def test_keys_that_an_older_release_sealed_open_unchanged_and_are_sealed_anew_for_key_folders(tmp_path: Path) -> None:
    older, now = (KeyStore(tmp_path / "keyring", service(ROOT)) for service in (Older, LocalKeyService))
    made = older.ensure(["purpose-1", "index-email", "signing-audit"])
    before = {name: older.read(name) for name in made}
    LocalKeyService(ROOT).hand_out(tmp_path / "folder", frozenset(("purpose-1", "index", "signing-audit")), frozenset())
    confined = KeyStore(tmp_path / "keyring", LocalKeyService.from_path(tmp_path / "folder"))
    assert {name: now.read(name) for name in made} == before  # with the root key, as they are
    for name in made:
        with pytest.raises(Unavailable):
            confined.read(name)
    assert now.reseal() == sorted(made)
    assert now.reseal() == []
    assert {name: confined.read(name) for name in made} == before


@pytest.mark.parametrize("maintain", [True, False])
async def test_d5_a_desk_vacuums_where_the_database_can_let_it_and_elsewhere_says_that_the_owner_must(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch, maintain: bool
) -> None:
    async def no_segments(*_: object) -> int:  # other tests share this server
        return 0

    monkeypatch.setattr(wipe, "_write_over", no_segments)
    if not maintain:
        monkeypatch.setattr(grants, "MAINTAINS", 10**9)  # PostgreSQL 16 and older have no such right
    await world.send(identify("ada", email="ada@example.com"))
    desk = await site.start(OFFICE)
    officer = Actor("staff", str(uuid4()), "officer")
    await intake.open_request(desk, officer, await find(desk, officer, "user_id", "ada"), "erasure")
    await World(desk, {}).settle()
    assert (await wipe.wipe_due(desk) >= 20) is maintain
    assert (ready.NO_WIPING in (await ready.check(desk)).notes) is not maintain
    assert (await _wiped_at(site.whole) > 0) is maintain  # what was not done does not count as done
    await wipe.wipe_now(site.whole)
    assert await _wiped_at(site.whole) > 0


async def _wiped_at(vault: Vault) -> int:
    async with vault.database.hot() as connection:
        return await connection.fetchval("SELECT max(position) FROM lease WHERE name = $1", wipe.LEASE) or 0
