"""The journal's database fails in every way: gone, hung, cut off after a commit, locked by somebody, unfit, the vault's own."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from sqlalchemy.engine import make_url

from tests.worlds import World, identify, say
from vault.bootstrap import open_vault
from vault.clock import Clock, Micros
from vault.config import Settings
from vault.errors import ConfigError, Conflict, Unavailable, Unreadable
from vault.flows import ready
from vault.flows.losses import Accepted
from vault.flows.sweep.duty import Sweep
from vault.flows.vault import Vault
from vault.journal.narrowing import Begun, Refusal, Restriction
from vault.journal.postgres import PostgresJournal
from vault.storage.aside import SESSION, Aside

KEY = bytes(range(32))
SHORT = 0.5  # seconds: what hangs here hangs for good
ROOT = Path(__file__).resolve().parents[2]


def narrowing(number: int) -> Restriction:
    return Restriction(Micros(number), UUID(int=number))


class Line:
    """Stands between a journal and its server's socket: can refuse, hang, or swallow what the server says."""

    def __init__(self, folder: Path, url: str) -> None:
        parsed = make_url(url)
        self._server = f"{parsed.query['host']}/.s.PGSQL.5432"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self.url = parsed.update_query_dict({"host": str(folder)}).render_as_string()
        self.mode = "whole"  # or refuse, hang (nothing arrives), deaf (nothing comes back)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        self.mode = "refuse"
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.mode == "refuse":
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                for there, back, backwards in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(there, back, backwards), daemon=True).start()

    def _pass(self, there: socket.socket, back: socket.socket, backwards: bool) -> None:
        with suppress(OSError):
            while data := there.recv(65536):
                if self.mode == "hang" or (self.mode == "deaf" and backwards):
                    continue
                back.sendall(data)


@pytest.fixture
def line(tmp_path: Path, empty_url: str) -> Iterator[Line]:
    folder = tmp_path / "l"
    folder.mkdir()
    made = Line(folder, empty_url)
    yield made
    made.close()


@pytest.fixture
def outsider(empty_url: str) -> Iterator[Aside]:
    made = Aside(empty_url, name="outsider", code="unavailable")
    yield made
    made.close()


def count(outsider: Aside) -> int:
    async def job(connection: Any) -> int:
        return int(await connection.fetchval("SELECT count(*) FROM journal.frame"))

    return outsider.run(job)


# --- the journal alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["refuse", "hang", "deaf"])
def test_h13_a_server_that_is_gone_or_hangs_refuses_in_bounded_time_and_is_used_again_when_it_is_back(
    line: Line, mode: str
) -> None:
    journal = PostgresJournal(line.url, KEY, patience=SHORT)
    try:
        assert journal.append_now([narrowing(1)]) == 1
        line.mode = mode
        if mode == "refuse":
            line.cut()
        for attempt in (
            lambda: journal.append_now([narrowing(2)]),
            journal.probe,
            journal.read_head,
            lambda: journal.write_head(1, bytes(32)),
        ):
            with pytest.raises(Unavailable) as refused:
                attempt()
            assert refused.value.reason == "journal_unavailable"
        assert journal.fault == "journal_unavailable"
        line.mode = "whole"
        line.cut()
        last = journal.append_now([narrowing(3)])
        assert journal.fault is None
        assert journal.verify().number == last
        assert [one.narrowing.at for one in journal.read()][-1] == 3
    finally:
        journal.close()


def test_h9_an_entry_whose_commit_was_not_heard_of_may_be_there_twice_and_the_chain_holds(
    line: Line, outsider: Aside
) -> None:
    journal = PostgresJournal(line.url, KEY, patience=SHORT)
    try:
        journal.append_now([narrowing(1)])
        line.mode = "deaf"
        with pytest.raises(Unavailable):
            journal.append_now([narrowing(2)])  # committed, and the answer never came
        assert count(outsider) == 2
        line.mode = "whole"
        line.cut()
        assert journal.append_now([narrowing(2)]) == 3  # its act was tried again
        assert [one.narrowing.at for one in journal.read()] == [1, 2, 2]
        assert journal.verify() == journal.head
    finally:
        journal.close()


async def test_h13_a_writer_that_stopped_with_the_lock_in_its_hand_does_not_hold_it_for_ever(
    empty_url: str,
) -> None:
    journal = PostgresJournal(empty_url, KEY, patience=SHORT)
    parsed = make_url(empty_url)
    other = await asyncpg.connect(host=str(parsed.query["host"]), user="vault", database=parsed.database)
    try:
        async with other.transaction():
            await other.execute("SELECT * FROM journal.head FOR UPDATE")
            with pytest.raises(Unavailable):
                await journal.append([narrowing(1)])
        # What waited in the server may have been written when the lock went: then it is there twice.
        assert await journal.append([narrowing(1)]) in {1, 2}
        assert journal.verify() == journal.head
    finally:
        await other.close()
        journal.close()
    for name, least in (("idle_in_transaction_session_timeout", "5s"), ("lock_timeout", "4s")):
        assert SESSION[name] == least


