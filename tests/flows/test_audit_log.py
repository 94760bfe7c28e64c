"""The audit log on a real database: grows in order of commit, proves its entries, and shows every edit (threats F1 to F9)."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.fakes import FakeClock
from vault.audit import store
from vault.audit.checkpoint import check_follows, origin_of, read
from vault.audit.entry import Entry, Tag, parse, salted
from vault.audit.log import accept_loss, check_head, consistency, integrate, proof
from vault.audit.verify import Report, verify
from vault.crypto.services.local import LocalKeyService
from vault.errors import Conflict, NotFound, Unreadable
from vault.ids import uuid7
from vault.journal import witness
from vault.journal.head import AuditHead, read_head
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.merkle import leaf_hash, node_hash, verify_inclusion
from vault.storage.lease import AUDIT, take
from vault.storage.session import Database


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    ring = Keyring(KeyStore(tmp_path / "keyring", LocalKeyService(bytes(range(32)))))
    ring.open()
    ring.ensure([], [])
    return ring


class Log:
    """One vault's log, with what its tests do to it."""

    def __init__(self, database: Database, keyring: Keyring, journal: Path, clock: FakeClock) -> None:
        journal.mkdir(mode=0o700)
        self.database, self.keyring, self.journal, self.clock = database, keyring, journal, clock
        self.public = keyring.signer("audit").public

    async def add(self, count: int = 1, subject: UUID | None = None) -> list[Entry]:
        made = []
        for number in range(count):
            self.clock.advance(0.001)
            async with self.database.begin() as connection:
                entry = Entry(
                    entry_id=uuid7(self.clock.now()),
                    at=self.clock.now(),
                    tag=Tag.POLICY_VERSION_APPLIED,
                    actor="operator",
                    policy=1,
                    detail={"number": number},
                )
                made.append(await store.append(connection, entry, self.keyring.key(names.JOURNAL), subject))
        return made

    async def grow(self, *sizes: int) -> None:
        for count in sizes:
            await self.add(count)
            assert await integrate(self.database, self.keyring, self.journal, self.clock) == count

    async def verify(self, *, head: bool = True) -> Report:
        known = read_head(self.journal, self.keyring.key(names.JOURNAL)) if head else None
        async with self.database.snapshot() as connection:
            return await verify(connection, [self.public], known)

    async def sql(self, *statements: str) -> None:
        async with self.database.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)


@pytest.fixture
def log(database: Database, keyring: Keyring, tmp_path: Path, clock: FakeClock) -> Log:
    return Log(database, keyring, tmp_path / "journal", clock)


async def test_an_entry_is_taken_up_once_and_proven_under_the_signed_head(log: Log) -> None:
    await log.grow(3, 1, 4)
    (entry,) = await log.add()
    async with log.database.snapshot() as connection:
        with pytest.raises(NotFound):
            await proof(connection, entry.entry_id)
    assert await integrate(log.database, log.keyring, log.journal, log.clock) == 1
    assert await integrate(log.database, log.keyring, log.journal, log.clock) == 0
    async with log.database.snapshot() as connection:
        found = await proof(connection, entry.entry_id)
        head = read(found.checkpoint, [log.public], origin_of(await store.log_id(connection)))
    assert (found.index, head.size) == (8, 9)
    assert parse(found.leaf) == entry
    verify_inclusion(leaf_hash(found.leaf), found.index, head.size, found.proof, head.root)
    with pytest.raises(Unreadable):
        verify_inclusion(leaf_hash(found.leaf + b" "), found.index, head.size, found.proof, head.root)


async def test_every_entry_is_provable_at_every_size(log: Log) -> None:
    for _ in range(9):
        await log.grow(1)
    async with log.database.snapshot() as connection:
        for row in await store.leaves(connection, 0, 100):
            found = await proof(connection, row.entry_id)
            head = read(found.checkpoint, [log.public], origin_of(await store.log_id(connection)))
            verify_inclusion(leaf_hash(row.leaf), row.number, head.size, found.proof, head.root)


