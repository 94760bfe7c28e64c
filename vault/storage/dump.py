"""A whole database as one file, and back: by PostgreSQL's own `pg_dump` and `pg_restore`, of the wheel or of the machine.

Promises: a file is private and whole or not there; a database is loaded whole or not at all, and only into an empty one;
no password stands in a command line; what the programs say is shown to nobody but the file's owner, since it may repeat
rows. What is dumped is sealed as it lies in the tables: no value is in clear.
"""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from vault import durable
from vault.errors import ConfigError, Conflict
from vault.storage import cluster
from vault.storage.session import Database

CHUNK: Final = 1 << 20
MAJOR: Final = 10_000  # server_version_num holds the major number so many times
SYSTEM: Final = Path("/usr/lib/postgresql")  # where Debian keeps each major's programs
PATIENCE: Final = 10  # seconds for a program to tell its version
# What only running processes need, and what they take anew: leases of holders that are no more.
LEFT_OUT: Final = ("watch", "watched")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_EMPTY: Final = """
SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%' AND c.relkind = 'r')
"""

Progress = Callable[[int], None]


async def server_major(database: Database) -> int:
    """The server's major version."""
    async with database.hot() as connection:
        return int(await connection.fetchval("SELECT current_setting('server_version_num')::int")) // MAJOR


async def is_empty(database: Database) -> bool:
    """True if nobody made a table in it yet."""
    async with database.hot() as connection:
        return bool(await connection.fetchval(_EMPTY))


async def dump(database: Database, target: Path, progress: Progress) -> tuple[int, str]:
    """Writes the database as it is at one moment to `target`; answers bytes and SHA-256. Raises `ConfigError`.

    Runs beside whatever serves. Dead rows are not in it, so what was deleted before is not either.
    """
    program = _program("pg_dump", await server_major(database))
    without = [f"--exclude-table-data=public.{name}" for name in LEFT_OUT]
    # -B: no large objects. The vault has none; one that a login made would stop the dump, or be carried into it.
    command = [str(program), "--format=custom", "-B", "--compress=1", "--no-password", "--no-sync", *without]
    return await asyncio.to_thread(_pour, command, _environment(database), target, progress)


async def load(database: Database, source: Path, made_with: int) -> None:
    """Loads a dump in one transaction. Raises `Conflict` (`not_empty`), and `ConfigError` where it cannot be loaded.

    Owners and rights are the connecting role's: those of the old server may not exist here.
    """
    if not await is_empty(database):
        raise Conflict(
            "The database has tables already: a backup is restored into an empty one only.", code="not_empty"
        )
    major = await server_major(database)
    if major < made_with:
        raise ConfigError(f"the backup is of PostgreSQL {made_with}, and this server is {major}: take one as new")
    program = _program("pg_restore", major)
    name = _environment(database)["PGDATABASE"]
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password"]
    command = [str(program), *options, f"--dbname={name}", str(source)]
    await asyncio.to_thread(_run, command, _environment(database), source.with_name(f"{source.name}.messages"))


def _program(name: str, major: int) -> Path:
    """The oldest program on this machine that knows the server. Raises `ConfigError` if all are older."""
    found: dict[int, Path] = {}
    folders = [*(folder / "bin" for folder in SYSTEM.glob("*")), cluster.programs()]
    beside = shutil.which(name)
    for path in ([Path(beside)] if beside else []) + [folder / name for folder in folders]:
        known = _major(path)
        if known is not None:
            found[known] = path
    fit = sorted(one for one in found if one >= major)
    if not fit:
        raise ConfigError(
            f"no {name} on this machine knows PostgreSQL {major}; install the client programs of that version"
        )
    return found[fit[0]]


def _major(program: Path) -> int | None:
    if not os.access(program, os.X_OK):
        return None
    try:
        told = subprocess.run(  # noqa: S603 - a program that was found by its name
            [str(program), "--version"], check=False, capture_output=True, text=True, timeout=PATIENCE
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(told)
    return None if match is None else int(match[1])


def _environment(database: Database) -> dict[str, str]:
    """How libpq reaches the same database: by variables, which no list of processes shows to others."""
    url: Any = database.engine.url
    given: Mapping[str, Any] = url.query
    told = {
        "PGHOST": given.get("host") or url.host,
        "PGPORT": given.get("port") or url.port,
        "PGUSER": url.username or given.get("user"),
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": given.get("ssl") or given.get("sslmode"),
    }
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    for name, value in told.items():
        if isinstance(value, tuple):
            value = ",".join(value)  # noqa: PLW2901 - several hosts
        if value is not None:
            environment[name] = str(value)
    return environment


def _pour(command: list[str], environment: dict[str, str], target: Path, progress: Progress) -> tuple[int, str]:
    """What the program writes, into a new private file, flushed to disk."""
    unfinished = target.with_name(f".{target.name}.new")
    unfinished.unlink(missing_ok=True)
    messages = target.with_name(f"{target.name}.messages")
    size, digest = 0, hashlib.sha256()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file, _private(messages) as told:
            with subprocess.Popen(  # noqa: S603 - a program that was found by its name, with arguments of ours
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, env=environment
            ) as process:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                while chunk := process.stdout.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    progress(size)
            file.flush()
            os.fsync(file.fileno())
        _check(process.returncode, command, messages)
        unfinished.rename(target)
    except OSError:  # the disk, and not the program, which had nothing to say
        messages.unlink(missing_ok=True)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    durable.sync_folder(target.parent)
    return size, digest.hexdigest()


def _run(command: list[str], environment: dict[str, str], messages: Path) -> None:
    with _private(messages) as told:
        done = subprocess.run(  # noqa: S603 - as above
            command, check=False, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=environment
        )
    _check(done.returncode, command, messages)


def _private(path: Path) -> Any:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.FILE_MODE), "wb")


def _check(code: int, command: list[str], messages: Path) -> None:
    if code != 0:
        raise ConfigError(f"{Path(command[0]).name} ended with {code}; what it said is in {messages}")
    messages.unlink(missing_ok=True)
