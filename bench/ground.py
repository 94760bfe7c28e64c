"""Where a benchmark stands: one PostgreSQL server, a vault on one database of it, each twin on another; and the meters.

Vault and twins share the server, its settings and this process; nothing else of the vault's is used by a twin. The server is
the embedded one in a folder of its own that goes at the end, or the one that `--database-url` names.
"""

import asyncio
import gc
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import make_url

from vault.bootstrap import open_vault, policies_folder
from vault.catalogue.load import read_folder
from vault.config import Settings, load
from vault.flows.vault import Vault
from vault.ids import random_bytes
from vault.storage import embedded

OWN_POLICIES: Final = Path(__file__).parent / "policies"
NAMES: Final = ("bench_vault", "bench_tuned", "bench_obvious")  # databases of a run
# The same for everyone. Checkpoints are taken between rounds, not within them.
SERVER: Final = {"max_wal_size": "16GB", "checkpoint_timeout": "1h"}
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ground:
    """The server of a run, and the folder that everything lies in."""

    folder: Path
    url: str  # of an administrative database
    tag: str  # ends the names of this run's databases

    def database_url(self, name: str) -> str:
        """The URL of one of this run's databases."""
        return make_url(self.url).set(database=f"{name}_{self.tag}").render_as_string(hide_password=False)

    async def administer(self, statement: str) -> None:
        """One statement on the administrative database."""
        connection = await connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def create(self, name: str) -> str:
        """A fresh database; its URL."""
        await self.administer(f"CREATE DATABASE {name}_{self.tag}")
        return self.database_url(name)

    async def checkpoint(self) -> None:
        """Everything that earlier rounds left is on disk: the next one does not pay for it."""
        await self.administer("CHECKPOINT")

    async def settle(self, *, full: bool = False, names: Sequence[str] = NAMES) -> None:
        """Databases as autovacuum leaves them in time: the planner knows its tables. `full` writes them anew, packed."""
        for name in names:
            connection = await connect(self.database_url(name))
            try:
                await connection.execute("VACUUM (FULL, ANALYZE)" if full else "VACUUM (ANALYZE)")
            finally:
                await connection.close()

    async def size(self, name: str) -> int:
        """Bytes of a database."""
        connection = await connect(self.url)
        try:
            return int(await connection.fetchval("SELECT pg_database_size($1)", f"{name}_{self.tag}"))
        finally:
            await connection.close()

    async def server_cpu(self) -> float:
        """CPU seconds that all processes of the server have used; 0.0 where this machine cannot see them."""
        connection = await connect(self.url)
        try:
            pids = [row[0] for row in await connection.fetch("SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL")]
        finally:
            await connection.close()
        parents = {_stat(pid)[1] for pid in pids} - {0, 1}
        return sum(_stat(pid)[0] for pid in pids) + sum(_stat(pid, children=True)[0] for pid in parents)


async def connect(url: str, **options: Any) -> Any:
    """An asyncpg connection to a URL as SQLAlchemy writes it."""
    return await asyncpg.connect(plain(url), **options)


def plain(url: str) -> str:
    """The URL as asyncpg reads it."""
    return url.replace("postgresql+asyncpg://", "postgresql://")


def _stat(pid: int, *, children: bool = False) -> tuple[float, int]:
    """(CPU seconds, parent) of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    times = fields[11:15] if children else fields[11:13]  # with children: those that ended
    return sum(map(int, times)) / _TICKS, int(fields[1])


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vault-bench-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the server's own user must pass
    return folder


@asynccontextmanager
async def ground(database_url: str | None = None) -> AsyncIterator[Ground]:
    """The embedded server, or another one; with the settings that every side gets."""
    folder = _folder()
    thresholds = gc.get_threshold()  # a benchmark settles its process as a server does; afterwards it is as it was
    held = None if database_url else await asyncio.to_thread(embedded.start, folder / "server")
    try:
        place = Ground(folder, database_url or (held.url("postgres") if held else ""), random_bytes(4).hex())
        if held:
            for name, value in SERVER.items():
                await place.administer(f"ALTER SYSTEM SET {name} = '{value}'")
            await place.administer("SELECT pg_reload_conf()")
        try:
            yield place
        finally:
            for name in NAMES:
                await place.administer(f"DROP DATABASE IF EXISTS {name}_{place.tag} WITH (FORCE)")
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        if held:
            await asyncio.to_thread(held.release)
            embedded.remove(folder / "server")
        shutil.rmtree(folder, ignore_errors=True)


def policies(folder: Path, which: str) -> Path:
    """The policies of a run: `bench` (the shop's purposes, notices and staff, and 31 traits of our own), `shop`, or a folder."""
    shop = policies_folder(load(environ={}))
    if which == "shop":
        return shop
    if which != "bench":
        return Path(which)
    target = folder / "policies"
    files = {name: text for name, text in read_folder(shop).items() if not name.startswith("tests/")}
    files |= read_folder(OWN_POLICIES)
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return target


def settings(place: Ground, url: str, which: str, name: str = "vault") -> Settings:
    """Settings of a vault on a database of this ground."""
    folder = place.folder / name
    return Settings(
        data_dir=folder,
        keyring=folder / "keyring",
        key_file=place.folder / f"{name}.key",
        journal=folder / "journal",
        policies=policies(place.folder, which),
        database_url=url,
    )


@asynccontextmanager
async def vault_on(place: Ground, which: str) -> AsyncIterator[Vault]:
    """A fresh vault on a database of its own."""
    url = await place.create("bench_vault")
    async with open_vault(settings(place, url, which)) as vault:
        yield vault


class Meter:
    """What a stretch of work took: wall seconds, CPU seconds of this process and of the server."""

    def __init__(self) -> None:
        self.wall = self.python = self.server = 0.0

    @asynccontextmanager
    async def running(self, place: Ground) -> AsyncIterator[None]:
        """Measure what happens inside."""
        server = await place.server_cpu()
        python, wall = time.process_time(), time.perf_counter()
        yield
        self.wall, self.python = time.perf_counter() - wall, time.process_time() - python
        self.server = await place.server_cpu() - server


@contextmanager
def profiled(path: str | None) -> Iterator[None]:
    """With a path, cProfile's figures of what happens inside are written there."""
    if path is None:
        yield
        return
    import cProfile  # noqa: PLC0415 - only when it is asked for

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(path)
