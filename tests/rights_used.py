"""Which rights do journeys need? `make roles` keeps the statements that each part ran, and takes each right away once.

    python -m pytest --as-roles --statements FOLDER tests/flows tests/api
    python -m tests.rights_used FOLDER

A right is needed if, without it, PostgreSQL refuses a statement of its part: asked by EXPLAIN, which checks rights and runs
nothing. What nothing needs is told, and then the command fails: it goes from `vault.storage.privileges`. MAINTAIN is not asked
for, since VACUUM cannot be explained.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.logins import superuser
from vault.storage import embedded
from vault.storage.logins import groups
from vault.storage.migrate import migrate
from vault.storage.privileges import MAINTAIN, PARTS, Privilege, group_of, wanted
from vault.storage.session import Database

ASKING: Final = ("fetch", "fetchrow", "fetchval", "execute", "executemany", "prepare", "cursor", "copy_from_query")
LOGIN: Final = "t_"  # `tests.logins` names a login after its parts
Kept = dict[str, set[str]]


@contextmanager
def kept(folder: Path, part_of: Callable[[], str | None]) -> Iterator[None]:
    """Inside, every statement of a login of ours is written into the folder, once, by its part: a broken run keeps its own."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[tuple[str, str]] = set()
    with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8", buffering=1) as lines:

        def note(part: str, query: str) -> None:
            if (part, query) not in seen:
                seen.add((part, query))
                lines.write(json.dumps([part, query]) + "\n")

        with patched(note, part_of):
            yield


@contextmanager
def patched(note: Callable[[str, str], None], part_of: Callable[[], str | None]) -> Iterator[None]:
    """Statements of the driver's connections are noted before they run."""
    real = {name: getattr(asyncpg.Connection, name) for name in ASKING}

    def noting(inner: Callable[..., Any]) -> Callable[..., Any]:
        def ask(self: Any, query: str, *args: Any, **options: Any) -> Any:
            for part in _parts(self._params.user, part_of()):
                note(part, query)
            return inner(self, query, *args, **options)

        return ask

    for name, inner in real.items():
        setattr(asyncpg.Connection, name, noting(inner))
    try:
        yield
    finally:
        for name, inner in real.items():
            setattr(asyncpg.Connection, name, inner)


def _parts(user: str, running: str | None) -> Iterable[str]:
    """What runs outside a journey, as a start, is of every part of its login."""
    if not user.startswith(LOGIN):
        return ()
    mine = [part for part in user.removeprefix(LOGIN).split("_") if part in PARTS]
    return [running] if running in mine else mine


def read(folder: Path) -> Kept:
    """What all processes of a run kept."""
    found: Kept = defaultdict(set)
    for path in folder.glob("*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            part, query = json.loads(line)
            found[part].add(query)
    return found


async def unneeded(connection: asyncpg.Connection, statements: Kept) -> list[Privilege]:
    """Rights without which every statement of their part is allowed as before. The connection is a superuser's."""
    asked = sorted(one for one in wanted() if one.kind != MAINTAIN)
    allowed = {
        part: {one for one in statements.get(part, ()) if await _undone(connection, part, one)} for part in PARTS
    }
    found = []
    for one in asked:
        table = re.compile(rf"\b{one.table.rpartition('.')[2]}\b")
        concerned = [text for text in allowed[one.part] if table.search(text)]
        if not await _missed(connection, one, concerned):
            found.append(one)
    return found


async def _missed(connection: asyncpg.Connection, right: Privilege, statements: list[str]) -> bool:
    """Whether one of the statements is refused without the right."""
    column = f' ("{right.column}")' if right.column else ""
    schema, _, table = right.table.rpartition(".")
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            f'REVOKE {right.kind}{column} ON "{schema or "public"}"."{table}" FROM {group_of(right.part)}'
        )
        for text in statements:
            if not await _undone(connection, right.part, text):
                return True
    finally:
        await transaction.rollback()
    return False


async def _undone(connection: asyncpg.Connection, part: str, text: str) -> bool:
    """Whether the part may run it. Only plans; what cannot be planned, as SET, is not allowed here and is left out."""
    inner = re.fullmatch(r"\s*COPY \((.*)\) TO .*", text, re.DOTALL)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {group_of(part)}")
        await connection.execute(f"EXPLAIN (GENERIC_PLAN) {inner[1] if inner else text}")
    except asyncpg.PostgresError:
        return False
    else:
        return True
    finally:
        await transaction.rollback()


async def _with_server(ask: Callable[[asyncpg.Connection], Awaitable[list[Privilege]]]) -> list[Privilege]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101, S103 (as root, the server's user passes through)
        server = await asyncio.to_thread(embedded.start, Path(folder) / "data")
        try:
            connection = await superuser(server.url())
            try:
                await connection.execute(groups())
                database = await Database.open(server.url())
                await migrate(database)
                await database.close()
                return await ask(connection)
            finally:
                await connection.close()
        finally:
            await asyncio.to_thread(server.release)


def main(folder: Path) -> int:
    """How many rights nothing needs; they are told."""
    statements = read(folder)
    found = asyncio.run(_with_server(lambda connection: unneeded(connection, statements)))
    counted = ", ".join(f"{part} {len(statements.get(part, ()))}" for part in PARTS)
    sys.stdout.write(f"statements: {counted}\n")
    for one in found:
        sys.stdout.write(f"nothing needs: {one.part}: {one.kind} on {one.table} {one.column}\n")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
