"""Somebody who owns the database and holds no key edits its rows (threats A1 to A8, A13, A14, A20 to A22).

Each time: nothing of the person is released, everybody else is, an outsider sees no difference from a person who allows
nothing, and the failure is in the audit log.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, Shop, audited, open_shop, rows_of, superuser
from vault.audit.entry import Tag, salted
from vault.consent.ledger import pack_choice, parse_choice
from vault.errors import NotFound
from vault.flows import lookup
from vault.flows.vault import Vault
from vault.keys.compartments import pack_wraps, parse_wraps
from vault.profile.values import pack_fields, parse_fields

Tamper = Callable[[asyncpg.Connection, UUID, UUID], Awaitable[None]]


class Town:
    """Ada, whose rows are edited; Bea, whose rows are taken; Cleo, whom nothing happens to."""

    def __init__(self, vault: Vault, shop: Shop, people: dict[str, UUID], owner: asyncpg.Connection) -> None:
        self.vault = vault
        self.shop = shop
        self.people = people
        self.owner = owner


@pytest.fixture
async def town(vault: Vault) -> AsyncIterator[Town]:
    shop = await open_shop(vault)
    people: dict[str, UUID] = {}
    for user in ("ada", "bea", "cleo"):
        await shop.person(user, order=250.0)
        people[user] = (await rows_of(vault, "SELECT subject_id FROM change ORDER BY number DESC LIMIT 1"))[0][0]
    owner = await superuser(vault)
    yield Town(vault, shop, people, owner)
    await owner.close()


async def swap_fields(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A1: two ciphertexts of one person change places, under their own heads."""
    for row in await owner.fetch("SELECT * FROM compartment WHERE subject_id = $1", ada):
        heads, values = parse_fields(row["fields"])
        turned = [*values[1:], *values[:1]]
        fields = [(head._replace(length=len(value)), value) for head, value in zip(heads, turned, strict=True)]
        await _set_fields(owner, ada, row, pack_fields(fields))


