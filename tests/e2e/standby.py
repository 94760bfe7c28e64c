"""Two PostgreSQL servers and one address: what a process connects to is a link, which leads to one of them or the other.

    pair = Pair(folder)                 a primary, on which `pair.url` leads
    pair.follow()                       a standby that streams from it
    pair.cut()                          the link between them breaks: what the primary does from now on is the lost tail
    pair.kill(pair.primary)             as a host without power
    pair.promote(); pair.lead(pair.standby)

The standby is made by pg_basebackup and promoted by pg_ctl, both the wheel's.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from tests.faults.boundary import kill_server
from vault.storage import cluster as files
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER, Cluster


class Pair:
    """Both lie under `folder`; gone with `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = folder / "db"
        held = embedded.start(folder / "one")
        self.primary = held.cluster
        self._held = held
        self.standby: Cluster | None = None
        self.lead(self.primary)

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://{SUPERUSER}@/vault?host={quote(str(self.address), safe='')}"

    def lead(self, to: Cluster) -> None:
        """The address leads there, from now on; in one step."""
        new = self.folder / "db.new"
        new.symlink_to(to.folder / "s")
        new.rename(self.address)

    def ask(self, of: Cluster, statement: str) -> Any:
        async def answer() -> Any:
            connection = await asyncpg.connect(host=str(of.folder / "s"), user=SUPERUSER, database="vault")
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(answer())

    # --- a standby ----------------------------------------------------------------------------------------------------

    def follow(self) -> Cluster:
        made = self.standby = files.place(self.folder / "two")
        made.data.mkdir(mode=0o700)
        belongs(made.data, made)
        source = str(self.primary.folder / "s")
        files.run(made, "pg_basebackup", "-h", source, "-U", SUPERUSER, "-D", str(made.data), "-c", "fast", "-R")
        self.start(made)
        return made

    def caught_up(self) -> bool:
        """Whether the standby has everything that the primary has."""
        assert self.standby is not None
        written = self.ask(self.primary, "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")
        return bool(self.ask(self.standby, "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint") >= written)

    def cut(self) -> None:
        """The standby hears nothing any more, and lives on."""
        assert self.standby is not None
        for statement in ("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"):
            self.ask(self.standby, statement)

    def deaf(self) -> bool:
        assert self.standby is not None
        return self.ask(self.standby, "SELECT count(*) FROM pg_stat_wal_receiver") == 0

    def promote(self) -> None:
        assert self.standby is not None
        files.run(self.standby, "pg_ctl", "promote", "-w", "-D", str(self.standby.data))

    # --- a copy of the files ------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """The primary's files as they are now. It is stopped meanwhile."""
        self.stop(self.primary)
        older = self.primary.folder / "older"
        shutil.copytree(self.primary.data, older)
        for path in (older, *older.rglob("*")):
            belongs(path, self.primary)
        self.start(self.primary)

    def put_back(self) -> None:
        """The files of then, in the place of those of now. The server must be dead."""
        shutil.rmtree(self.primary.data)
        (self.primary.folder / "older").rename(self.primary.data)
        self.start(self.primary)

    # --- servers ------------------------------------------------------------------------------------------------------

    def start(self, one: Cluster) -> None:
        files.configure(one, files.socket_folder(one))
        options = f"-c config_file={one.settings}"
        files.run(one, "pg_ctl", "start", "-w", "-D", str(one.data), "-l", str(one.log), "-o", options)

    def stop(self, one: Cluster) -> None:
        files.run(one, "pg_ctl", "stop", "-w", "-D", str(one.data), "-m", "fast")

    def kill(self, one: Cluster) -> None:
        """Nobody is told, nothing is stopped in order."""
        kill_server(int((one.data / "postmaster.pid").read_text().split("\n", 1)[0]))
        (one.data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        self._held.release()
        for name in ("one", "two"):
            embedded.remove(self.folder / name)


def belongs(path: Path, cluster: Cluster) -> None:
    """To whoever runs the server."""
    if cluster.owner is not None:
        os.chown(path, *cluster.owner)
