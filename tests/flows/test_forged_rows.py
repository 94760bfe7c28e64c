"""Who writes to the database and holds no key makes no door and leads nobody to another person: codes of rows (ADR 0126).

Each forgery is closed, audited once, and looks from outside like a secret that never was, or a person whom nobody knows.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from tests.flows.feed_world import audited, rows_of
from tests.worlds import World, identify, order, say
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.destinations import store as destinations
from vault.errors import Forged, NotFound, Unauthenticated
from vault.flows import lookup
from vault.flows.admit import admit_destination, admit_source, admit_staff
from vault.flows.find import find
from vault.flows.people.warm import Warm
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.keys import names
from vault.policy.actors import Actor
from vault.sources import store as sources
from vault.staff import store as staff

MADE_UP = "pv_" + "m" * 43


def hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Doors(NamedTuple):
    """Secrets that open, each on a row of its own."""

    source: str
    client: str
    token: str
    staff: str
    member: UUID


@pytest.fixture
async def doors(vault: Vault) -> Doors:
    now, key = vault.clock.now(), vault.rows_key
    async with vault.database.begin() as connection:
        _, server = await sources.add(connection, "desk-app", server=True, now=now, key=key)
        _, client = await sources.add(connection, "web-app", server=False, now=now, key=key)
        token = await destinations.add_token(connection, vault.catalogue.contracts["email-tool"].number, now, key)
        member = await staff.add(connection, "sam", "support", now=now, key=key)
        secret = await staff.add_token(connection, member.staff_id, now=now, key=key)
    return Doors(server, client, token, secret, member.staff_id)


async def outsider(vault: Vault, statement: str, *values: object) -> None:
    """Whoever owns the database, and has no key."""
    async with vault.database.hot() as connection:
        done = await connection.execute(statement, *values)
    assert not done.endswith(" 0")


async def accused(vault: Vault) -> list[Any]:
    return [one.detail["check"] for one in await audited(vault, Tag.INTEGRITY_CHECK_FAILED)]


Admit = Callable[[Vault, str | None], Awaitable[Any]]


async def refused_as_unknown(vault: Vault, admit: Admit, secret: str, check: str) -> None:
    with pytest.raises(Unauthenticated) as unknown:
        await admit(vault, "pvx_" + "0" * 43)
    for _ in range(3):
        with pytest.raises(Unauthenticated) as refused:
            await admit(vault, secret)
        assert (str(refused.value), refused.value.reason) == (str(unknown.value), unknown.value.reason)
    assert await accused(vault) == [check]  # once


@pytest.mark.parametrize("code", [None, b"", bytes(32)])
async def test_g12_a_token_that_somebody_inserted_opens_nothing(vault: Vault, doors: Doors, code: bytes | None) -> None:
    number = vault.catalogue.contracts["warehouse"].number
    await outsider(
        vault,
        "INSERT INTO destination_token (token_hash, destination, created_at, code) VALUES ($1, $2, 1, $3)",
        hashed(MADE_UP), number, code,
    )  # fmt: skip
    await refused_as_unknown(vault, admit_destination, MADE_UP, "destination_token")
    assert await admit_destination(vault, doors.token) == "email-tool"


async def test_g12_a_token_led_to_another_destination_or_made_valid_again_opens_nothing(
    vault: Vault, doors: Doors
) -> None:
    contract = vault.catalogue.contracts
    async with vault.database.begin() as connection:
        await destinations.revoke_tokens(connection, contract["email-tool"].number, vault.clock.now(), vault.rows_key)
    with pytest.raises(Unauthenticated):
        await admit_destination(vault, doors.token)
    assert await accused(vault) == []  # revoked, and rightly so
    await outsider(vault, "UPDATE destination_token SET revoked_at = NULL")
    await refused_as_unknown(vault, admit_destination, doors.token, "destination_token")
    await outsider(vault, "UPDATE destination_token SET destination = $1", contract["warehouse"].number)
    with pytest.raises(Unauthenticated):
        await admit_destination(vault, doors.token)


async def test_g12_a_code_belongs_to_its_row_alone(vault: Vault, doors: Doors) -> None:
    await outsider(
        vault,
        "INSERT INTO destination_token (token_hash, destination, created_at, code)"
        " SELECT $1, destination, created_at, code FROM destination_token",
        hashed(MADE_UP),
    )
    await refused_as_unknown(vault, admit_destination, MADE_UP, "destination_token")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE staff SET role = 'officer'", "UPDATE staff SET name = 'olivia'", "UPDATE staff SET code = NULL"],
)
async def test_g22_a_member_of_staff_whose_row_was_edited_is_nobody(vault: Vault, doors: Doors, statement: str) -> None:
    assert (await admit_staff(vault, doors.staff)).role == "support"
    await outsider(vault, statement)
    await refused_as_unknown(vault, admit_staff, doors.staff, "staff")


async def test_g22_a_member_who_was_disabled_or_a_token_of_another_is_nobody(vault: Vault, doors: Doors) -> None:
    async with vault.database.begin() as connection:
        boss = await staff.add(connection, "olga", "officer", now=vault.clock.now(), key=vault.rows_key)
        await staff.disable(connection, "sam", now=vault.clock.now(), key=vault.rows_key)
    with pytest.raises(Unauthenticated):
        await admit_staff(vault, doors.staff)
    assert await accused(vault) == []
    await outsider(vault, "UPDATE staff SET disabled_at = NULL WHERE name = 'sam'")
    await refused_as_unknown(vault, admit_staff, doors.staff, "staff")
    await outsider(vault, "UPDATE staff_token SET staff_id = $1", boss.staff_id)
    with pytest.raises(Unauthenticated):
        await admit_staff(vault, doors.staff)
    assert sorted(await accused(vault)) == ["staff", "staff_token"]
    async with vault.database.begin() as connection:  # and a command gives no token to a member whom nobody added
        with pytest.raises(Forged):
            await staff.find(connection, "sam", vault.rows_key)


async def test_g12_a_source_that_was_made_a_server_or_enabled_again_may_not_write(vault: Vault, doors: Doors) -> None:
    assert not (await admit_source(vault, doors.client)).server
    await outsider(vault, "UPDATE source SET server = true WHERE name = 'web-app'")
    await refused_as_unknown(vault, admit_source, doors.client, "source")
    assert (await admit_source(vault, doors.source)).server
    async with vault.database.begin() as connection:
        await sources.disable(connection, "desk-app", now=vault.clock.now(), key=vault.rows_key)
    await outsider(vault, "UPDATE source SET disabled_at = NULL WHERE name = 'desk-app'")
    with pytest.raises(Unauthenticated):
        await admit_source(vault, doors.source)
    await outsider(vault, "UPDATE source SET key_hash = $1 WHERE name = 'desk-app'", hashed(MADE_UP))
    with pytest.raises(Unauthenticated):
        await admit_source(vault, MADE_UP)
    async with vault.database.begin() as connection:
        with pytest.raises(Forged):  # as `import --source desk-app` would ask
            await sources.get(connection, "desk-app", vault.rows_key)


# --- whom an identifier finds -----------------------------------------------------------------------------------------

OFFICER = Actor("staff", str(uuid4()), "officer")


async def pointed(world: World, kind: str, value: str, at: str) -> None:
    """Somebody points an identifier at the person with another user id."""
    ring = world.vault.keyring
    ours, theirs = identity_tag(ring, kind, value.encode()), identity_tag(ring, "user_id", at.encode())
    await outsider(
        world.vault,
        "UPDATE identity SET subject_id = (SELECT subject_id FROM identity WHERE tag = $2) WHERE tag = $1",
        ours, theirs,
    )  # fmt: skip
    world.vault.warm = Warm()  # as after a restart


async def ada_and_bea(world: World) -> None:
    await world.send(identify("ada", email="ada@example.com"), order("ada", 20))
    await world.send(identify("bea", email="bea@example.com"), order("bea", 30))
    await world.settle()


async def test_a_an_identifier_pointed_at_another_person_takes_no_message_there(world: World) -> None:
    await ada_and_bea(world)
    before = await rows_of(world.vault, "SELECT subject_id, version FROM subject ORDER BY 1")
    await pointed(world, "email", "ada@example.com", "bea")
    outcome = await world.send(identify("ada", email="ada@example.com", firstName="Mallory"))
    assert [one.code for one in outcome.dropped] == ["integrity"]
    assert await rows_of(world.vault, "SELECT subject_id, version FROM subject ORDER BY 1") == before
    assert await accused(world.vault) == ["identity"]
    await world.send(identify("bea", email="bea@example.com", firstName="Bea"))  # the others go on
    await world.settle()
    names_ = [line["traits"].get("firstName") for line in await world.feed("email-tool")]
    assert "Mallory" not in names_
    await _put_back(world, "email", "ada@example.com")


async def test_a_an_identifier_pointed_at_another_person_makes_no_choice_of_theirs(world: World) -> None:
    await ada_and_bea(world)
    await pointed(world, "user_id", "ada", "bea")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is told: nothing of Bea's changes
        await world.choose(say("marketing", "withdrawn"), user="ada")
    assert (await world.stands("bea"))["marketing"] == "granted"
    await _put_back(world, "user_id", "ada")


async def test_a_an_identifier_pointed_at_another_person_finds_nobody_for_desk_and_destinations(world: World) -> None:
    await ada_and_bea(world)
    assert await lookup.traits(world.vault, "email-tool", "email", "ada@example.com")
    await pointed(world, "email", "ada@example.com", "bea")
    with pytest.raises(NotFound) as nobody:
        await find(world.vault, OFFICER, "email", "nobody@example.com")
    with pytest.raises(NotFound) as refused:
        await find(world.vault, OFFICER, "email", "ada@example.com")
    assert str(refused.value) == str(nobody.value)
    assert await accused(world.vault) == ["identity"]
    with pytest.raises(NotFound):
        await lookup.traits(world.vault, "email-tool", "email", "ada@example.com")
    assert await lookup.traits(world.vault, "email-tool", "email", "bea@example.com")
    await _put_back(world, "email", "ada@example.com")


async def _put_back(world: World, kind: str, value: str) -> None:
    """For the check at the end, which reads everything as it should be."""
    ring = world.vault.keyring
    tag = identity_tag(ring, kind, value.encode())
    (row,) = await rows_of(world.vault, "SELECT subject_id FROM identifier WHERE tag = $1", tag)
    async with world.vault.database.hot() as connection:
        await connection.execute("UPDATE identity SET subject_id = $2 WHERE tag = $1", tag, row[0])


# --- rows from before -------------------------------------------------------------------------------------------------


async def test_rows_from_before_are_vouched_for_once_and_that_is_audited(
    vault: Vault, doors: Doors, world: World
) -> None:
    """A database of an older release: no codes, and no key `rows` in the key store."""
    await ada_and_bea(world)
    for table in ("source", "destination_token", "staff", "staff_token", "identity"):
        await outsider(vault, f"UPDATE {table} SET code = NULL")  # noqa: S608 (names of ours)
    (vault.settings.keyring / f"{names.ROWS}.key").unlink()
    inventory = json.loads((vault.settings.keyring / "made.json").read_text())
    del inventory["made"][names.ROWS]
    (vault.settings.keyring / "made.json").write_text(json.dumps(inventory))
    async with open_vault(vault.settings, clock=vault.clock) as later:
        assert await admit_destination(later, doors.token) == "email-tool"
        assert (await admit_staff(later, doors.staff)).role == "support"
        assert not (await admit_source(later, doors.client)).server
        assert await lookup.traits(later, "email-tool", "email", "ada@example.com")
        (told,) = await audited(later, Tag.STORAGE_ROWS_VOUCHED)
        assert told.detail["tokens"] == 1
    assert vault.keystore.missing([names.ADOPTING])
    await outsider(vault, "UPDATE destination_token SET code = NULL")
    async with open_vault(vault.settings, clock=vault.clock) as later:  # not a second time
        with pytest.raises(Unauthenticated):
            await admit_destination(later, doors.token)


async def test_a_crash_before_the_key_has_its_name_leaves_rows_that_the_next_start_vouches_for(
    vault: Vault, doors: Doors
) -> None:
    """The codes are committed under the passing key, and the process ends there: the next start goes on with that key."""
    key = vault.keystore.read(names.ROWS)[1]
    (vault.settings.keyring / f"{names.ROWS}.key").unlink()
    inventory = json.loads((vault.settings.keyring / "made.json").read_text())
    del inventory["made"][names.ROWS]
    (vault.settings.keyring / "made.json").write_text(json.dumps(inventory))
    vault.keystore.add(names.ADOPTING, key)
    async with open_vault(vault.settings, clock=vault.clock) as later:
        assert await admit_destination(later, doors.token) == "email-tool"
        assert later.keystore.read(names.ROWS) == {1: key}
        assert later.keystore.missing([names.ADOPTING])
