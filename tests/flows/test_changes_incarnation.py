"""A database that may have lost changes begins a new life, and old cursors are gone (threat H20)."""

import pytest

from vault.changes import incarnation as lives
from vault.changes.cursor import Cursor, pack, unpack
from vault.errors import Gone
from vault.storage import embedded
from vault.storage.session import Database

KEY = bytes(range(32))


async def life(database: Database) -> str:
    async with database.begin() as connection:
        return await lives.incarnation(connection)


async def test_a_restart_keeps_the_incarnation(database: Database) -> None:
    first = await life(database)
    assert await life(database) == first
    assert len(bytes.fromhex(first)) == 16


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_h20_another_server_timeline_or_database_is_another_life(database: Database, part: int) -> None:
    first = await life(database)
    async with database.hot() as connection:
        known = await connection.fetchval("SELECT value FROM instance WHERE name = $1", lives.ORIGIN)
        parts = known.split("-")
        assert parts[1] == "00000001"
        parts[part] = "00000002"  # as a promotion, or a restore to a point in time, leaves it
        await connection.execute("UPDATE instance SET value = $1 WHERE name = $2", "-".join(parts), lives.ORIGIN)
    second = await life(database)
    assert second != first
    assert await life(database) == second
    with pytest.raises(Gone):
        unpack(pack(Cursor(1, first, bytes(8), 9, snapshot=False), KEY), KEY, 1, second)


async def test_h20_a_copy_of_the_database_is_another_life(
    database: Database, database_url: str, server: embedded.Server
) -> None:
    first = await life(database)
    await database.engine.dispose()
    name = database_url.split("/")[3].split("?", maxsplit=1)[0]
    admin = await Database.open(server.url("postgres"))
    try:
        async with admin.hot() as connection:
            await connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
        copy = await Database.open(server.url(f"{name}_copy"))
        assert await life(copy) != first
        await copy.close()
        async with admin.hot() as connection:
            await connection.execute(f"DROP DATABASE {name}_copy")
    finally:
        await admin.close()
    assert await life(database) == first


async def test_an_ordinary_role_can_tell_the_incarnation(database: Database) -> None:
    first = await life(database)
    async with database.begin() as connection:
        await connection.exec_driver_sql("DO $$ BEGIN CREATE ROLE plain; EXCEPTION WHEN duplicate_object THEN END $$")
        await connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO plain")
        await connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
        await connection.exec_driver_sql("SET LOCAL ROLE plain")
        assert await lives.incarnation(connection) == first