async def test_each_signed_head_follows_the_one_before(log: Log) -> None:
    await log.grow(1, 2, 4, 3)
    async with log.database.snapshot() as connection:
        origin = origin_of(await store.log_id(connection))
        heads = [read(note, [log.public], origin) for _, note in await store.checkpoints(connection)]
        assert [head.size for head in heads] == [1, 3, 7, 10]
        for older in heads:
            for newer in heads:
                if older.size <= newer.size:
                    check_follows(older, newer, await consistency(connection, older.size, newer.size))
        with pytest.raises(NotFound):
            await consistency(connection, 3, 11)


async def test_a_rolled_back_entry_leaves_no_gap(log: Log) -> None:
    await log.grow(2)
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction belongs to the claim
        async with log.database.begin() as connection:
            entry = Entry(entry_id=uuid4(), at=log.clock.now(), tag=Tag.AUDIT_LOG_READ, actor="vault", policy=0)
            await store.append(connection, entry, log.keyring.key(names.JOURNAL))
            raise RuntimeError
    await log.grow(1)
    report = await log.verify()
    assert (report.good, report.size, report.checkpoints) == (True, 3, 3)  # two heads and the one outside


async def test_f9_order_is_that_of_taking_up_whatever_the_clock_says(log: Log) -> None:
    await log.grow(2)
    log.clock.advance(-3600)
    (early,) = await log.add()
    await integrate(log.database, log.keyring, log.journal, log.clock)
    async with log.database.snapshot() as connection:
        assert (await proof(connection, early.entry_id)).index == 2
    assert (await log.verify()).good


async def test_d6_a_person_appears_salted_and_no_more_once_the_salt_is_gone(log: Log) -> None:
    ada, bob = uuid4(), uuid4()
    (one,) = await log.add(subject=ada)
    (two,) = await log.add(subject=ada)
    await log.add(subject=bob)
    await integrate(log.database, log.keyring, log.journal, log.clock)
    assert one.subject != two.subject
    async with log.database.snapshot() as connection:
        found = await store.about(connection, [ada])
    assert [parse(row.leaf).subject for row, salt in found] == [salted(salt, ada.bytes) for _, salt in found]
    assert len(found) == 2
    assert all(str(ada).encode() not in row.leaf and ada.hex.encode() not in row.leaf for row, _ in found)
    async with log.database.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM audit_salt WHERE subject_id = $1", (ada,))
    async with log.database.snapshot() as connection:
        assert await store.about(connection, [ada]) == []
    assert (await log.verify()).good  # and the log still verifies


@pytest.mark.parametrize(
    ("statements", "index"),
    [
        (["DELETE FROM audit WHERE number >= 20"], 20),  # truncate
        (["DELETE FROM audit WHERE number = 7"], 7),  # delete from the middle
        (["UPDATE audit SET leaf = (SELECT leaf FROM audit WHERE number = 0) WHERE number = 7"], 7),  # edit
        (
            [  # swap two
                "UPDATE audit SET number = -1 WHERE number = 7",
                "UPDATE audit SET number = 7 WHERE number = 9",
                "UPDATE audit SET number = 9 WHERE number = -1",
            ],
            7,
        ),
        (
            [  # close the gap after a deletion
                "DELETE FROM audit WHERE number = 7",
                "UPDATE audit SET number = -number WHERE number > 7",
                "UPDATE audit SET number = -number - 1 WHERE number < 0",
            ],
            7,
        ),
        (["UPDATE audit SET leaf = leaf || ' '::bytea WHERE number = 12"], 12),  # not the one writing of the entry
        (["UPDATE audit_node SET hash = sha256(hash) WHERE level = 1 AND position = 4"], 8),
        (["DELETE FROM audit_node WHERE level = 0 AND position = 5"], 5),
        (["UPDATE checkpoint SET note = replace(note, '20', '19') WHERE size = 20"], 10),  # signature
        (["DELETE FROM checkpoint WHERE size = 24", "UPDATE lease SET position = 20"], None),
    ],
)
async def test_f1_verify_names_the_first_bad_index(log: Log, statements: list[str], index: int | None) -> None:
    await log.grow(10, 10, 4)
    assert (await log.verify()).good
    await log.sql(*statements)
    report = await log.verify()
    if index is None:  # the head beside the journal still vouches for all leaves
        assert report.good
        assert (await log.verify(head=False)).first_bad == 20
    else:
        assert not report.good
        assert report.first_bad == index
        assert report.problem


