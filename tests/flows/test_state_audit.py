"""The state audit finds what no single read can: rows put back together, and rows that stand under no code of their own.

Each time somebody owns the database and holds no key. On a vault that nobody touched it finds nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.fakes import FakeClock
from tests.flows.feed_world import Reader, audited, rows_of, superuser
from tests.flows.rights_world import officer
from tests.logins import login_for
from tests.worlds import World, identify, order, preference, say
from vault.audit import store
from vault.audit.entry import Detail, Entry, Tag
from vault.bootstrap import open_vault
from vault.clock import HOUR
from vault.config import Limits, Settings
from vault.crypto.services.guarded import on_loop
from vault.errors import Unreadable
from vault.flows import ready
from vault.flows.find import find
from vault.flows.honour.again import erase_again
from vault.flows.honour.intake import open_request
from vault.flows.losses import Accepted, record_loss
from vault.flows.sweep.audit import Report, audit_state
from vault.flows.sweep.duty import Sweep
from vault.flows.sweep.finding import NUMBERS, Check
from vault.flows.sweep.record import record, standing
from vault.flows.vault import Vault
from vault.ids import uuid7
from vault.journal.narrowing import Erasure, Refusal
from vault.journal.witness import FILE, UNFINISHED, Round, forget, read
from vault.keys import names
from vault.storage.privileges import PARTS
from vault.storage.session import Database

PERSONAL = (
    "subject", "keys.subject_key", "compartment", "event", "ledger", "identifier", "link", "disclosure", "audit_salt",
)  # fmt: skip


@pytest.fixture
async def owner(vault: Vault) -> AsyncIterator[asyncpg.Connection]:
    opened = await superuser(vault)
    yield opened
    await opened.close()


async def found(vault: Vault) -> set[tuple[Check, UUID | None]]:
    report = await audit_state(vault)
    return {(one.check, one.subject) for one in report.findings}


async def town(world: World) -> dict[str, UUID]:
    """Three people with orders, feeds that were read, one of them joined with a device."""
    for name in ("ada", "bea", "cleo"):
        await world.send(identify(name, email=f"{name}@planted.example", firstName=name.title()), order(name, 250))
    await world.send(identify(anon="device-1", firstName="Somebody"))
    await world.send(identify("ada", anon="device-1"))
    await world.settle()
    for destination in world.vault.catalogue.contracts:
        await Reader(world.vault, destination).read()
    await world.settle()
    people = {}
    for name in ("ada", "bea", "cleo"):
        subject = await world.subject(name)
        assert subject is not None
        people[name] = subject
    return people


async def erased(world: World, name: str) -> None:
    """An officer has somebody erased, and all that can be done of it is."""
    actor = officer(world.vault)
    await open_request(
        world.vault, actor, await find(world.vault, actor, "email", f"{name}@planted.example"), "erasure"
    )
    await world.settle()


EVERYTHING = (*PERSONAL, "identity", "dedup", "change")


async def all_put_back(owner: asyncpg.Connection) -> None:
    """Everybody, as `keep_yesterday` had them."""
    for table in EVERYTHING:
        await owner.execute(f"DELETE FROM {table}")  # noqa: S608 - ours
        await owner.execute(f"INSERT INTO {table} SELECT * FROM old.{table.rpartition('.')[2]}")  # noqa: S608 - ours


async def keep_yesterday(owner: asyncpg.Connection, tables: tuple[str, ...] = PERSONAL) -> None:
    await owner.execute("DROP SCHEMA IF EXISTS old CASCADE; CREATE SCHEMA old")
    for table in tables:
        await owner.execute(f"CREATE TABLE old.{table.rpartition('.')[2]} AS SELECT * FROM {table}")  # noqa: S608 - ours


async def put_back(owner: asyncpg.Connection, subject: UUID, tables: tuple[str, ...] = PERSONAL) -> None:
    """Everything of one person as it was: consistent with itself."""
    for table in tables:
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", subject)  # noqa: S608 - ours
        await owner.execute(
            f"INSERT INTO {table} SELECT * FROM old.{table.rpartition('.')[2]} WHERE subject_id = $1",  # noqa: S608
            subject,
        )


async def test_a_vault_that_nobody_touched_agrees(world: World, clock: FakeClock) -> None:
    people = await town(world)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.send(preference("bea", advertising=False))
    await world.settle()
    report = await audit_state(world.vault)
    assert report.findings == []
    assert report.people >= len(people)
    assert report.narrowings >= 4
    assert report.tags >= 7
    assert report.good


async def test_a_whole_person_put_back_is_found_and_named(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """A6, A20: nothing of it fails at a read. The journal names the person, the log counts what nobody explains."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.settle()
    members = [row[0] for row in await owner.fetch("SELECT subject_id FROM subject WHERE root = $1", people["ada"])]
    for member in members:  # with her device, that was told of her choice too
        await put_back(owner, member)
    await owner.execute("INSERT INTO change_in (subject_id) VALUES ($1)", people["ada"])
    await world.settle()
    reader = Reader(world.vault, "email-tool")
    await reader.read()
    assert "ada@planted.example" in reader.emails()  # a single read is deceived: hence the audit
    assert await found(world.vault) == {(Check.NARROWING, member) for member in members} | {(Check.LEAVES, None)}


