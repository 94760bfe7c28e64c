"""A real PostgreSQL for every test that asks: one server a run, a fresh migrated database a test, gone at the end.

Under pytest-xdist all workers of a run share the server: its folder is named after the run, the first worker to come
makes it and the last one to leave removes it.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from tests.as_roles import as_roles, statements  # noqa: F401 (fixtures)
from tests.fakes import FakeClock
from tests.keyservices import Services
from vault.changes.incarnation import renew
from vault.ids import random_bytes
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER
from vault.storage.logins import groups
from vault.storage.migrate import migrate
from vault.storage.session import Database

TEMPLATE = "template_vault"

# No test asserts a duration, a property's neither: machines that are shared stall. In CI the same examples come each time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@contextmanager
def _run_folder() -> Iterator[Path]:
    """A folder shared by the workers of this run. As root the server's user may pass through it, and no further."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}-{random_bytes(3).hex()}"
    folder = Path(tempfile.gettempdir()) / f"vault-tests-{os.getuid()}-{run[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with (folder / "users").open("a+b") as users:  # shared by all who use the folder; who gets it alone is the last
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield folder
        finally:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                embedded.remove(folder / "data")
                shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """The run's PostgreSQL, with a migrated template database."""
    with _run_folder() as folder:
        held = embedded.start(folder / "data")
        try:
            with (folder / "template").open("a+b") as made:
                fcntl.flock(made, fcntl.LOCK_EX)
                if os.fstat(made.fileno()).st_size == 0:  # now: tell() would say how it was before the wait
                    asyncio.run(_make_template(held))
                    made.write(b"made")
            yield held
        finally:
            held.release()


async def _make_template(held: embedded.Server) -> None:
    await _administer(held, groups())  # first, so that the template has their rights
    await _administer(held, f"CREATE DATABASE {TEMPLATE}")
    database = await Database.open(held.url(TEMPLATE))
    try:
        await migrate(database)
    finally:
        await database.close()


async def _administer(held: embedded.Server, statement: str) -> None:
    connection = await asyncpg.connect(host=str(held.socket_folder), user=SUPERUSER, database="postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Real key services; each starts when it is first asked for."""
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
async def database_url(server: embedded.Server) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database of this test alone."""
    name = f"t_{random_bytes(6).hex()}"
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield server.url(name)
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_url(server: embedded.Server) -> AsyncIterator[str]:
    """The URL of a fresh database with nothing in it, of this test alone."""
    name = f"t_{random_bytes(6).hex()}"
    await _administer(server, f"CREATE DATABASE {name}")
    yield server.url(name)
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database of this test alone."""
    opened = await Database.open(database_url)
    async with opened.begin() as connection:
        await renew(connection)  # the template's incarnation would be shared by all
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still on a Monday morning."""
    return FakeClock()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long rehearsals are for `make test-long`; whoever names a file or a test gets them, too."""
    if os.environ.get("LONG") or config.args != config.getini("testpaths"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--as-roles", action="store_true", help="Journeys reach the database as their processes would.")
    parser.addoption(
        "--statements", type=Path, help="With --as-roles: keeps what each part asked of the database here."
    )
