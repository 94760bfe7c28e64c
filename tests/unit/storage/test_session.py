"""Sessions: transactions that mean what they say, and errors that repeat no value (threats H9, H10, H16; ruling 6)."""

import asyncio
import contextlib
import logging
import traceback
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from asyncpg.transaction import Transaction

from vault.errors import ConfigError, Conflict, Unavailable, VaultError
from vault.storage.fitness import unfit
from vault.storage.session import CONNECTIONS, RESERVED, Database, raw, reserved

CANARY = "jane@example.com"
INSERT = "INSERT INTO instance (name, value) VALUES ($1, $2)"


async def values(database: Database, name: str) -> list[str]:
    async with database.hot() as connection:
        return [row["value"] for row in await connection.fetch("SELECT value FROM instance WHERE name = $1", name)]


async def test_core_and_raw_statements_share_one_transaction(database: Database) -> None:
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction belongs to the claim
        async with database.begin() as connection:
            await (await raw(connection)).execute(INSERT, "a", "raw")
            await connection.execute(sa.text("INSERT INTO instance VALUES ('b', 'core')"))
            found = await connection.execute(sa.text("SELECT count(*) FROM instance WHERE name IN ('a', 'b')"))
            assert found.scalar_one() == 2
            raise RuntimeError
    assert await values(database, "a") == await values(database, "b") == []
    async with database.begin() as connection:
        await (await raw(connection)).execute(INSERT, "a", "raw")
        await connection.execute(sa.text("INSERT INTO instance VALUES ('b', 'core')"))
    assert await values(database, "a") + await values(database, "b") == ["raw", "core"]


async def test_a_hot_statement_commits_by_itself(database: Database) -> None:
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction belongs to the claim
        async with database.hot() as connection:
            await connection.execute(INSERT, "a", "kept")
            raise RuntimeError
    assert await values(database, "a") == ["kept"]


async def test_a_snapshot_sees_one_moment_and_writes_nothing(database: Database) -> None:
    async with database.snapshot() as connection:
        before = await connection.fetchval("SELECT count(*) FROM instance")
        async with database.hot() as other:
            await other.execute(INSERT, "late", "x")
        assert await connection.fetchval("SELECT count(*) FROM instance") == before
    with pytest.raises(Unavailable):
        async with database.snapshot() as connection:
            await connection.execute(INSERT, "b", "x")


@pytest.mark.parametrize("way", ["raw", "core", "hot"])
async def test_no_error_repeats_a_value(database: Database, way: str) -> None:
    with pytest.raises(Conflict) as refused:  # noqa: PT012 - the transaction belongs to the claim
        for _ in range(2):
            if way == "hot":
                async with database.hot() as connection:
                    await connection.execute(INSERT, CANARY, CANARY)
                continue
            async with database.begin() as transaction:
                if way == "raw":
                    await (await raw(transaction)).execute(INSERT, CANARY, CANARY)
                else:
                    await transaction.execute(
                        sa.text("INSERT INTO instance VALUES (:a, :b)"), {"a": CANARY, "b": CANARY}
                    )
    shown = "".join(traceback.format_exception(refused.value))
    assert CANARY not in shown
    assert "23505" in shown
    one: BaseException | None = refused.value
    while one is not None:  # what a crash reporter would walk
        assert CANARY not in repr(one) + str(one) + repr(vars(one))
        one = one.__cause__ or one.__context__


@pytest.mark.parametrize(
    ("statement", "error", "reason"),
    [
        ("SELECT 1/0", Unavailable, "database_unavailable"),
        ("SELECT nothing FROM nowhere", Unavailable, "database_unavailable"),
        ("INSERT INTO instance VALUES ('incarnation', 'twice')", Conflict, "conflict"),
        ("INSERT INTO instance VALUES ('null', NULL)", Conflict, "conflict"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", Conflict, "retry"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$", Conflict, "retry"),
    ],
)
async def test_errors_have_a_code(database: Database, statement: str, error: type[VaultError], reason: str) -> None:
    with pytest.raises(error) as refused:
        async with database.begin() as connection:
            await connection.execute(sa.text(statement))
    assert refused.value.reason == reason


