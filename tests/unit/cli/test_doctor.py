"""The doctor: finds each fault that is planted, says what to do, changes nothing."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.cli.conftest import Call
from vault.cli.doctor import machine
from vault.cli.main import main
from vault.config import load
from vault.storage.logins import groups, login
from vault.storage.session import Database

KEY_LINE = 64


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Alive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A port on which something says, as a vault does, that it is alive."""
    with HTTPServer(("127.0.0.1", 0), _Alive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def examined(call: Call, port: int) -> tuple[int, dict[str, dict[str, str]]]:
    done = call("doctor", "--port", str(port), "--json")
    data = json.loads(done.stdout)
    checks = {one["check"]: one for one in data["checks"]}
    assert data["ok"] is (done.exit_code == 0)
    assert sum(data["counts"].values()) == len(data["checks"])
    assert [name for name, one in checks.items() if one["state"] in {"warning", "failed"} and not one["remedy"]] == []
    return done.exit_code, checks


def sql(url: str, *statements: str) -> None:
    async def run() -> None:
        database = await Database.open(url)
        async with database.hot() as connection:
            for one in statements:
                await connection.execute(one)
        await database.close()

    asyncio.run(run())


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def test_a_sound_vault_is_found_sound_and_left_as_it_is(call: Call, port: int, tmp_path: Path) -> None:
    call("sources", "add", "shop", "--class", "server")
    call("worker", "--once")
    before = snapshot(tmp_path)
    code, checks = examined(call, port)
    assert code == 0
    assert {name: one["found"] for name, one in checks.items() if one["state"] in {"failed", "skipped"}} == {}
    assert checks["live policy"]["state"] == checks["audit head"]["state"] == checks["schema"]["state"] == "ok"
    assert snapshot(tmp_path) == before
    text = call("doctor", "--port", str(port)).stdout
    assert text.count("\n") == len(checks) + 1
    assert (tmp_path / "root.key").read_text().strip()[:16] not in text


def test_without_a_vault_nothing_fails_and_nothing_is_made(tmp_path: Path, port: int) -> None:
    folder = tmp_path / "typo"
    runner = CliRunner(env={"PROFILE_VAULT_DATABASE_URL": "", "PROFILE_VAULT_DATA_DIR": str(folder)})
    for more in ((), ("--start",)):
        done = runner.invoke(main, ["doctor", "--port", str(port), "--json", *more])
        checks = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
        assert done.exit_code == 0
        assert checks["database"]["state"] == "warning"
        assert str(folder) in checks["database"]["found"]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("key file", lambda home: (home / "root.key").chmod(0o644)),
        ("key file", lambda home: (home / "root.key").unlink()),
        ("key store", lambda home: (home / "keyring" / "purpose-4.key").unlink()),
        ("key store", lambda home: (home / "root.key").write_text("0" * KEY_LINE + "\n")),
        ("key store folder", lambda home: (home / "keyring").chmod(0o755)),
        ("journal", lambda home: (home / "journal" / "narrowings.journal").unlink()),
        ("journal", lambda home: flip(home / "journal" / "narrowings.journal")),
        ("journal folder", lambda home: (home / "journal").chmod(0o750)),
    ],
)
def test_a_fault_in_what_lies_outside_the_database_is_found(
    call: Call, port: int, tmp_path: Path, check: str, fault: Any
) -> None:
    call("sources", "add", "shop", "--class", "server")
    fault(tmp_path)
    code, checks = examined(call, port)
    assert (code, checks[check]["state"]) == (1, "failed"), checks[check]


@pytest.mark.parametrize(
    ("role", "told"),
    [
        (("--doors", "ingest"), "doors ingest"),
        (("--doors", "feed", "--purposes", "marketing"), "doors feed"),
        (("--doors", "desk"), "doors desk"),
        (("--duties", "changes,audit,webhooks", "--purposes", "marketing"), "duties audit, webhooks"),
    ],
)
def test_a_unit_with_a_folder_of_handed_out_secrets_is_sound_and_its_role_is_told(
    call: Call, environ: dict[str, str], port: int, tmp_path: Path, role: tuple[str, ...], told: str
) -> None:
    call("sources", "add", "shop", "--class", "server")
    call("worker", "--once")
    folder = tmp_path / "unit"
    assert call("keys", "hand-out", str(folder), *role).exit_code == 0
    environ["PROFILE_VAULT_KEY_FILE"] = str(folder)
    code, checks = examined(call, port)
    assert {name: one["found"] for name, one in checks.items() if one["state"] == "failed"} == {}
    assert (code, checks["key file"]["state"], checks["key store"]["state"]) == (0, "ok", "ok")
    assert f"enough for {told}" in checks["key file"]["found"]