def test_who_reads_the_chain_while_it_grows_takes_that_for_no_loss(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state audit and the look after tombstones read in other threads than the one that appends."""
    with closing(PostgresJournal(empty_url, KEY)) as journal:
        journal.append_now([narrowing(1)])
        real = Aside.once

        def once(self: Aside, *work: Any) -> Any:
            seen = real(self, *work)
            journal.append_now([narrowing(2)])  # right behind the snapshot
            return seen

        monkeypatch.setattr(Aside, "once", once)
        assert journal.verify().number == 1
        assert journal.append_now([narrowing(3)]) == 3
        monkeypatch.undo()
        assert [entry.number for entry in journal.read()] == [1, 2, 3]


async def test_a_table_that_a_crash_would_empty_is_no_journal(empty_url: str, outsider: Aside) -> None:
    PostgresJournal(empty_url, KEY).close()

    async def job(connection: Any) -> None:
        await connection.execute("ALTER TABLE journal.frame SET UNLOGGED")

    outsider.run(job)
    with pytest.raises(Unavailable, match="cannot answer"):
        PostgresJournal(empty_url, KEY, begin=False)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM journal.head",
        "UPDATE journal.head SET number = 1",
        "UPDATE journal.head SET form = 2",
        "UPDATE journal.head SET length = length + 1",
        "DELETE FROM journal.frame WHERE number = 2",
        "UPDATE journal.frame SET number = 9 WHERE number = 2",
        "UPDATE journal.frame SET bytes = substr(bytes, 1, 60) WHERE number = 2",
        "UPDATE journal.frame SET bytes = substr(bytes, 1, 60) WHERE number = 1",
        "INSERT INTO journal.frame SELECT 3, bytes FROM journal.frame WHERE number = 2",
    ],
)
def test_f1_rows_that_do_not_fit_each_other_stop_it(empty_url: str, outsider: Aside, statement: str) -> None:
    running = PostgresJournal(empty_url, KEY)
    running.append_now([narrowing(1), narrowing(2)])

    async def job(connection: Any) -> None:
        await connection.execute(statement)

    outsider.run(job)
    try:
        if "substr" not in statement:  # as with a file, what was written before is looked at when it is read
            with pytest.raises(Unreadable):
                running.append_now([narrowing(3)])
        with pytest.raises(Unreadable):
            running.verify()
        with pytest.raises(Unreadable), closing(PostgresJournal(empty_url, KEY, begin=False)) as fresh:
            fresh.verify()
    finally:
        running.close()


def test_an_unfit_server_is_refused_at_the_start_and_later_an_outage(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unfit(_: Any) -> None:
        raise ConfigError("the PostgreSQL server is not fit: set fsync = on")

    journal = PostgresJournal(empty_url, KEY)
    try:
        with monkeypatch.context() as patched:
            patched.setattr("vault.storage.aside.check_server", unfit)
            with pytest.raises(ConfigError) as refused:
                PostgresJournal(empty_url, KEY)
            assert "journal's database" in refused.value.hint
            assert journal.append_now([narrowing(1)]) == 1  # the connection that it has
            with pytest.raises(Unavailable):
                journal.verify()  # a connection of its own
    finally:
        journal.close()


async def test_a_role_that_reads_only_verifies_the_journal_and_writes_nothing(
    empty_url: str, server: Any, outsider: Aside
) -> None:
    """As the processes have it that release data. An ordinary role of the server, as in the how-to page."""
    journal = PostgresJournal(empty_url, KEY)
    journal.append_now([narrowing(1)])
    journal.write_head(1, bytes(32))
    role = f"r_{os.urandom(4).hex()}"

    async def make(connection: Any) -> None:
        await connection.execute(f"CREATE ROLE {role} LOGIN")
        await connection.execute(f"GRANT USAGE ON SCHEMA journal TO {role}")
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA journal TO {role}")

    async def drop(connection: Any) -> None:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")

    outsider.run(make)
    reader = PostgresJournal(make_url(empty_url).set(username=role).render_as_string(), KEY, begin=False)
    try:
        assert reader.verify() == journal.head
        assert reader.read_head() is not None
        reader.probe()
        for attempt in (
            lambda: reader.append_now([narrowing(2)]),
            lambda: reader.write_head(2, bytes(32)),
            reader.shut,
        ):
            with pytest.raises(Unavailable):
                attempt()
        assert journal.verify().number == 1
    finally:
        reader.close()
        journal.close()
        outsider.run(drop)


def test_what_it_says_holds_no_password(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("postgresql://vault:geheim@127.0.0.1:1/x", "postgresql://vault:geheim@127.0.0.1/x?geheim=1"):
        with pytest.raises((Unavailable, ConfigError)) as refused:
            PostgresJournal(url, KEY, patience=SHORT)
        told = f"{refused.value!r} {refused.value} {refused.value.hint} {refused.value.__cause__}"
        assert "geheim" not in told + caplog.text


# --- a whole vault on it ------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(database_url: str, line: Line, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keyring=tmp_path / "keyring",
        key_file=tmp_path / "root.key",
        journal=None,
        journal_url=line.url,
        policies=ROOT / "policies",
        database_url=database_url,
    )


async def test_h13_while_the_journal_is_away_nothing_is_taken_away_and_nothing_is_committed(
    settings: Settings, clock: Clock, line: Line
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        world = await World.of(vault)
        await world.send(identify("u-1", email="ada@example.com"))
        assert (await ready.check(vault)).rollback_protection == "none"  # both on one server, here
        before = await world.count("ledger")
        line.mode = "refuse"
        line.cut()
        with pytest.raises(Unavailable) as refused:
            await world.choose(say("marketing", "withdrawn"), user="u-1", id="c-1")
        assert refused.value.reason == "journal_unavailable"
        assert await world.count("ledger") == before
        assert (await world.stands("u-1"))["marketing"] == "granted"
        with pytest.raises(Unavailable):
            await ready.check(vault)
        await world.send(identify("u-2", email="bob@example.com"))  # it takes nothing away
        line.mode = "whole"
        await world.choose(say("marketing", "withdrawn"), user="u-1", id="c-1")
        assert (await world.stands("u-1"))["marketing"] == "withdrawn"
        await world.settle()
        assert vault.journal.read_head() is not None
        assert [one for one in world.journal() if isinstance(one.narrowing, Refusal)]
        await world.check()
    async with open_vault(settings, clock=clock) as vault:
        assert vault.journal.verify().number >= 3


async def test_d14_a_used_vault_does_not_start_without_its_journal_and_begins_no_new_one(
    settings: Settings, clock: Clock, line: Line, outsider: Aside
) -> None:
    async with open_vault(settings, clock=clock):
        pass
    line.mode = "refuse"
    with pytest.raises(Unavailable):
        async with open_vault(settings, clock=clock):
            pass
    line.mode = "whole"

    async def lose(connection: Any) -> None:
        await connection.execute("DROP SCHEMA journal CASCADE")

    await asyncio.to_thread(outsider.run, lose)
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot answer"):
            async with open_vault(settings, clock=clock):
                pass


async def test_a_journal_that_is_lost_from_its_database_is_begun_anew_by_an_officer_only(
    settings: Settings, clock: Clock, outsider: Aside
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        known = vault.journal.copied()

    async def cut(connection: Any) -> None:
        await connection.execute("DELETE FROM journal.frame")

    async def aside(connection: Any) -> None:
        await connection.execute("ALTER SCHEMA journal RENAME TO journal_broken")

    with pytest.raises(Conflict):  # it is whole
        async with open_vault(settings, clock=clock, accepted=Accepted(journal=True)):
            pass
    await asyncio.to_thread(outsider.run, cut)
    with pytest.raises(ConfigError) as refused:
        async with open_vault(settings, clock=clock, accepted=Accepted(journal=True)):
            pass
    assert "RENAME TO journal_broken" in refused.value.hint
    await asyncio.to_thread(outsider.run, aside)
    with pytest.raises(Unavailable):
        async with open_vault(settings, clock=clock):
            pass
    async with open_vault(settings, clock=clock, accepted=Accepted(journal=True)) as vault:
        assert isinstance(next(vault.journal.read()).narrowing, Begun)
        assert set(vault.journal.copied()) >= {name for name in known if not name.startswith("policies")}
    async with open_vault(settings, clock=clock) as vault:
        await ready.check(vault)


async def test_a_state_audit_remembers_in_the_data_folder_where_the_journal_has_none(
    settings: Settings, clock: Clock
) -> None:
    async with open_vault(settings, clock=clock) as vault:
        world = await World.of(vault)
        await world.send(identify("u-1", email="ada@example.com"))
        await world.settle()
        assert not await vault_sweep(vault)
        assert (settings.data_dir / "seen").is_dir()


async def vault_sweep(vault: Vault) -> int:
    """Rounds of the sweep until it rests; answers how many things did not agree."""
    sweep = Sweep(vault)
    while await sweep.step():
        pass
    async with vault.database.hot() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM integrity_finding"))


async def test_a_journal_in_the_vaults_own_database_is_refused_and_nothing_is_made_there(
    settings: Settings, clock: Clock, database_url: str
) -> None:
    wrong = msgspec.structs.replace(settings, journal_url=database_url)
    with pytest.raises(ConfigError) as refused:
        async with open_vault(wrong, clock=clock):
            pass
    assert "the database of the vault itself" in refused.value.hint
    async with open_vault(settings, clock=clock) as vault, vault.database.hot() as connection:
        assert await connection.fetchval("SELECT to_regclass('journal.head')") is None