async def test_f4_a_log_cut_to_an_older_signed_head_is_shown_by_the_head_outside(log: Log) -> None:
    await log.grow(10, 10)
    cut = ["DELETE FROM audit WHERE number >= 10", "DELETE FROM checkpoint WHERE size > 10"]
    await log.sql(*cut, "DELETE FROM audit_node WHERE (position + 1) << level > 10", "UPDATE lease SET position = 10")
    assert (await log.verify(head=False)).good  # nothing inside the database tells
    assert (await log.verify()).first_bad == 10
    async with log.database.snapshot() as connection:
        with pytest.raises(Conflict) as refused:
            await check_head(connection, log.keyring, log.journal)
    assert refused.value.reason == "audit_behind_head"
    await log.add()
    with pytest.raises(Conflict) as refused:  # and nothing is signed on top of it
        await integrate(log.database, log.keyring, log.journal, log.clock)
    assert refused.value.reason == "audit_behind_head"


async def test_a_consistent_edit_below_a_signed_head_is_shown(log: Log) -> None:
    """Leaf and tree agree with each other, and with no signed head."""
    await log.grow(2)
    await log.grow(2)
    other = Entry(entry_id=uuid4(), at=log.clock.now(), tag=Tag.AUDIT_LOG_READ, actor="vault", policy=0)
    async with log.database.begin() as connection:
        rows = await store.leaves(connection, 0, 4)
        leaf = other.leaf()
        left, right = leaf_hash(rows[2].leaf), leaf_hash(leaf)
        await connection.exec_driver_sql(
            "UPDATE audit SET leaf = $1, entry_id = $2 WHERE number = 3", (leaf, other.entry_id)
        )
        pair = node_hash(left, right)
        first = node_hash(leaf_hash(rows[0].leaf), leaf_hash(rows[1].leaf))
        for level, position, value in ((0, 3, right), (1, 1, pair), (2, 0, node_hash(first, pair))):
            await connection.exec_driver_sql(
                "UPDATE audit_node SET hash = $1 WHERE level = $2 AND position = $3", (value, level, position)
            )
    report = await log.verify()
    assert report.first_bad == 2  # the last head that holds has two leaves
    assert "changed" in report.problem


async def test_an_officer_may_accept_the_loss_and_the_log_goes_on(log: Log) -> None:
    await log.grow(5, 5)
    async with log.database.begin() as connection:
        with pytest.raises(NotFound):
            await accept_loss(connection, log.keyring, log.journal)
    cut = ["DELETE FROM audit WHERE number >= 5", "DELETE FROM checkpoint WHERE size > 5"]
    await log.sql(*cut, "DELETE FROM audit_node WHERE (position + 1) << level > 5", "UPDATE lease SET position = 5")
    (log.journal / witness.FILE).write_bytes(b"versions of what was lost")
    async with log.database.begin() as connection:
        lost = await accept_loss(connection, log.keyring, log.journal)
        assert lost.size == 10
        assert not (log.journal / witness.FILE).exists()  # else the state audit accused everybody
        await check_head(connection, log.keyring, log.journal)
    await log.grow(2)
    assert (await log.verify()).good


async def test_h21_a_log_keeper_that_slept_signs_nothing(log: Log, database_url: str) -> None:
    await log.grow(2)
    other = await Database.open(database_url)
    try:
        await log.add()
        assert await integrate(other, log.keyring, log.journal, log.clock) == 0  # the first one's lease lives
        async with log.database.hot() as driver:
            held = await take(driver, AUDIT, log.database.holder, log.clock.now())
            assert held is not None
            log.clock.advance(60)
            assert await integrate(other, log.keyring, log.journal, log.clock) == 1
            entry = (await log.add())[0]
            stale = store.Extension(2, [(entry.entry_id, entry.leaf())], [], log.clock.now(), "forged")
            assert not await store.extend(driver, AUDIT, held.fencing, stale, log.clock.now())
        assert (await log.verify()).size == 3
    finally:
        await other.close()


