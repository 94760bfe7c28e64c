"""`journal move`, and what the doctor says of a journal in a database."""

import json
import socket
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Call
from tests.unit.cli.test_doctor import examined, sql

SECRET = "hunter2"


@pytest.fixture
def url_file(tmp_path: Path, empty_url: str) -> Path:
    file = tmp_path / "journal-url"
    file.write_text(empty_url)
    return file


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_journal_moves_into_a_database_and_back_and_the_doctor_reads_it_there(
    call: Call, environ: dict[str, str], url_file: Path, empty_url: str, port: int, tmp_path: Path
) -> None:
    call("sources", "add", "shop", "--class", "server")
    call("worker", "--once")
    done = call("journal", "move", "--url-file", str(url_file), "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    moved = json.loads(done.stdout)
    assert moved["entries"] >= 1
    _, checks = examined(call, port)
    assert checks["journal"]["state"] == "failed"  # the settings still name the folder
    assert "was moved from here" in checks["journal"]["found"]
    again = call("journal", "move", "--url-file", str(url_file), "--json")
    assert json.loads(again.stdout) == moved

    folder = environ.pop("PROFILE_VAULT_JOURNAL")
    environ["PROFILE_VAULT_JOURNAL_URL_FILE"] = str(url_file)
    call("worker", "--once")
    code, checks = examined(call, port)
    assert code == 0
    assert checks["journal"] == {**checks["journal"], "state": "ok", "found": f"whole, {moved['entries']} entries"}
    assert checks["journal server"]["state"] == "warning"  # another database of the same server
    assert checks["audit head"]["state"] == "ok"
    assert json.loads(call("keys", "status", "--json").stdout)["rollback_protection"] == "none"

    back = json.loads(call("journal", "move", "--folder", folder, "--json").stdout)
    assert (moved["setting"], back["setting"]) == ("journal_url_file", "journal")
    assert back == moved | {"setting": "journal"}
    sql(empty_url, "DROP SCHEMA journal CASCADE")
    _, checks = examined(call, port)
    assert (checks["journal"]["state"], checks["journal server"]["state"]) == ("failed", "skipped")
    del environ["PROFILE_VAULT_JOURNAL_URL_FILE"]
    environ["PROFILE_VAULT_JOURNAL"] = folder
    assert call("audit", "verify").exit_code == 0


def test_a_move_that_cannot_be_meant_is_refused_with_what_to_do(
    call: Call, environ: dict[str, str], url_file: Path, database_url: str, tmp_path: Path
) -> None:
    call("sources", "add", "shop", "--class", "server")
    itself = tmp_path / "itself"
    itself.write_text(database_url)
    wrong = tmp_path / "wrong"
    wrong.write_text(f"mysql://{SECRET}")
    for code, told, arguments in (
        (2, "--folder or --url-file", ()),
        (2, "--folder or --url-file", ("--folder", "x", "--url-file", "y")),
        (1, "goes into a file", ("--folder", f"postgresql://vault:{SECRET}@x/y")),
        (1, "must begin with", ("--url-file", str(wrong))),
        (1, "cannot be read", ("--url-file", str(tmp_path / "absent"))),
        (1, "lies there already", ("--folder", environ["PROFILE_VAULT_JOURNAL"])),
        (1, "the database of the vault itself", ("--url-file", str(itself))),
    ):
        done = call("journal", "move", *arguments)
        assert (done.exit_code, told in done.stderr) == (code, True), done.stderr
        assert SECRET not in done.output
    assert call("audit", "verify").exit_code == 0