def _first(folder: Path) -> Path:
    return min(folder.glob("*.secret"))


@pytest.mark.parametrize(
    "fault",
    [
        lambda folder: _first(folder).chmod(0o640),
        lambda folder: _first(folder).write_text("0" * 63),
        lambda folder: (folder / "notes.txt").write_text("x"),
        lambda folder: [path.unlink() for path in folder.iterdir()],
    ],
)
def test_a_fault_in_a_folder_of_secrets_is_found(
    call: Call, environ: dict[str, str], port: int, tmp_path: Path, fault: Any
) -> None:
    call("sources", "add", "shop", "--class", "server")
    folder = tmp_path / "unit"
    call("keys", "hand-out", str(folder), "--doors", "ingest")
    fault(folder)
    environ["PROFILE_VAULT_KEY_FILE"] = str(folder)
    code, checks = examined(call, port)
    assert (code, checks["key file"]["state"]) == (1, "failed")


def test_a_damaged_file_of_the_key_store_is_named(call: Call, port: int, tmp_path: Path) -> None:
    call("sources", "add", "shop", "--class", "server")
    path = tmp_path / "keyring" / "purpose-4.key"
    path.write_text(path.read_text().replace("1", "2"))
    code, checks = examined(call, port)
    assert (code, checks["key store"]["state"]) == (1, "failed")
    assert str(path) in checks["key store"]["found"]


def test_d_the_key_of_an_open_erasure_that_was_taken_away_is_missed(
    call: Call, port: int, tmp_path: Path, database_url: str
) -> None:
    """Without it the erasure never ends: nobody can be told any more what to delete."""
    call("sources", "add", "shop", "--class", "server")
    for table, front in (("casefile", "case"), ("archive", "archive")):
        sql(database_url, f"INSERT INTO {table} VALUES ('{REQUEST}', 'x', 9000000000000000)")  # noqa: S608 - names of ours
        code, checks = examined(call, port)
        assert (code, checks["request keys"]["state"]) == (1, "failed")
        assert f"{front}-{REQUEST}" in checks["request keys"]["found"]
        (tmp_path / "keyring" / f"{front}-{REQUEST}.key").write_text("")
        assert examined(call, port)[1]["request keys"]["state"] == "ok"


REQUEST = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_a_superuser_of_the_database_is_warned_of(call: Call, port: int) -> None:
    call("sources", "add", "shop", "--class", "server")
    code, checks = examined(call, port)
    assert (code, checks["database role"]["state"]) == (0, "warning")


def test_an_owner_of_its_database_is_enough_for_the_vault(
    call: Call, port: int, environ: dict[str, str], database_url: str
) -> None:
    """From an empty database to a sound vault, as compose.yaml and the page for a server make the role."""
    name = database_url.split("/")[3].split("?", maxsplit=1)[0]
    role, own = f"role_{name}", f"own_{name}"
    sql(
        database_url,
        f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",
        f"CREATE DATABASE {own} OWNER {role}",
        groups() + login(f"feed_{name}", ["feed"]),
    )
    try:
        environ["PROFILE_VAULT_DATABASE_URL"] = f"{database_url.replace(f'/{name}?', f'/{own}?')}&user={role}"
        assert call("keys", "init").exit_code == 0
        assert call("sources", "add", "shop", "--class", "server").exit_code == 0
        call("worker", "--once")
        code, checks = examined(call, port)
        assert {name: one["found"] for name, one in checks.items() if one["state"] == "failed"} == {}
        assert (code, checks["database role"]["state"]) == (0, "ok")
        # A process's own login: what it may not look at is skipped, and nothing fails.
        environ["PROFILE_VAULT_DATABASE_URL"] = environ["PROFILE_VAULT_DATABASE_URL"].replace(role, f"feed_{name}")
        code, checks = examined(call, port)
        assert {name: one["found"] for name, one in checks.items() if one["state"] == "failed"} == {}
        assert checks["database role"]["found"] == "that of feed, and no more"
        assert checks["sources"]["state"] == "skipped"
        sql(f"{database_url.replace(f'/{name}?', f'/{own}?')}", "GRANT DELETE ON ledger TO profile_vault_feed")
        assert "DELETE on ledger" in examined(call, port)[1]["database role"]["found"]
    finally:
        sql(database_url, f"DROP DATABASE {own} WITH (FORCE)", f"DROP ROLE {role}", f"DROP ROLE feed_{name}")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_database_that_was_put_back_or_is_of_another_release_is_found(
    call: Call, port: int, database_url: str
) -> None:
    call("sources", "add", "shop", "--class", "server")
    call("worker", "--once")
    sql(database_url, "DELETE FROM audit", "DELETE FROM audit_node", "DELETE FROM checkpoint")
    code, checks = examined(call, port)
    assert (code, checks["audit head"]["state"]) == (1, "failed")
    sql(database_url, "UPDATE alembic_version SET version_num = '0000'")
    code, checks = examined(call, port)
    assert (code, checks["schema"]["state"], checks["audit head"]["state"]) == (1, "failed", "skipped")
    assert "migrate" in checks["schema"]["remedy"]


