"""The commands against a real vault: what they print once, what they never print, and that an import may be repeated."""

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.api.shop import EMAIL, bearer, identify, order
from vault.cli.main import main
from vault.crypto.services.local import LocalKeyService
from vault.crypto.signing import Signer
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.storage.session import Database

ROOT = Path(__file__).resolve().parents[3]
Call = Callable[..., Result]


def _json(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def _ndjson(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def test_a_source_is_added_listed_and_disabled_and_its_key_is_told_once(call: Call) -> None:
    key = _json(call("sources", "add", "shop", "--class", "server", "--json"))["write_key"]
    listed = call("sources", "list", "--json")
    assert _json(listed)["sources"][0] | {"created_at": ""} == {
        "name": "shop", "class": "server", "created_at": "", "disabled_at": None,
    }  # fmt: skip
    assert key not in listed.stdout
    taken = call("sources", "add", "shop", "--class", "client", "--json")
    assert (taken.exit_code, json.loads(taken.stderr)["code"]) == (1, "conflict")
    assert _json(call("sources", "disable", "shop", "--json"))["disabled"] is True
    assert _json(call("sources", "list", "--json"))["sources"][0]["disabled_at"] is not None


def test_staff_are_added_in_roles_that_exist(call: Call) -> None:
    first = _json(call("staff", "add", "ada", "--role", "officer", "--token", "--json"))
    again = _json(call("staff", "add", "ada", "--role", "officer", "--token", "--json"))
    assert first["staff_id"] == again["staff_id"]
    assert first["token"] != again["token"]
    assert "token" not in _json(call("staff", "add", "bob", "--role", "auditor", "--json"))
    wrong = call("staff", "add", "eve", "--role", "king")
    assert wrong.exit_code == 1
    assert "officer" in wrong.stderr
    assert [row["name"] for row in _json(call("staff", "list", "--json"))["staff"]] == ["ada", "bob"]


def test_destinations_get_tokens_and_no_webhook_to_a_private_address(call: Call) -> None:
    assert _json(call("destinations", "token", "warehouse", "--revoke", "--json"))["token"].startswith("pvd_")
    assert call("destinations", "token", "nobody").exit_code == 1
    for url in ("https://127.0.0.1/x", "http://10.0.0.1/x", "https://user@example.com/", "ftp://example.com/"):
        refused = call("destinations", "webhook", "email-tool", url, "--json")
        assert (refused.exit_code, refused.stdout) == (1, "")
    assert call("destinations", "webhook", "email-tool").exit_code == 2
    assert call("destinations", "webhook", "email-tool", "--remove").exit_code == 1
    rows = _json(call("destinations", "list", "--json"))["destinations"]
    assert {row["name"] for row in rows} == {"ad-platform", "email-tool", "support-desk", "warehouse"}


def _incomplete(done: Result) -> Any:
    """The answer of an import that lost lines: a script must see that."""
    assert done.exit_code == 1, done.output
    return json.loads(done.stdout)


def test_a_file_is_imported_once_however_often_it_is_read(call: Call, tmp_path: Path) -> None:
    call("sources", "add", "shop", "--class", "server")
    unlisted = {"type": "track", "userId": "u-9", "event": "No Such Event", "messageId": "x-1"}
    content = _ndjson(identify(), *(order(f"o-{number}") for number in range(700)), unlisted) + b"not json\n"
    (tmp_path / "half.ndjson").write_bytes(content[: len(content) // 2])  # a run that was killed: cut within a line
    (tmp_path / "all.ndjson.gz").write_bytes(gzip.compress(content))
    half = _incomplete(call("import", str(tmp_path / "half.ndjson"), "--source", "shop", "--json"))
    assert 0 < half["stored"] < 700
    assert half["unreadable_lines"] == 1
    whole = _incomplete(call("import", str(tmp_path / "all.ndjson.gz"), "--source", "shop", "--json"))
    assert whole["stored"] + half["stored"] == 701
    assert whole["duplicates"] == half["stored"]
    assert (sum(whole["dropped"].values()), whole["unreadable_lines"]) == (1, 1)
    again = _json(call("import", "-", "--source", "shop", "--json", stdin=content.removesuffix(b"not json\n")))
    assert (again["messages"], again["stored"]) == (702, 0)
    dropped = call("sources", "dropped", "shop", "--json")
    assert [row["name"] for row in _json(dropped)["dropped"]] == ["No Such Event"]
    assert '[track."No Such Event"]' in _json(dropped)["dropped"][0]["remedy"]
    shown = call("sources", "dropped", "shop").stdout
    assert "REMEDY" in shown
    assert EMAIL not in dropped.stdout + shown


def test_an_import_says_what_is_missing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_bytes(b"")
    unknown = call("import", str(tmp_path / "e.ndjson"), "--source", "nobody")
    assert unknown.exit_code == 1
    assert "sources add" in unknown.stderr
    missing = call("import", str(tmp_path / "none"), "--source", "shop")
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_keys_are_named_and_never_shown(call: Call, tmp_path: Path) -> None:
    told = call("keys", "status", "--json")
    names = {row["name"]: row["protects"] for row in _json(told)["keys"]}
    assert names["purpose-4"] == "analytics"
    assert all(names.values())
    assert (tmp_path / "root.key").read_text().strip() not in told.stdout


def test_outdated_epochs_are_destroyed_and_what_waits_is_told_with_its_reason_and_date(call: Call) -> None:
    call("keys", "init")
    assert call("keys", "rotate", "marketing").exit_code == 0
    (waits,) = _json(call("keys", "destroy", "--outdated", "--json"))["waiting"]
    assert (waits["code"], waits["epoch"]) == ("epoch_in_backups", 1)
    told = call("keys", "destroy", "--outdated")
    assert f"Epoch 1 of {waits['name']} waits (epoch_in_backups): Backups of the data from before" in told.stdout
    assert waits["until"] in told.stdout
    unknown = call("keys", "rotate", "nosuch")
    assert all(word in unknown.stderr for word in ("purpose", "rights", "signing-", "index-", "tombstone"))
    for wrong in ([], ["marketing"], ["marketing", "1", "--outdated"]):
        assert call("keys", "destroy", *wrong).exit_code == 2


def test_the_log_verifies_and_an_edit_ends_with_1(call: Call, database_url: str) -> None:
    assert _json(call("worker", "--once", "--json")) == {"done": True}
    report = _json(call("audit", "verify", "--json"))
    assert report["ok"] is True
    assert report["size"] >= 1
    assert _json(call("audit", "checkpoint", "--json"))["checkpoint"].count("\n") >= 4
    _edit_the_log(database_url)
    broken = call("audit", "verify", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["first_bad"] == 0


def _edit_the_log(database_url: str) -> None:
    async def edit() -> None:
        database = await Database.open(database_url)
        async with database.hot() as connection:
            await connection.execute("UPDATE audit SET leaf = leaf || ' '::bytea WHERE number = 0")
        await database.close()

    asyncio.run(edit())


def test_a_certificate_is_checked_with_the_key_store_alone_when_no_page_of_keys_is_given(
    call: Call, tmp_path: Path
) -> None:
    call("keys", "status")  # the first start makes the keys
    signer = _certificate_signer(tmp_path)
    document: dict[str, Any] = {"format": "profile-vault/certificate/1", "request": "r", "revision": 1}
    document |= {"destroyed_at": "t", "stores": [], "stated": [], "due": [], "kept": []}
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps({"document": document, "signature": signer.sign_document(document)}))
    assert _json(call("erasures", "verify", str(file), "--json"))["signature"] == "holds"
    forged = json.dumps({"document": document | {"revision": 2}, "signature": signer.sign_document(document)})
    file.write_text(forged)
    told = call("erasures", "verify", str(file), "--json")
    assert (told.exit_code, json.loads(told.stderr)["code"]) == (1, "bad_signature")


def _certificate_signer(tmp_path: Path) -> Signer:
    keyring = Keyring(KeyStore(tmp_path / "keyring", LocalKeyService.from_key_file(tmp_path / "root.key")))
    keyring.open()
    return keyring.signer("certificate")


READERS = (
    ("audit", "verify"), ("audit", "checkpoint"), ("keys", "status"), ("sources", "list"), ("sources", "dropped", "shop"),
    ("sources", "disable", "shop"), ("destinations", "list"), ("staff", "list"), ("staff", "disable", "ada"),
)  # fmt: skip


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_what_only_reads_makes_no_vault_in_a_mistyped_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "typo"
    mistyped = {"PROFILE_VAULT_DATABASE_URL": "", "PROFILE_VAULT_DATA_DIR": str(folder)}
    done = CliRunner(env=mistyped).invoke(main, arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"there is no vault in {folder}; set PROFILE_VAULT_DATA_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--doors", "nonsense"), ("worker", "--duties", "nonsense"), ("worker", "--once", "--port", "1"),
        ("keys", "hand-out", "folder"), ("keys", "access", "--doors", "nonsense"),
        ("database", "login", "one", "--doors", "nonsense"), ("backup", "folder", "--only", "nonsense"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_wrong_usage_and_ends_with_2(call: Call, arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "settings" not in done.stderr


def test_migrating_twice_changes_nothing(call: Call) -> None:
    assert _json(call("migrate", "--json")) == _json(call("migrate", "--json"))


def test_serve_answers_tracks_and_stops_cleanly_and_its_log_holds_no_value(
    call: Call, environ: dict[str, str], tmp_path: Path
) -> None:
    key = _json(call("sources", "add", "shop", "--class", "server", "--json"))["write_key"]
    token = _json(call("destinations", "token", "email-tool", "--json"))["token"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vault.cli.main", "serve", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environ, cwd=ROOT, stderr=log)  # noqa: S603
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
                _until_ready(http, server)
                sent = http.post("/v1/batch", headers=bearer(key), json={"batch": [identify(), order()]})
                assert sent.json()["stored"] == 2
                assert EMAIL in _wait_for_feed(http, token)
                http.get(f"/{EMAIL}?email={EMAIL}")
        finally:
            server.send_signal(signal.SIGTERM)
            ended = server.wait(timeout=20)
    lines = (tmp_path / "log").read_text().splitlines()
    assert ended in {0, -signal.SIGTERM}
    assert [json.loads(line)["event"] for line in lines[1:]].count("request") >= 4
    assert not any(secret in "".join(lines) for secret in (EMAIL, "jane", key, token))


def _until_ready(http: httpx.Client, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        assert server.poll() is None
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not get ready")


def _wait_for_feed(http: httpx.Client, token: str) -> str:
    for _ in range(100):
        text = http.get("/v1/destinations/email-tool/profiles", headers=bearer(token)).text
        if '"upsert"' in text:
            return text
        time.sleep(0.1)
    raise AssertionError("the worker did not number the change")
