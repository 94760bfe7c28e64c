"""Migrations make exactly the schema of the one page, with the storage that was measured."""

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vault.errors import ConfigError
from vault.storage import embedded, migrations
from vault.storage.migrate import migrate, newest, revision
from vault.storage.schema import metadata
from vault.storage.session import Database

VERSIONS = sorted(Path(migrations.__file__).parent.glob("versions/[0-9]*.py"))


def _differences(connection: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection, opts={"include_schemas": True, "compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


def _shape(connection: sa.Connection) -> dict[str, Any]:
    """What autogenerate does not compare: keys, order and identity of columns."""
    inspector = sa.inspect(connection)
    shape: dict[str, Any] = {}
    for table in metadata.tables.values():
        columns = inspector.get_columns(table.name, schema=table.schema)
        keys = inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
        shape[table.fullname] = ([(one["name"], one["nullable"], bool(one.get("identity"))) for one in columns], keys)
    return shape


async def test_the_migrations_make_the_schema_of_the_one_page(database: Database) -> None:
    async with database.begin() as connection:
        assert await connection.run_sync(_differences) == []
        shape = await connection.run_sync(_shape)
    for table in metadata.tables.values():
        columns = [(one.name, one.nullable, one.identity is not None) for one in table.columns]
        assert shape[table.fullname] == (columns, [one.name for one in table.primary_key.columns])


async def test_no_integer_key_counts_by_itself_but_those_that_say_so(database: Database) -> None:
    async with database.hot() as connection:
        rows = await connection.fetch("SELECT relname FROM pg_class WHERE relkind = 'S' ORDER BY 1")
    assert [row["relname"] for row in rows] == ["change_in_id_seq", "source_source_id_seq"]


async def test_rows_are_stored_as_measured(database: Database) -> None:
    async with database.hot() as connection:
        options = await connection.fetch(
            "SELECT oid::regclass::text AS t, reloptions AS o FROM pg_class WHERE relkind = 'r'"
        )
        external = await connection.fetch(
            "SELECT attrelid::regclass || '.' || attname AS c FROM pg_attribute"
            " WHERE attstorage = 'e' AND attrelid::regclass::text !~ 'pg_'"
        )
    found = {row["t"]: set(row["o"] or []) for row in options}
    assert found["subject"] == {"fillfactor=70"}
    assert found["keys.subject_key"] == {"fillfactor=100", "toast_tuple_target=8160"}
    assert found["compartment"] == {"fillfactor=90", "toast_tuple_target=8160"}
    assert found["disclosure_state"] == {"fillfactor=80"}
    wanted = {"subject.state", "keys.subject_key.wraps", "compartment.fields", "event.ct"}
    assert wanted <= {row["c"] for row in external}


async def test_updates_of_a_state_row_stay_on_their_page(database: Database) -> None:
    """No index on a column that ordinary ingest changes (design section 13)."""
    async with database.hot() as connection:
        await connection.execute(
            "INSERT INTO subject SELECT gen_random_uuid(), gen_random_uuid(), 1, '\\x01' FROM generate_series(1, 20)"
        )
        for _ in range(3):
            await connection.execute("UPDATE subject SET version = version + 1, state = state || '\\x02'")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'subject'"
        )
    assert row["n_tup_upd"] == row["n_tup_hot_upd"] == 60


async def test_migrating_again_or_twice_at_once_changes_nothing(database: Database) -> None:
    async with database.hot() as connection:
        before = await connection.fetch("SELECT * FROM instance ORDER BY name")
    assert set(await asyncio.gather(migrate(database), migrate(database))) == {newest()}
    assert await revision(database) == newest()
    async with database.hot() as connection:
        assert await connection.fetch("SELECT * FROM instance ORDER BY name") == before


async def test_two_processes_migrate_an_empty_database_once(server: embedded.Server) -> None:
    admin = await Database.open(server.url("postgres"))
    async with admin.hot() as connection:
        await connection.execute("CREATE DATABASE empty_one")
    pools = [await Database.open(server.url("empty_one")) for _ in range(2)]
    try:
        assert await revision(pools[0]) is None
        assert await asyncio.gather(*(migrate(pool) for pool in pools)) == [newest(), newest()]
    finally:
        for pool in pools:
            await pool.close()
        async with admin.hot() as connection:
            await connection.execute("DROP DATABASE empty_one")
        await admin.close()


async def test_a_failed_migration_leaves_nothing(server: embedded.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await Database.open(server.url("postgres"))
    async with admin.hot() as connection:
        await connection.execute("CREATE DATABASE half_one")
    pool = await Database.open(server.url("half_one"))
    try:
        async with pool.hot() as connection:
            await connection.execute("CREATE TABLE certificate (x int)")  # the last statements will fail
        with pytest.raises(Exception, match="SQLSTATE"):
            await migrate(pool)
        async with pool.hot() as connection:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'keys')")
        assert [row["tablename"] for row in tables] == ["certificate"]
    finally:
        await pool.close()
        async with admin.hot() as connection:
            await connection.execute("DROP DATABASE half_one")
        await admin.close()


async def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    async with database.hot() as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer version"):
        await migrate(database)


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_every_migration_says_when_it_runs_and_is_frozen(path: Path) -> None:
    found = re.fullmatch(r"(\d{4})_(pre|post)_[a-z0-9_]+", path.stem)
    assert found
    module = importlib.import_module(f"vault.storage.migrations.versions.{path.stem}")
    assert (module.revision, module.deploy) == (found[1], found[2])
    assert not re.search(r"^\s*(from|import) vault", path.read_text(), re.MULTILINE)