def test_what_waits_while_a_vault_serves_without_a_worker_is_found_and_gone_when_one_ran(
    call: Call, port: int, neighbour: int, database_url: str
) -> None:
    call("sources", "add", "shop", "--class", "server")
    sql(
        database_url, "UPDATE lease SET expires_at = 0", "INSERT INTO change_in (subject_id) VALUES (gen_random_uuid())"
    )
    code, checks = examined(call, port)
    assert (code, checks["worker"]["state"]) == (0, "warning")  # nothing serves: it waits for the next start
    code, checks = examined(call, neighbour)
    assert (code, checks["worker"]["state"], checks[f"port {neighbour}"]["state"]) == (1, "failed", "ok")
    sql(database_url, "DELETE FROM change_in")
    call("worker", "--once")
    assert examined(call, neighbour)[1]["worker"]["state"] == "ok"


def test_clocks_that_do_not_agree_are_found(call: Call, port: int, database_url: str) -> None:
    call("sources", "add", "shop", "--class", "server")
    sql(database_url, "UPDATE policy_version SET applied_at = applied_at + 3600000000")
    code, checks = examined(call, port)
    assert (code, checks["clock"]["state"]) == (1, "failed")


def test_policies_that_do_not_hold_or_are_not_live_are_found(
    call: Call, environ: dict[str, str], port: int, tmp_path: Path
) -> None:
    call("sources", "add", "shop", "--class", "server")
    folder = tmp_path / "other"
    call("policy", "init", str(folder))
    environ["PROFILE_VAULT_POLICIES"] = str(folder)
    code, checks = examined(call, port)
    assert (code, checks["policies folder"]["state"], checks["live policy"]["state"]) == (0, "ok", "warning")
    (folder / "traits.toml").write_text("[email]\nnumbr = 1\n")
    code, checks = examined(call, port)
    assert (code, checks["policies folder"]["state"], checks["live policy"]["state"]) == (1, "failed", "skipped")
    assert "traits.toml:" in checks["policies folder"]["found"]


def test_a_database_that_does_not_answer_and_a_wrong_setting_are_each_one_line(
    call: Call, environ: dict[str, str], port: int
) -> None:
    call("sources", "add", "shop", "--class", "server")
    environ["PROFILE_VAULT_DATABASE_URL"] = f"postgresql://someone:hunter2-secret@127.0.0.1:{port}/vault"
    code, checks = examined(call, port)
    assert (code, checks["database"]["state"], checks["key store"]["state"]) == (1, "failed", "ok")
    assert "hunter2-secret" not in json.dumps(checks)
    environ["PROFILE_VAULT_JURNAL"] = "/tmp/x"  # noqa: S108 - a misspelt name, nothing is there
    code, checks = examined(call, port)
    assert (code, checks["settings"]["state"]) == (1, "failed")


def test_a_port_that_something_else_has_is_found(call: Call) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, checks = examined(call, number := other.getsockname()[1])
    assert (code, checks[f"port {number}"]["state"]) == (1, "failed")


def test_packages_and_core_files_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.packages().state == machine.python().state == "ok"
    monkeypatch.setattr(
        machine.metadata, "requires", lambda _: ["asyncpg>=999", "no-such-package>=1", 'x>=9; extra == "y"']
    )
    found = machine.packages()
    assert found.state == "failed"
    assert "asyncpg" in found.found
    assert "no-such-package is missing" in found.found
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (-1, -1))
    assert machine.core_files().state == "warning"
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (0, -1))
    assert machine.core_files().state == "ok"


def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(tmp_path, {"PROFILE_VAULT_DATA_DIR": str(tmp_path / "none" / "v")})
    for free, state in (
        (machine.LITTLE + 1, "ok"),
        (machine.LITTLE - 1, "warning"),
        (machine.TOO_LITTLE - 1, "failed"),
    ):
        usage = SimpleNamespace(free=free, total=1 << 40)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert [one.state for one in machine.disk(settings)] == [state]
