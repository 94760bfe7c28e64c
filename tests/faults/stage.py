"""A database server of the harness's own, and vaults on it: a furnished one to begin with, and as many copies as are killed.

Everything lies in one folder: `base/` holds keys, key file and journal of the furnished vault, and the database `base`
belongs to it. A copy is a database made from it as a template and a copy of that folder, so that every trial begins at
the same moment with the same people.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.faults.recipient import recipient
from vault.config import Settings, load
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "base"
PATIENCE: Final = 60.0  # seconds until a killed server has recovered
# In memory where there is room: a process that is killed loses nothing that it wrote, so flushing costs time and shows nothing.
MEMORY: Final = Path("/dev/shm")
ROOM: Final = 2 << 30  # bytes
HOOKS: Final = "127.0.0.0/8"


class Place:
    """One vault: its folder and its database."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self.stage, self.name = stage, name
        self.folder = stage.folder / name
        self.record = self.folder / "told"  # what a client was told

    @property
    def settings(self) -> Settings:
        """As a deployment with a database URL would have them."""
        return load(
            environ={
                "PROFILE_VAULT_DATA_DIR": str(self.folder / "data"),
                "PROFILE_VAULT_KEYRING": str(self.folder / "keyring"),
                "PROFILE_VAULT_KEY_FILE": str(self.folder / "root.key"),
                "PROFILE_VAULT_JOURNAL": str(self.folder / "journal"),
                "PROFILE_VAULT_POLICIES": str(ROOT / "policies"),
                "PROFILE_VAULT_DATABASE_URL": self.stage.server.url(self.name),
                "PROFILE_VAULT_WEBHOOK_NETWORKS": HOOKS,
                "PROFILE_VAULT_DATA_BACKUP_DAYS": "0",  # so that the rotation may end with a destruction
            }
        )


class Stage:
    """The server and the folder."""

    def __init__(self, folder: Path, hooks: str) -> None:
        self.folder = folder
        self.hooks = hooks  # where webhooks are taken
        self.server = embedded.start(folder / "data")

    @property
    def postmaster(self) -> int | None:
        """The process id of the database server, as it wrote it down; None if it does not run."""
        try:
            pid = int((self.server.cluster.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if alive(pid) else None

    def revive(self) -> bool:
        """Start the server again if somebody killed it. True if it was so."""
        if self.postmaster is not None:
            return False
        self.server = embedded.start(self.folder / "data")
        return True

    def empty(self, name: str) -> Place:
        """A place where nothing was started yet."""
        self._administer(f"CREATE DATABASE {name}")
        (self.folder / name).mkdir(mode=0o700)
        return Place(self, name)

    def copy(self, name: str) -> Place:
        """A copy of the furnished vault."""
        # By files: the other way copies how far each sequence was logged ahead, and not the log. After a crash such a copy
        # gives numbers twice that PostgreSQL never gives twice in a database of its own.
        self._administer(f"CREATE DATABASE {name} TEMPLATE {BASE} STRATEGY FILE_COPY")
        shutil.copytree(self.folder / BASE, self.folder / name)
        return Place(self, name)

    def drop(self, place: Place) -> None:
        """The place is not needed any more."""
        self._administer(f"DROP DATABASE IF EXISTS {place.name} WITH (FORCE)")
        shutil.rmtree(place.folder, ignore_errors=True)

    def _administer(self, statement: str) -> None:
        async def run() -> None:
            connection = await connected(str(self.server.socket_folder))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def close(self) -> None:
        """Stop the server and remove all files."""
        embedded.remove(self.folder / "data")
        shutil.rmtree(self.folder, ignore_errors=True)


async def connected(socket_folder: str) -> Any:
    """A connection past the vault, once the server has recovered."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await asyncpg.connect(host=socket_folder, user=SUPERUSER, database="postgres")
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process runs: one that nobody waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage, gone afterwards. A short path, for the socket; as root, the database server's user may pass through it."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix="pv-faults-", dir=MEMORY if roomy else "/tmp"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with recipient(folder) as hooks:
        made = Stage(folder, hooks)
        try:
            yield made
        finally:
            made.close()
