"""`pytest --as-roles tests/flows tests/api`: whole vaults whose journeys reach the database as the process that runs them would.

One process holds all keys, as always; which role its statement runs under is told by the outermost journey on the stack. A
right that a journey needs and its part has not is an error of that journey (SQLSTATE 42501). What tests do to the
database themselves, and commands, run as the owner.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import make_url

from tests.logins import made_for
from tests.rights_used import kept
from vault.storage.pool import make_pool
from vault.storage.session import Database

ROOT: Final = Path(__file__).resolve().parents[1]
# Outermost module -> part; what is not here is a command, or of several parts: it runs as the owner.
JOURNEYS: Final[dict[str, str]] = {
    "vault/flows/ingest": "ingest",
    "vault/flows/alone": "ingest",
    "vault/flows/choose": "ingest",
    "vault/flows/feedback": "ingest",
    "vault/flows/release": "feed",
    "vault/flows/lookup": "feed",
    "vault/flows/accounts": "feed",
    "vault/flows/deliver": "webhooks",
    "vault/flows/browse": "desk",
    "vault/flows/trail": "desk",
    "vault/flows/find": "desk",
    "vault/flows/honour/advance": "requests",
    "vault/flows/honour/strays": "requests",
    "vault/flows/sweep/duty": "requests",
    "vault/flows/honour": "desk",
    "vault/flows/replay": "desk",  # at a start: other parts that compare are in tests/flows/test_process_roles.py
    "vault/flows/ready": "audit",  # of every process
    "vault/flows/settle": "due",
    "vault/flows/graves": "due",
    "vault/changes/sequencer": "changes",
    "vault/audit/log": "audit",
}
ABOUT_POOLS: Final = {
    "test_the_desk_has_connections_that_nothing_else_may_take"
}  # here each part has a pool of its own
FUNCTIONS: Final = {
    "admit_source": "ingest", "admit_destination": "feed", "admit_staff": "desk", "tell": "ingest",
    "tell_refused": "ingest", "sweep": "changes", "check_log": "feed",
    "wipe_due": "requests",
}  # fmt: skip


def part_of_stack() -> str | None:
    """The part of the outermost journey that is running, below whatever the test itself does."""
    found: str | None = None
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(str(ROOT)):
            module = name[len(str(ROOT)) + 1 :].removesuffix(".py")
            if module.startswith("tests/") and module != "tests/as_roles":
                break
            match = next((part for prefix, part in JOURNEYS.items() if module.startswith(prefix)), None)
            if match is None and module.startswith("vault/flows/"):
                match = FUNCTIONS.get(frame.f_code.co_name)
            found = match or found
        frame = frame.f_back
    return found


@pytest.fixture(scope="session", autouse=True)
def statements(request: Any) -> Iterator[None]:
    """With `--statements FOLDER`, what each part asks of the database is kept there (`tests.rights_used`)."""
    folder = request.config.getoption("--statements")
    if folder is None:
        yield
        return
    with kept(folder, part_of_stack):
        yield


@pytest.fixture(autouse=True)
def as_roles(monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[None]:
    """Every database that this test opens is reached by the role of whoever runs."""
    if not request.config.getoption("--as-roles") or request.node.originalname in ABOUT_POOLS:
        yield
        return
    opened = Database.open.__func__  # type: ignore[attr-defined]

    async def open_with_logins(cls: type[Database], url: str, **options: Any) -> Database:
        database = await opened(cls, url, **options)
        name = make_url(url).database or ""
        if name.startswith("t_") and "logins" not in sys._getframe(1).f_code.co_filename:
            parts = set(JOURNEYS.values())
            urls = {part: await made_for(url, {part}) for part in sorted(parts)}
            database.engines = {part: make_pool(one, 2, 8) for part, one in urls.items()}
        return database

    async def dispose(self: Database) -> None:
        for engine in (self.engine, self.reserve, *getattr(self, "engines", {}).values()):
            await engine.dispose()

    def pool(self: Database) -> Any:
        engines = getattr(self, "engines", {})
        part = part_of_stack()
        return engines.get(part, self.engine)

    monkeypatch.setattr(Database, "open", classmethod(open_with_logins))
    monkeypatch.setattr(Database, "_dispose", dispose)
    monkeypatch.setattr(Database, "_pool", property(pool))
    yield