async def test_the_callers_own_errors_pass_through(database: Database) -> None:
    for error in (KeyError("mine"), TimeoutError("mine"), OSError("mine"), Conflict("mine")):
        with pytest.raises(type(error)) as refused:
            async with database.begin():
                raise error
        assert refused.value is error


async def test_h10_a_cancelled_transaction_leaves_a_clean_connection(database: Database) -> None:
    async def work() -> None:
        async with database.begin() as connection:
            driver = await raw(connection)
            await driver.execute("SET LOCAL statement_timeout = '77s'")
            await driver.execute(INSERT, "cancelled", "x")
            await driver.execute("SELECT pg_sleep(30)")

    for _ in range(5):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await values(database, "cancelled") == []
    for _ in range(5):
        async with database.hot() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SHOW statement_timeout") == "5min"


async def test_h10_a_transaction_cancelled_while_it_begins_is_not_handed_on(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEGIN is on its way when its task is cancelled: it is carried out after anybody could see it in the connection."""
    begin = Transaction.start

    async def cancelled(self: Transaction) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await begin(self)

    async def work() -> None:
        async with database.begin():
            raise AssertionError("it was cancelled before")

    monkeypatch.setattr(Transaction, "start", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(work())
    monkeypatch.undo()
    async with database.hot() as connection:  # the only connection that was ever in the pool
        await connection.execute(INSERT, "told", "durable")
    other = await Database.open(database_url)
    try:
        assert await values(other, "told") == ["durable"]
    finally:
        await other.close()


async def test_h10_a_transaction_left_open_by_hand_is_not_handed_on(database: Database) -> None:
    async with database.hot() as connection:
        await connection.execute("BEGIN")
        await connection.execute(INSERT, "open", "x")
    async with database.hot() as connection:
        assert not connection.is_in_transaction()
    assert await values(database, "open") == []


async def test_a_server_that_goes_away_is_unavailable_and_the_next_call_works(database: Database) -> None:
    with pytest.raises(Unavailable):  # noqa: PT012 - the transaction belongs to the claim
        async with database.begin() as connection:
            driver = await raw(connection)
            await driver.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    async with database.hot() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_server_that_is_not_there_is_unavailable_and_its_url_is_not_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    with pytest.raises(Unavailable) as refused:
        await Database.open(f"postgresql://vault:{CANARY}@/vault?host={folder}")
    assert CANARY not in str(refused.value)
    with pytest.raises(ConfigError) as misshapen:
        await Database.open(f"not a url {CANARY}")
    assert CANARY not in str(misshapen.value)


async def test_h16_no_log_level_shows_bound_values_or_rows(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        caplog.at_level(logging.DEBUG, "sqlalchemy"),
        caplog.at_level(logging.DEBUG, "asyncpg"),
    ):
        async with database.begin() as connection:
            await connection.execute(sa.text("INSERT INTO instance VALUES ('canary', :v)"), {"v": CANARY})
            await connection.execute(sa.text("SELECT * FROM instance"))
            await (await raw(connection)).fetch("SELECT value FROM instance WHERE value = $1", CANARY)
    assert database.engine.sync_engine.hide_parameters
    assert database.reserve.sync_engine.hide_parameters
    assert CANARY not in caplog.text
    assert CANARY not in repr(database)


async def test_every_connection_is_bounded_in_time(database: Database) -> None:
    async with database.hot() as connection:
        wanted = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(wanted)
        )
    assert {row["name"] for row in rows if int(row["setting"]) > 0} == set(wanted)


GOOD = {
    "server_version_num": "150004",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
}
STOCK = GOOD | {"log_min_error_statement": "error", "log_error_verbosity": "default"}


def test_a_server_set_as_the_page_says_is_fit_and_a_stock_one_is_told_what_to_set() -> None:
    assert unfit(GOOD) == []
    page = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "run-on-a-server.md").read_text("utf-8")
    for problem, name in zip(unfit(STOCK), ("log_min_error_statement", "log_error_verbosity"), strict=True):
        assert problem.startswith(f"set {name} = ")
        assert f"ALTER SYSTEM SET {name} = '{STOCK_NEEDS[name]}';" in page


STOCK_NEEDS = {"log_min_error_statement": "panic", "log_error_verbosity": "terse"}


@pytest.mark.parametrize(
    "change",
    [
        {"server_version_num": "140010"},
        {"fsync": "off"},
        {"full_page_writes": "off"},
        {"synchronous_commit": "off"},
        {"log_statement": "all"},
        {"log_statement": "mod"},
        {"log_min_duration_statement": "0"},
        {"log_min_duration_sample": "100"},
        {"log_transaction_sample_rate": "0.01"},
        {"log_parameter_max_length_on_error": "-1"},
        {"auto_explain.log_min_duration": "0"},
        {"log_min_error_statement": "error"},
        {"log_min_error_statement": "notice"},
        {"log_error_verbosity": "default"},
        {"log_error_verbosity": "verbose"},
        {"debug_print_parse": "on"},
        {"debug_print_rewritten": "on"},
        {"debug_print_plan": "on"},
    ],
)
def test_a_server_that_loses_or_logs_is_refused(change: dict[str, str]) -> None:
    assert len(unfit(GOOD | change)) == 1


def test_statements_may_be_logged_without_their_values() -> None:
    assert unfit(GOOD | {"log_statement": "all", "log_parameter_max_length": "0"}) == []


async def test_a_server_that_is_not_fit_is_refused_at_start(database_url: str) -> None:
    name = database_url.split("/")[3].split("?", maxsplit=1)[0]
    database = await Database.open(database_url)
    async with database.hot() as connection:
        await connection.execute(f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
        await connection.execute(f"ALTER DATABASE {name} SET log_parameter_max_length = -1")
    await database.close()
    with pytest.raises(ConfigError, match="log_min_duration_statement = -1"):
        await Database.open(database_url)


async def test_two_pools_have_two_names_in_leases(database: Database, database_url: str) -> None:
    other = await Database.open(database_url)
    assert other.holder != database.holder != uuid4()
    await other.close()


async def test_a_pool_that_is_lent_out_is_told_in_time_and_the_reserve_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = database.engine.pool
    monkeypatch.setattr(pool, "_timeout", 0.05)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CONNECTIONS - RESERVED):
            await stack.enter_async_context(database.hot())
        with pytest.raises(Unavailable) as refused:
            async with database.hot():
                pass
        assert refused.value.reason == "database_busy"
        with reserved():
            async with database.hot() as connection:
                assert await connection.fetchval("SELECT 1") == 1
                assert database.in_use() == {"common": CONNECTIONS - RESERVED, "reserved": 1}
    assert database.in_use() == {"common": 0, "reserved": 0}


@pytest.mark.parametrize("way", ["hot", "snapshot", "begin"])
async def test_h10_a_connection_that_cannot_be_made_is_unavailable_and_tells_nothing(
    database_url: str, way: str
) -> None:
    """A server in recovery answers with an error of its own, which each way of borrowing has to hide."""
    database = await Database.open(database_url)
    try:
        name = f"gone_{uuid4().hex}"
        for engine in (database.engine, database.reserve):
            await engine.dispose()
            sa.event.listen(engine.sync_engine, "do_connect", lambda _d, _r, _a, given: given.update(database=name))
        with pytest.raises(Unavailable) as caught:
            async with getattr(database, way)():
                pass
        assert caught.value.reason == "database_unavailable"
        assert name not in str(caught.value)
    finally:
        await database.close()
