"""The PostgreSQL that comes in a wheel: started by the first process that needs it, stopped by the last that leaves.

Several processes share one server. Each holds a file of its own under `holders/`, locked for as long as it lives: the
kernel drops the lock of one that was killed, so a stale holder shows itself and is removed. A lock file makes start and
stop exclusive. Only the wheel's programs are used, not its way of starting and stopping them (ADR 0030).
"""

import atexit
import fcntl
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vault.errors import ConfigError
from vault.ids import random_bytes
from vault.storage import cluster as files
from vault.storage.cluster import Cluster

DATABASE: Final = "vault"
MAKE: Final = """\
SELECT 'CREATE DATABASE vault' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'vault') \\gexec
"""
MADE: Final = "made"  # a file that says the database is there
_POLL: Final = 0.05  # seconds


class Server:
    """This process's hold on a running server."""

    def __init__(self, cluster: Cluster, socket_folder: Path, holder: int, path: Path) -> None:
        """Made by `start`. `holder` is the descriptor of the locked file at `path`."""
        self.cluster = cluster
        self.socket_folder = socket_folder
        self._holder: int | None = holder
        self._path = path
        self._pid = os.getpid()
        atexit.register(self.release)

    def url(self, database: str = DATABASE) -> str:
        """How SQLAlchemy reaches a database of this server."""
        return _url(self.socket_folder, database)

    def release(self) -> None:
        """Let go; the last holder stops the server. A second call does nothing, nor does one in a forked child."""
        if self._holder is None or os.getpid() != self._pid:
            return
        holder, self._holder = self._holder, None
        atexit.unregister(self.release)
        if not self.cluster.folder.exists():  # removed meanwhile
            os.close(holder)
            return
        with _exclusive(self.cluster.folder):
            self._path.unlink(missing_ok=True)
            os.close(holder)
            if not _held(self.cluster):
                _stop(self.cluster)

    def __repr__(self) -> str:
        return f"Server({self.cluster.folder})"


def start(data_dir: Path) -> Server:
    """Starts the server of this data folder, or joins the running one; makes the database at the first start. Blocks.

    Raises `ConfigError`.
    """
    try:
        with _placing(data_dir):
            cluster = files.place(data_dir)
        return _join(cluster)
    except OSError as error:  # a folder that this user may not make, a full disk, a program that hangs
        raise ConfigError(f"the embedded PostgreSQL cannot use {data_dir}: {error.strerror or 'no answer'}") from None


def running(data_dir: Path) -> str | None:
    """The URL of the vault's database if its server answers now, else None. Only looks: no hold, no lock, nothing made.

    Whoever connects so is disconnected when the last holder stops the server.
    """
    try:
        folder = _socket_of(files.found(data_dir))
    except OSError:
        return None
    return _url(folder, DATABASE) if folder is not None and _answers(folder) else None


def remove(data_dir: Path) -> None:
    """Stops the server, whoever holds it, and deletes its files. For demonstrations and tests."""
    if not (data_dir / "postgres").exists() and not (data_dir / "cluster").exists():
        return
    cluster = files.place(data_dir)
    with _exclusive(cluster.folder):
        _stop(cluster)
        shutil.rmtree(cluster.folder)
    (data_dir / "cluster").unlink(missing_ok=True)


def _join(cluster: Cluster) -> Server:
    with _exclusive(cluster.folder):
        _held(cluster)  # drops what killed holders left
        running = _running(cluster)
        if running is None:
            files.check_major(cluster)
            if not (cluster.data / "PG_VERSION").exists():
                (cluster.folder / MADE).unlink(missing_ok=True)
                files.initialise(cluster)
            files.configure(cluster, running := files.socket_folder(cluster))
            options = f"-c config_file={shlex.quote(str(cluster.settings))}"
            arguments = ("-D", str(cluster.data), "-l", str(cluster.log), "-o", options, "-t", str(files.PATIENCE))
            files.run(cluster, "pg_ctl", "start", "-w", *arguments)
        try:
            _make_database(cluster, running)
        except BaseException:
            if not _held(cluster):
                _stop(cluster)
            raise
        return Server(cluster, running, *_hold(cluster))


def _stop(cluster: Cluster) -> None:
    folder = _running(cluster)
    if folder is None:
        return
    code = files.run(cluster, "pg_ctl", "stop", "-D", str(cluster.data), "-m", "fast", "-w", check=False)
    if code == 0 and folder.parent != cluster.folder:
        with suppress(OSError):
            folder.rmdir()  # a short path of our own making


def _running(cluster: Cluster) -> Path | None:
    """The socket folder of the server, if one answers. Waits while it starts or stops."""
    deadline = time.monotonic() + files.PATIENCE
    while time.monotonic() < deadline:
        folder = _socket_of(cluster)
        if folder is None or files.run(cluster, "pg_ctl", "status", "-D", str(cluster.data), check=False) != 0:
            return None
        if _answers(folder):
            return folder
        time.sleep(_POLL)
    raise ConfigError(f"the embedded PostgreSQL runs but does not answer (see {cluster.log})")


def _socket_of(cluster: Cluster) -> Path | None:
    """What postmaster.pid says: line 5 is the socket folder, line 8 the status."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    return Path(lines[4]) if len(lines) > 4 and lines[4] else cluster.folder / "s"


def _answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(folder / files.SOCKET))
        except OSError:
            return False
    return True


def _make_database(cluster: Cluster, folder: Path) -> None:
    """The `vault` database; made once, marked by a file so that later starts need no second program."""
    marker = cluster.folder / MADE
    if marker.exists():
        return
    script = files.script(cluster, "make.sql", MAKE)
    arguments = ("-h", str(folder), "-U", files.SUPERUSER, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-X", "-q")
    files.run(cluster, "psql", *arguments, "-f", str(script))
    marker.touch()


def _url(socket_folder: Path, database: str) -> str:
    return f"postgresql+asyncpg://{files.SUPERUSER}@/{quote(database)}?host={quote(str(socket_folder), safe='')}"


# --- holders --------------------------------------------------------------------------------------------------------


def _hold(cluster: Cluster) -> tuple[int, Path]:
    folder = cluster.folder / "holders"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{os.getpid()}-{random_bytes(4).hex()}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor, path


def _held(cluster: Cluster) -> bool:
    """Whether anybody holds the server. Removes the files of those who do not live any more."""
    living = False
    for path in (cluster.folder / "holders").glob("*"):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            living = True
        else:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return living


@contextmanager
def _placing(data_dir: Path) -> Iterator[None]:
    """One process at a time decides where the cluster lies: the lock file stands beside the data folder's own name."""
    parent = data_dir.parent
    parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + 2 * files.PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(
                    "another process has been starting or stopping the embedded PostgreSQL for minutes"
                ) from None
            time.sleep(_POLL)
        else:
            return