async def test_a_whole_person_put_back_under_the_salts_of_today_is_found(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """Whoever leaves the salts where they are leaves leaves that accuse the person."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await world.settle()
    await put_back(owner, people["ada"], tuple(one for one in PERSONAL if one != "audit_salt"))
    assert (Check.LOG, people["ada"]) in await found(world.vault)


async def test_values_of_before_put_back_whole_are_found_by_what_the_sweep_saw(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """A5, A6: neither journal nor log speak of values; versions only rise, and the last ones lie beside the journal."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await world.send(identify("ada", firstName="Augusta"))
    await swept(world.vault)
    assert await found(world.vault) == set()
    await put_back(owner, people["ada"])
    assert await found(world.vault) == {(Check.OLDER, people["ada"])}
    clock.advance(HOUR_OF_REST)
    await swept(world.vault)
    assert await found(world.vault) == {(Check.OLDER, people["ada"])}  # it stays on record until it is over


async def test_a_person_who_is_deleted_whole_is_missed(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """A7: nobody erased them, and the lookup rows that led to them lead nowhere."""
    people = await town(world)
    await swept(world.vault)
    for table in PERSONAL:
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", people["bea"])  # noqa: S608 - ours
    marks = await found(world.vault)
    assert {(Check.GONE, people["bea"]), (Check.LOOKUP, people["bea"])} <= marks
    await owner.execute("DELETE FROM identity WHERE subject_id = $1", people["bea"])


async def test_a_person_with_a_withdrawal_who_is_deleted_whole_is_missed_by_the_journal_alone(
    world: World, owner: asyncpg.Connection
) -> None:
    people = await town(world)
    await world.choose(say("marketing", "withdrawn"), user="bea")
    for table in (*PERSONAL, "identity"):
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", people["bea"])  # noqa: S608 - ours
    assert (Check.GONE, people["bea"]) in await found(world.vault)


async def test_an_erasure_accounts_for_everything_that_went_with_the_person(world: World, clock: FakeClock) -> None:
    """Salts and disclosures of an erased person are no tampering: the erasure's own entry says how many they were."""
    people = await town(world)
    await swept(world.vault)
    clock.advance(1)
    await erased(world, "ada")
    assert people["ada"] not in {UUID(bytes=row[0].bytes) for row in await world.rows("SELECT subject_id FROM subject")}
    assert await found(world.vault) == set()
    entries = await audited(world.vault, Tag.AUDIT_SALTS_FORGOTTEN)
    assert entries
    assert all(int(str(one.detail["salts"])) > 0 for one in entries)
    clock.advance(HOUR_OF_REST)
    await swept(world.vault)
    assert await found(world.vault) == set()


async def test_an_erased_person_put_back_is_named(world: World, owner: asyncpg.Connection, clock: FakeClock) -> None:
    """D6 for one person: every row is there again, also the keys. The journal has the erasure, the log its entry."""
    people = await town(world)
    await keep_yesterday(owner)
    clock.advance(1)
    await erased(world, "bea")
    await put_back(owner, people["bea"])
    await owner.execute("DELETE FROM erased WHERE subject_id = $1", people["bea"])
    marks = await found(world.vault)
    assert (Check.ERASURE, people["bea"]) in marks
    assert (Check.LEAVES, None) in marks
    for table in PERSONAL:  # away again, so that the world agrees
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", people["bea"])  # noqa: S608 - ours


async def test_d6_an_erased_person_put_back_is_named_though_a_replay_destroyed_the_keys_long_after(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """The entry of the log is that of the replay, behind a restore: the journal's time is that of the erasure."""
    people = await town(world)
    await keep_yesterday(owner)
    lost = Erasure(clock.now(), uuid7(clock.now()), (people["bea"],))
    await world.vault.journal.append([lost])
    assert (Check.UNFULFILLED, people["bea"]) in await found(world.vault)  # nobody destroyed anything yet
    clock.advance(3 * HOUR)
    await owner.execute("UPDATE subject SET state = '\\x00' WHERE subject_id = $1", people["bea"])
    world.vault.warm.forget([people["bea"]])
    assert (await erase_again(world.vault, lost)).subjects == 1
    await put_back(owner, people["bea"])
    await owner.execute("DELETE FROM erased WHERE subject_id = $1", people["bea"])
    assert (Check.ERASURE, people["bea"]) in await found(world.vault)
    for table in PERSONAL:  # away again, so that the world agrees
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", people["bea"])  # noqa: S608 - ours


Tamper = Callable[[asyncpg.Connection, UUID, UUID], Awaitable[None]]


async def pointed_elsewhere(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute(
        "UPDATE identity SET subject_id = $2 WHERE tag = (SELECT min(tag) FROM identifier WHERE subject_id = $1)",
        ada,
        bea,
    )


async def pointed_elsewhere_on_record(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """Both rows: whose tag it is says the sealed value alone."""
    tag = await owner.fetchval("SELECT min(tag) FROM identifier WHERE subject_id = $1", ada)
    await owner.execute("UPDATE identity SET subject_id = $2 WHERE tag = $1", tag, bea)
    await owner.execute("UPDATE identifier SET subject_id = $2 WHERE tag = $1", tag, bea)


async def a_tag_of_nobody(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("INSERT INTO identity VALUES ($1, $2)", bytes(16), bea)


async def no_tag(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("DELETE FROM identity WHERE subject_id = $1", ada)


async def an_event_deleted(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute(
        "DELETE FROM event WHERE subject_id = $1 AND event_key = (SELECT min(event_key) FROM event WHERE subject_id = $1)",
        ada,
    )


async def events_swapped(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """As many as before, each whole: but it is the other one's."""
    await owner.execute(
        "UPDATE event SET ct = (SELECT o.ct FROM event o WHERE o.subject_id = $2 AND o.purposes = event.purposes LIMIT 1)"
        " WHERE subject_id = $1 AND EXISTS (SELECT FROM event o WHERE o.subject_id = $2 AND o.purposes = event.purposes)",
        ada,
        bea,
    )


async def a_wrap_of_nothing(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """No digest is over the wraps themselves: each is unwrapped."""
    wraps = await owner.fetchval("SELECT wraps FROM keys.subject_key WHERE subject_id = $1", ada)
    await owner.execute(
        "UPDATE keys.subject_key SET wraps = $2 WHERE subject_id = $1", ada, wraps[:-1] + bytes((wraps[-1] ^ 1,))
    )


async def no_mark(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("DELETE FROM change WHERE subject_id = $1", ada)


async def no_dedup(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("DELETE FROM dedup WHERE event_key IN (SELECT event_key FROM event WHERE subject_id = $1)", ada)


async def no_state_at_all(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("UPDATE subject SET state = ''::bytea WHERE subject_id = $1", ada)


async def an_entry_of_the_ledger(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("DELETE FROM ledger WHERE subject_id = $1 AND sequence = 1", ada)


async def no_values(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("DELETE FROM compartment WHERE subject_id = $1", ada)


async def another_root(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    await owner.execute("UPDATE subject SET root = $2 WHERE subject_id = $1", ada, uuid4())


async def a_member_deleted(owner: asyncpg.Connection, ada: UUID, bea: UUID) -> None:
    """Ada's device, which was joined with her."""
    device = await owner.fetchval("SELECT subject_id FROM subject WHERE root = $1 AND subject_id <> $1", ada)
    for table in (*PERSONAL, "identity"):
        await owner.execute(f"DELETE FROM {table} WHERE subject_id = $1", device)  # noqa: S608 - ours


FOUND: dict[Tamper, Check] = {
    pointed_elsewhere: Check.LOOKUP,
    pointed_elsewhere_on_record: Check.IDENTIFIERS,
    no_tag: Check.LOOKUP,
    an_event_deleted: Check.EVENTS,
    events_swapped: Check.EVENTS,
    a_wrap_of_nothing: Check.KEYS,
    no_mark: Check.CHANGE,
    no_dedup: Check.DEDUP,
    no_state_at_all: Check.STATE,
    another_root: Check.STATE,
    an_entry_of_the_ledger: Check.LEDGER,
    no_values: Check.VALUES,
    a_member_deleted: Check.PROFILE,
}


async def test_the_audit_names_who_was_tampered_with_and_what_does_not_agree(
    world: World, owner: asyncpg.Connection
) -> None:
    """A1 to A8, A20: also of rows that no reader looks at, such as those by which identifiers find people."""
    people = await town(world)
    assert await found(world.vault) == set()
    await keep_yesterday(owner, EVERYTHING)
    for tamper, check in FOUND.items():
        await tamper(owner, people["ada"], people["bea"])
        marks = await found(world.vault)
        assert (check, people["ada"]) in marks, tamper.__name__
        assert people["cleo"] not in {subject for _, subject in marks}, tamper.__name__
        await all_put_back(owner)
    assert await found(world.vault) == set()


async def test_a_tag_that_nobody_says_is_theirs_is_found(vault: Vault, owner: asyncpg.Connection) -> None:
    """A8: an identifier of the attacker's own, made to find a victim."""
    people = await town(await World.of(vault))
    await a_tag_of_nobody(owner, people["ada"], people["bea"])
    assert await found(vault) == {(Check.LOOKUP, people["bea"])}


async def test_disclosures_are_missed(world: World, owner: asyncpg.Connection) -> None:
    """A7, A8: the page's entry says how many rows it has, and the root over them."""
    people = await town(world)
    await keep_yesterday(owner, EVERYTHING)
    there = await owner.fetchval("SELECT count(*) FROM disclosure WHERE subject_id = $1", people["ada"])
    edited = (
        "UPDATE disclosure SET detail = substring(detail FROM 1 FOR octet_length(detail) - 1) WHERE subject_id = $1"
    )
    added = (
        "INSERT INTO disclosure SELECT gen_random_uuid(), destination, page, at, number, policy, salt, detail"
        " FROM disclosure WHERE subject_id = $1"
    )
    for statement in ("DELETE FROM disclosure WHERE subject_id = $1", edited, added):
        await owner.execute(statement, people["ada"])
        (finding,) = (await audit_state(world.vault)).findings
        assert (finding.check, finding.subject, finding.count) == (Check.DISCLOSURES, None, there), statement
        await all_put_back(owner)


async def test_a_waiting_entry_that_is_deleted_before_the_log_has_it_is_missed(
    world: World, owner: asyncpg.Connection
) -> None:
    """F1: no proof over the log can miss it; the salt that was to explain it does."""
    people = await town(world)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    await owner.execute("DELETE FROM audit_in")
    assert (Check.LOG, people["ada"]) in await found(world.vault)
    await owner.execute(
        "DELETE FROM audit_salt s WHERE subject_id = $1 AND NOT EXISTS (SELECT FROM audit a WHERE a.entry_id = s.entry_id)",
        people["ada"],
    )


async def test_a_narrowing_that_was_never_committed_is_told_as_harmless(world: World) -> None:
    people = await town(world)
    await world.vault.journal.append([Refusal(world.vault.clock.now(), people["ada"], 1 << 6)])
    report = await audit_state(world.vault)
    assert [(one.check, one.subject) for one in report.findings] == [(Check.UNFULFILLED, people["ada"])]
    assert report.good
    assert await record(world.vault, report.findings) == 0


# --- the sweep ----------------------------------------------------------------------------------------------------------


async def swept(vault: Vault) -> None:
    """A whole round of the duty, as a process of its own would make it."""
    duty = Sweep(vault)
    before = (await standing(vault)).swept_at
    for _ in range(100):
        await duty.step()
        now = (await standing(vault)).swept_at
        if now is not None and now != before:
            return
    raise AssertionError("the sweep does not get through")


HOUR_OF_REST = 3601


async def test_the_journal_is_never_read_on_the_event_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be long, or in a database elsewhere, and the same process serves."""
    await town(world)
    await world.choose(say("marketing", "withdrawn"), user="ada")
    journal, reads = world.vault.journal, list[bool]()
    real = journal._frames
    monkeypatch.setattr(journal, "_frames", lambda: reads.append(on_loop()) or real())
    assert (await audit_state(world.vault)).good
    assert set(reads) == {False}


async def test_the_sweep_says_each_finding_once_and_forgets_what_is_over(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    people = await town(world)
    row = await owner.fetchrow("SELECT tag, subject_id FROM identity WHERE subject_id = $1", people["ada"])
    await owner.execute("UPDATE identity SET subject_id = $2 WHERE tag = $1", row["tag"], people["bea"])
    for _ in range(3):
        await swept(world.vault)
        clock.advance(HOUR_OF_REST)
    entries = await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED)
    assert sorted(str(one.detail["check"]) for one in entries) == ["state:lookup", "state:lookup"]  # Ada's and Bea's
    assert (await standing(world.vault)).findings == 2
    told = await ready.check(world.vault)
    assert told.findings == 2
    assert ready.NOT_WHOLE in told.notes
    await owner.execute("UPDATE identity SET subject_id = $2 WHERE tag = $1", row["tag"], people["ada"])
    await swept(world.vault)
    assert (await standing(world.vault)).findings == 0
    assert len(await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED)) == 2
    assert ready.NOT_WHOLE not in (await ready.check(world.vault)).notes


@pytest.mark.parametrize("position", [9_000_000_000_000_000, 9_000_000_000_000_000_000, -1])
async def test_a_last_round_that_somebody_wrote_into_the_future_holds_no_round_up(
    world: World, owner: asyncpg.Connection, position: int
) -> None:
    """Else one row stopped the sweep for ever, and health said that it had just been through."""
    people = await town(world)
    await swept(world.vault)
    await keep_yesterday(owner, ("identity",))
    await owner.execute("DELETE FROM identity WHERE subject_id = $1", people["ada"])
    await owner.execute("UPDATE lease SET position = $1, holder = NULL, expires_at = 0 WHERE name = 'sweep'", position)
    assert (await ready.check(world.vault)).swept_at is None
    await swept(world.vault)
    told = await ready.check(world.vault)
    assert told.swept_at is not None
    assert told.findings > 0  # what this round found is not over
    await put_back(owner, people["ada"], ("identity",))  # so that the world agrees


@pytest.mark.parametrize(
    ("tag", "detail"),
    [
        (Tag.AUDIT_SALTS_FORGOTTEN, {}),
        (Tag.AUDIT_SALTS_FORGOTTEN, {"salts": "many", "disclosures": [1]}),
        (Tag.AUDIT_SALTS_FORGOTTEN, {"salts": -1, "disclosures": 0}),
        (Tag.INTEGRITY_CHECK_FAILED, {"subjects": 5}),
        (Tag.DISCLOSURE_PAGE_RELEASED, {"rows": 7}),
        (Tag.DISCLOSURE_PAGE_RELEASED, {"disclosed": "all"}),
    ],
)
async def test_an_entry_that_a_taken_process_left_does_not_silence_the_audit(
    world: World, tag: Tag, detail: Detail
) -> None:
    """A feed may put entries before the log, and has the key of their codes. What is in the log stays in it."""
    await town(world)
    vault = world.vault
    now = vault.clock.now()
    forged = Entry(entry_id=uuid7(now), at=now, tag=tag, actor="vault", policy=0, detail=detail)
    async with vault.database.begin() as connection:
        await store.append(connection, forged, vault.keyring.key(names.JOURNAL))
    await world.settle()
    assert await found(vault) == {(Check.LEAVES, None)}
    await swept(vault)
    assert (await standing(vault)).findings == 1


async def test_a_row_that_nobody_here_wrote_silences_no_finding(world: World, owner: asyncpg.Connection) -> None:
    """A8: the attacker says in our name that it is on record already."""
    people = await town(world)
    await owner.execute(
        "INSERT INTO integrity_finding VALUES ($1, $2, 1, 1, $3, $4)",
        people["ada"],
        NUMBERS[Check.DEDUP],
        2**62,
        bytes(32),
    )
    await no_dedup(owner, people["ada"], people["bea"])
    await swept(world.vault)
    assert [one.detail["check"] for one in await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED)] == ["state:dedup"]


async def test_a_round_that_was_broken_off_goes_on_where_it_was(
    database_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Killed at any step: what was seen lies on disk."""
    limits = Limits(sweep_rate=1)
    async with open_vault(settings_of(database_url, tmp_path, limits), clock=clock) as vault:
        world = await World.of(vault)
        await town(world)
        await Sweep(vault).step()
        await Sweep(vault).step()
        seen = Round(vault.settings.journal_folder, vault.keyring.key(names.JOURNAL)).last
        assert seen is not None
        assert seen == (await rows_of(vault, "SELECT subject_id FROM subject ORDER BY 1 OFFSET 1 LIMIT 1"))[0][0]
    clock.advance(HOUR_OF_REST)
    async with open_vault(settings_of(database_url, tmp_path, limits), clock=clock) as vault:
        await Sweep(vault).step()
        assert seen < Round(vault.settings.journal_folder, vault.keyring.key(names.JOURNAL)).last
        await swept(vault)
        everyone = [row[0] for row in await rows_of(vault, "SELECT subject_id FROM subject ORDER BY 1")]
        records = list(read(vault.settings.journal_folder, vault.keyring.key(names.JOURNAL)))
        assert [one.subject for one in records] == everyone


async def test_one_process_sweeps_at_a_time(world: World, database_url: str, tmp_path: Path, clock: FakeClock) -> None:
    await town(world)
    await Sweep(world.vault).step()
    before = (world.vault.settings.journal_folder / UNFINISHED).read_bytes()
    async with open_vault(world.vault.settings, clock=clock) as other:
        await Sweep(other).step()
    assert (world.vault.settings.journal_folder / UNFINISHED).read_bytes() == before


async def test_a_sweep_without_a_rate_does_nothing(database_url: str, tmp_path: Path, clock: FakeClock) -> None:
    async with open_vault(settings_of(database_url, tmp_path, Limits(sweep_rate=0)), clock=clock) as vault:
        await Sweep(vault).step()
        assert not (vault.settings.journal_folder / UNFINISHED).exists()


async def test_an_edited_memory_of_the_sweep_is_refused(world: World) -> None:
    """Its file lies beside the journal, and is under the journal's key."""
    await town(world)
    await swept(world.vault)
    path = world.vault.settings.journal_folder / FILE
    good = path.read_bytes()
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        with pytest.raises(Unreadable):
            list(read(world.vault.settings.journal_folder, world.vault.keyring.key(names.JOURNAL)))
    path.write_bytes(good)


@pytest.mark.parametrize("how", ["deleted", "older", "deleted with the round in work"])
async def test_a12_a_memory_of_the_sweep_that_somebody_took_away_is_missed_once(
    world: World, clock: FakeClock, how: str
) -> None:
    """Who may write in the journal's folder needs no key for it; the row of the sweep's lease knows better."""
    folder = world.vault.settings.journal_folder
    await town(world)
    await swept(world.vault)
    older = (folder / FILE).read_bytes()
    clock.advance(HOUR_OF_REST)
    await swept(world.vault)
    assert await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED) == []
    forget(folder)
    if how == "older":
        (folder / FILE).write_bytes(older)
    elif how != "deleted":
        (folder / UNFINISHED).write_bytes(b"PVSEEN01" + b"\xff" * 16 + bytes(8) + b"\x01")
    assert await found(world.vault) == {(Check.FORGOTTEN, None)}
    for _ in range(3):
        clock.advance(HOUR_OF_REST)
        await swept(world.vault)
    entries = await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED)
    assert [one.detail["check"] for one in entries] == ["state:forgotten"]
    assert (await standing(world.vault)).findings == 0  # over, a whole round later
    assert await found(world.vault) == set()


async def test_a12_who_has_no_key_makes_the_vault_sign_no_round_in_which_nobody_was_seen(
    world: World, owner: asyncpg.Connection, clock: FakeClock
) -> None:
    """One record of the last id there is: the next step would be the end of the round, and everybody forgotten."""
    people = await town(world)
    await keep_yesterday(owner)
    await world.send(identify("ada", firstName="Augusta"))
    await swept(world.vault)
    clock.advance(HOUR_OF_REST)
    folder = world.vault.settings.journal_folder
    (folder / UNFINISHED).write_bytes(b"PVSEEN01" + b"\xff" * 16 + bytes(8) + b"\x01")
    await swept(world.vault)
    await put_back(owner, people["ada"])
    assert await found(world.vault) == {(Check.OLDER, people["ada"])}


async def test_an_accepted_loss_makes_the_sweep_begin_anew(world: World, clock: FakeClock) -> None:
    """Else what was given up would be told as taken away."""
    await town(world)
    await swept(world.vault)
    clock.advance(HOUR_OF_REST)
    await record_loss(world.vault, Accepted(journal=True))
    forget(world.vault.settings.journal_folder)
    assert (await standing(world.vault)).swept_at is None
    assert await found(world.vault) == set()
    await swept(world.vault)
    assert await audited(world.vault, Tag.INTEGRITY_CHECK_FAILED) == []


async def test_a_run_goes_on_behind_the_person_where_it_was_broken_off(world: World) -> None:
    await town(world)
    everyone = [UUID(bytes=row[0].bytes) for row in await world.rows("SELECT subject_id FROM subject ORDER BY 1")]
    report = await audit_state(world.vault, Report(last=everyone[1]))
    assert report.people == len(everyone) - 2
    assert report.last == everyone[-1]
    assert report.good


def settings_of(database_url: str, folder: Path, limits: Limits) -> Settings:
    return Settings(
        data_dir=folder / "data",
        keyring=folder / "keyring",
        key_file=folder / "root.key",
        journal=folder / "journal",
        policies=Path(__file__).resolve().parents[2] / "policies",
        database_url=database_url,
        limits=limits,
    )


async def test_the_sweep_does_with_the_rights_of_its_duty_and_every_part_may_see_how_it_stands(
    database_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """A process of the duty `requests` has its role in the database and nothing else."""
    settings = settings_of(database_url, tmp_path, Limits())
    async with open_vault(settings, clock=clock) as vault:
        people = await town(await World.of(vault))
        async with vault.database.hot() as connection:
            await connection.execute(
                "UPDATE identity SET subject_id = $1 WHERE subject_id = $2", people["bea"], people["ada"]
            )
        own = vault.database
        for part in PARTS:
            vault.database = await Database.open(await login_for(database_url, {part}))
            try:
                if part == "requests":
                    await swept(vault)
                    assert (await standing(vault)).findings > 0
                await standing(vault)
            finally:
                await vault.database.close()
        vault.database = own
        assert {(one.check, one.subject) for one in (await audit_state(vault)).findings} >= {
            (Check.LOOKUP, people["ada"])
        }