async def test_two_keepers_at_once_lose_and_double_nothing(log: Log) -> None:
    await log.add(60)

    async def keep() -> int:
        try:
            return await integrate(log.database, log.keyring, log.journal, log.clock, batch=7)
        except Conflict:
            return 0

    while sum(await asyncio.gather(*(keep() for _ in range(4)))):
        pass
    report = await log.verify()
    assert (report.good, report.size) == (True, 60)


async def test_the_head_outside_catches_up_after_a_crash_between_commit_and_head(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.grow(2)
    await log.add()

    def crash(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("vault.audit.log.write_head", crash)
        with pytest.raises(OSError, match="disk full"):
            await integrate(log.database, log.keyring, log.journal, log.clock)
    assert _head(log).size == 2
    await log.grow(1)
    assert _head(log).size == 4
    assert (await log.verify()).good


def _head(log: Log) -> AuditHead:
    head = read_head(log.journal, log.keyring.key(names.JOURNAL))
    assert head is not None
    return head


async def test_f4_nothing_is_signed_on_a_log_whose_leaves_and_nodes_were_rewritten(log: Log) -> None:
    await log.grow(3)
    before = read_head(log.journal, log.keyring.key(names.JOURNAL))
    async with log.database.hot() as driver:
        leaves = [row[0] for row in await driver.fetch("SELECT leaf FROM audit ORDER BY number")]
        forged = [*leaves[:2], leaves[2].replace(b"operator", b"nobodyxx"), leaves[0]]
        nodes = {(0, n): leaf_hash(leaf) for n, leaf in enumerate(forged)}
        nodes |= {(1, n): node_hash(nodes[0, 2 * n], nodes[0, 2 * n + 1]) for n in (0, 1)}
        nodes[2, 0] = node_hash(nodes[1, 0], nodes[1, 1])
        await driver.execute("UPDATE audit SET leaf = $1 WHERE number = 2", forged[2])
        await driver.execute("INSERT INTO audit (number, entry_id, leaf) VALUES (3, $1, $2)", uuid4(), forged[3])
        await driver.execute("DELETE FROM audit_node")
        for (level, position), value in nodes.items():
            await driver.execute("INSERT INTO audit_node VALUES ($1, $2, $3)", level, position, value)
        await driver.execute("DELETE FROM checkpoint")
        await driver.execute("UPDATE lease SET position = 4 WHERE name = $1", AUDIT)
    with pytest.raises(Conflict):
        await log.grow(1)
    assert read_head(log.journal, log.keyring.key(names.JOURNAL)) == before


async def test_f7_an_entry_that_no_process_wrote_is_refused_and_the_log_says_so(log: Log) -> None:
    await log.add(2)
    entry = Entry(
        entry_id=uuid7(log.clock.now()), at=log.clock.now(), tag=Tag.RIGHTS_ARCHIVE_MADE, actor="vault", policy=1
    )
    async with log.database.hot() as owner:
        await owner.execute("INSERT INTO audit_in VALUES ($1, $2)", entry.entry_id, entry.leaf())
        await owner.execute(
            "UPDATE audit_in SET leaf = leaf || '\\x20'::bytea WHERE entry_id ="
            " (SELECT entry_id FROM audit_in ORDER BY entry_id LIMIT 1)"
        )
    while await integrate(log.database, log.keyring, log.journal, log.clock):
        pass
    async with log.database.hot() as owner:
        taken = [parse(row[0]) for row in await owner.fetch("SELECT leaf FROM audit ORDER BY number")]
        assert await owner.fetch("SELECT 1 FROM audit_in") == []
    assert [one.tag for one in taken] == [Tag.POLICY_VERSION_APPLIED, Tag.INTEGRITY_CHECK_FAILED]
    assert taken[1].detail["entries"] == 2
    assert (await log.verify()).good


async def test_nobody_who_holds_another_key_writes_an_entry(log: Log) -> None:
    entry = Entry(
        entry_id=uuid7(log.clock.now()), at=log.clock.now(), tag=Tag.RIGHTS_ARCHIVE_MADE, actor="vault", policy=1
    )
    async with log.database.begin() as connection:
        await store.append(connection, entry, bytes(32))
    await integrate(log.database, log.keyring, log.journal, log.clock)
    async with log.database.begin() as connection:
        assert await store.find(connection, entry.entry_id) is None