async def other_subject(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """A2: the values of another person, whole compartments of them."""
    await owner.execute(
        "UPDATE compartment a SET fields = b.fields, version = b.version FROM compartment b WHERE a.subject_id = $1"
        " AND b.subject_id = $2 AND a.purposes = b.purposes AND a.generation = b.generation",
        ada,
        bea,
    )


async def other_keys_and_values(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """A2, A13: another person's values with the wrapped keys that open them."""
    await owner.execute("DELETE FROM compartment WHERE subject_id = $1", ada)
    await owner.execute(
        "INSERT INTO compartment SELECT $1, purposes, generation, compartment_id, version, fields FROM compartment"
        " WHERE subject_id = $2",
        ada,
        bea,
    )
    await owner.execute(
        "UPDATE keys.subject_key a SET wraps = b.wraps, version = b.version FROM keys.subject_key b"
        " WHERE a.subject_id = $1 AND b.subject_id = $2",
        ada,
        bea,
    )


async def everything_of_another(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """A2, A13: and her state row too."""
    await other_keys_and_values(owner, ada, bea)
    await owner.execute(
        "UPDATE subject a SET state = b.state, version = b.version FROM subject b WHERE a.subject_id = $1 AND b.subject_id = $2",
        ada,
        bea,
    )


async def weaker_compartment(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A3: values of one set of purposes put where another set is."""
    rows = await owner.fetch("SELECT * FROM compartment WHERE subject_id = $1 ORDER BY purposes", ada)
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        await _set_fields(owner, ada, row, other["fields"])


async def wider_tag(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A4: the purposes of a compartment are edited, in its row and in the row of keys."""
    await owner.execute(
        "UPDATE compartment SET purposes = purposes | 64 WHERE subject_id = $1 AND purposes & 64 = 0", ada
    )


async def wider_tag_in_keys(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A4: only there."""
    wraps = await owner.fetchval("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", ada)
    wide = [one._replace(purposes=one.purposes | 1 << 8) for one in parse_wraps(wraps)]
    await owner.execute("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, pack_wraps(wide))


async def older_values(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A5: what stood there before the last change; the version as well."""
    for row in await owner.fetch("SELECT * FROM old.compartment WHERE subject_id = $1", ada):
        await _set_fields(owner, ada, row, row["fields"], row["version"])


async def older_values_under_todays_version(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A5: the values alone. Each of them opens: only the digest in the state tells."""
    for row in await owner.fetch("SELECT * FROM old.compartment WHERE subject_id = $1", ada):
        await owner.execute(
            "UPDATE compartment SET fields = $4 WHERE subject_id = $1 AND purposes = $2 AND generation = $3",
            ada,
            row["purposes"],
            row["generation"],
            row["fields"],
        )


async def no_values(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A7: a row taken away."""
    await owner.execute(
        "DELETE FROM compartment WHERE subject_id = $1 AND purposes & 64 <> 0 AND ctid = (SELECT min(ctid)"
        " FROM compartment WHERE subject_id = $1 AND purposes & 64 <> 0)",
        ada,
    )


async def no_keys(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A7: the row of keys taken away."""
    await owner.execute("DELETE FROM keys.subject_key WHERE subject_id = $1", ada)


async def no_state(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A7: the state row taken away, and no record of an erasure."""
    await owner.execute("DELETE FROM subject WHERE subject_id = $1", ada)


async def forged_values(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A8: a compartment that nobody wrote, beside the others."""
    await owner.execute(
        "INSERT INTO compartment SELECT subject_id, purposes, generation + 1, compartment_id, version, fields"
        " FROM compartment WHERE subject_id = $1 AND purposes & 64 <> 0",
        ada,
    )


async def forged_entry(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A8: one more entry of the ledger, whole and well formed."""
    await owner.execute(
        "INSERT INTO ledger SELECT subject_id, sequence + 100, entry, evidence FROM ledger WHERE subject_id = $1 LIMIT 1",
        ada,
    )


async def flipped_choice(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20: a bit of the granted mask."""
    await owner.execute(
        "UPDATE subject SET state = set_byte(state, 18, get_byte(state, 18) # 64) WHERE subject_id = $1", ada
    )


async def no_entry(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20: an entry of the ledger is deleted."""
    await owner.execute(
        "DELETE FROM ledger WHERE subject_id = $1 AND sequence = (SELECT max(sequence) FROM ledger WHERE subject_id = $1)",
        ada,
    )


async def other_entry(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20: an entry of the ledger is turned round."""
    row = await owner.fetchrow(
        "SELECT sequence, entry FROM ledger WHERE subject_id = $1 ORDER BY sequence LIMIT 1", ada
    )
    choice = parse_choice(row["entry"])
    changed = pack_choice(type(choice)(**{f: getattr(choice, f) for f in choice.__struct_fields__} | {"source": 9}))
    await owner.execute(
        "UPDATE ledger SET entry = $3 WHERE subject_id = $1 AND sequence = $2", ada, row["sequence"], changed
    )


async def raised_generation(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20, A22: the wraps and values of one generation under the number of the next."""
    wraps = await owner.fetchval("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", ada)
    raised = [one._replace(generation=one.generation + 1) for one in parse_wraps(wraps)]
    await owner.execute("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, pack_wraps(raised))
    await owner.execute("UPDATE compartment SET generation = generation + 1 WHERE subject_id = $1", ada)


async def yesterdays_keys(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20: the row of keys from before the last change of it, with or without its version."""
    old = await owner.fetchrow("SELECT * FROM old.subject_key WHERE subject_id = $1", ada)
    await owner.execute(
        "UPDATE keys.subject_key SET wraps = $2, version = $3 WHERE subject_id = $1", ada, old["wraps"], old["version"]
    )


async def yesterdays_keys_under_todays_version(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A20: the wraps alone."""
    old = await owner.fetchrow("SELECT * FROM old.subject_key WHERE subject_id = $1", ada)
    await owner.execute("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, old["wraps"])


async def yesterdays_state(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A5, A20: the state row from before the last change."""
    old = await owner.fetchrow("SELECT * FROM old.subject WHERE subject_id = $1", ada)
    await owner.execute(
        "UPDATE subject SET state = $2, version = $3 WHERE subject_id = $1", ada, old["state"], old["version"]
    )


async def other_wrap(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """A13, A21: the wrapped key of another person's same compartment, under Ada's id and commitment."""
    await _rewrap(owner, ada, bea, commitment=False)


async def other_wrap_and_commitment(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """A13, A21: with the commitment that it keeps."""
    await _rewrap(owner, ada, bea, commitment=True)


async def unknown_epoch(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """A14: the wraps say that they are of an epoch that never was."""
    wraps = await owner.fetchval("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", ada)
    strange = [one._replace(wraps=tuple(w._replace(epoch=4711) for w in one.wraps)) for one in parse_wraps(wraps)]
    await owner.execute("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, pack_wraps(strange))


async def garbage_everywhere(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """No parser lets another error out."""
    await owner.execute("UPDATE subject SET state = ''::bytea WHERE subject_id = $1", ada)
    await owner.execute("UPDATE keys.subject_key SET wraps = '\\x01ff'::bytea WHERE subject_id = $1", ada)
    await owner.execute("UPDATE compartment SET fields = '\\x01ff'::bytea WHERE subject_id = $1", ada)
    await owner.execute("UPDATE ledger SET entry = '\\xff'::bytea WHERE subject_id = $1", ada)


async def garbage_of_what_was_sent(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """What the destination holds is stored in a form that nobody wrote."""
    await owner.execute(
        "INSERT INTO disclosure_state (subject_id, destination, fields, gone)"
        " SELECT $1, n, '\\x01'::bytea, ''::bytea FROM generate_series(1, 4) AS n",
        ada,
    )


async def another_root(owner: asyncpg.Connection, ada: UUID, _bea: UUID) -> None:
    """The link that finds members is turned: no false `merged` may be told."""
    await owner.execute("UPDATE subject SET root = $2 WHERE subject_id = $1", ada, uuid4())


async def _set_fields(
    owner: asyncpg.Connection, ada: UUID, row: asyncpg.Record, blob: bytes, version: int | None = None
) -> None:
    await owner.execute(
        "UPDATE compartment SET fields = $4, version = $5 WHERE subject_id = $1 AND purposes = $2 AND generation = $3",
        ada,
        row["purposes"],
        row["generation"],
        blob,
        row["version"] if version is None else version,
    )


async def _rewrap(owner: asyncpg.Connection, ada: UUID, bea: UUID, *, commitment: bool) -> None:
    mine, hers = [
        parse_wraps(await owner.fetchval("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", one))
        for one in (ada, bea)
    ]
    by_place = {(one.purposes, one.generation): one for one in hers}
    mixed = []
    for one in mine:
        other = by_place.get((one.purposes, one.generation), one)
        kept = other.commitment if commitment else one.commitment
        mixed.append(one._replace(wraps=other.wraps, commitment=kept))
    await owner.execute("UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, pack_wraps(mixed))


ALL: list[Tamper] = [
    swap_fields, other_subject, other_keys_and_values, everything_of_another, weaker_compartment, wider_tag,
    wider_tag_in_keys, older_values, older_values_under_todays_version, no_values, no_keys, no_state, forged_values,
    forged_entry, flipped_choice, no_entry,
    other_entry, raised_generation, yesterdays_keys, yesterdays_keys_under_todays_version, yesterdays_state, other_wrap,
    other_wrap_and_commitment, unknown_epoch, garbage_everywhere, garbage_of_what_was_sent, another_root,
]  # fmt: skip


@pytest.mark.parametrize("tamper", ALL, ids=lambda tamper: tamper.__name__)
async def test_who_was_tampered_with_is_closed_and_nobody_else_is(
    vault: Vault, town: Town, clock: FakeClock, tamper: Tamper
) -> None:
    """A1 to A8, A13, A14, A20 to A22; and that outward it all looks the same (A19)."""
    ada = town.people["ada"]
    await _keep_yesterday(town.owner)
    clock.advance(1)
    await town.shop.person("ada", firstName="Augusta", lastName="King")
    await town.shop.withdraw("ada", "personalisation")
    before = await rows_of(vault, "SELECT version, wraps FROM keys.subject_key WHERE subject_id = $1", ada)
    old = await town.owner.fetchrow("SELECT version, wraps FROM old.subject_key WHERE subject_id = $1", ada)
    assert (old["version"], old["wraps"]) != tuple(before[0])
    closed = await _closed_by(vault, town, tamper)
    assert {"email-tool", "support-desk"} <= closed
    for destination in vault.catalogue.contracts:
        reader = Reader(vault, destination)
        await reader.read()
        plan = vault.plan(destination)
        assert plan is not None
        assert {plan.id_of(town.people[user]) for user in ("bea", "cleo")} <= reader.held.keys(), destination
        assert (await lookup.traits(vault, destination, "email", "cleo@planted.example"))["traits"]
        if destination not in closed:
            continue
        assert plan.id_of(ada) not in reader.held, destination
        for kind, value in (("email", "ada@planted.example"), ("user_id", "ada")):
            with pytest.raises(NotFound) as told:
                await lookup.traits(vault, destination, kind, value)
            assert str(told.value) == str(NotFound(lookup.MISSING))
    numbers = {vault.catalogue.contracts[name].number for name in closed}
    disclosed = await rows_of(vault, "SELECT destination FROM disclosure WHERE subject_id = $1", ada)
    assert numbers.isdisjoint({row[0] for row in disclosed})
    await _accused(vault, ada)


async def _closed_by(vault: Vault, town: Town, tamper: Tamper) -> set[str]:
    """Destinations that read any row that was edited. Who reads none of them is not concerned."""
    ada = town.people["ada"]
    tables = ("subject", "keys.subject_key", "ledger", "disclosure_state")

    async def seen() -> tuple[list[object], set[tuple[object, ...]]]:
        whole = [await town.owner.fetch(f"SELECT * FROM {one} WHERE subject_id = $1", ada) for one in tables]  # noqa: S608
        rows = await town.owner.fetch(
            "SELECT purposes, generation, version, fields FROM compartment WHERE subject_id = $1", ada
        )
        return whole, {tuple(row) for row in rows}

    whole, rows = await seen()
    await tamper(town.owner, ada, town.people["bea"])
    whole_after, rows_after = await seen()
    touched = {int(str(row[0])) for row in rows ^ rows_after}
    assert whole != whole_after or touched
    return {
        name
        for name, contract in vault.catalogue.contracts.items()
        if whole != whole_after or any(purposes & contract.purposes for purposes in touched)
    }


async def _keep_yesterday(owner: asyncpg.Connection) -> None:
    await owner.execute("CREATE SCHEMA old")
    for table in ("subject", "compartment", "keys.subject_key"):
        await owner.execute(f"CREATE TABLE old.{table.rpartition('.')[2]} AS SELECT * FROM {table}")  # noqa: S608 - ours


async def _accused(vault: Vault, ada: UUID) -> None:
    """The log says that a check failed, names Ada behind a salt, and nobody else."""
    entries = await audited(vault, Tag.INTEGRITY_CHECK_FAILED)
    salts = {
        row["entry_id"]: row["salt"]
        for row in await rows_of(vault, "SELECT entry_id, salt FROM audit_salt WHERE subject_id = $1", ada)
    }
    assert entries
    for entry in entries:
        assert entry.detail["subjects"] == [salted(salts[entry.entry_id], ada.bytes)]


async def test_a_person_who_is_closed_is_removed_from_nobody_by_a_lie(vault: Vault, town: Town) -> None:
    """Rows that cannot be believed say nothing: neither that she withdrew, nor that she was joined to somebody."""
    reader = Reader(vault, "email-tool")
    await reader.read()
    await town.owner.execute(
        "UPDATE subject SET root = $2 WHERE subject_id = $1", town.people["ada"], town.people["cleo"]
    )
    await town.owner.execute("INSERT INTO change_in (subject_id) SELECT unnest($1::uuid[])", [town.people["ada"]])
    await town.shop.settle()
    assert await reader.read() == []


async def test_a_withdrawal_cannot_be_taken_back_by_any_row_of_before(
    vault: Vault, town: Town, clock: FakeClock
) -> None:
    """State, ledger and wraps, each put back alone and any two together; all three are the sweep's to find."""
    ada = town.people["ada"]
    await _keep_yesterday(town.owner)
    await town.owner.execute("CREATE TABLE old.ledger AS SELECT * FROM ledger")
    clock.advance(1)
    await town.shop.withdraw("ada", "marketing")

    async def state() -> None:
        await yesterdays_state(town.owner, ada, ada)

    async def wraps() -> None:
        await yesterdays_keys(town.owner, ada, ada)

    async def ledger() -> None:
        await no_entry(town.owner, ada, ada)

    for group in ((state,), (wraps,), (ledger,), (state, wraps), (state, ledger), (wraps, ledger)):
        transaction = await rows_of(vault, "SELECT state, version FROM subject WHERE subject_id = $1", ada)
        keys = await rows_of(vault, "SELECT wraps, version FROM keys.subject_key WHERE subject_id = $1", ada)
        entries = await rows_of(vault, "SELECT * FROM ledger WHERE subject_id = $1", ada)
        for step in group:
            await step()
        reader = Reader(vault, "email-tool")
        await reader.read()
        assert reader.emails() == {"bea@planted.example", "cleo@planted.example"}, [one.__name__ for one in group]
        await town.owner.execute(
            "UPDATE subject SET state = $2, version = $3 WHERE subject_id = $1", ada, *transaction[0]
        )
        await town.owner.execute(
            "UPDATE keys.subject_key SET wraps = $2, version = $3 WHERE subject_id = $1", ada, *keys[0]
        )
        await town.owner.execute("DELETE FROM ledger WHERE subject_id = $1", ada)
        await town.owner.executemany("INSERT INTO ledger VALUES ($1, $2, $3, $4)", [tuple(row) for row in entries])
