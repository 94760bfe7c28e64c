"""Backup and restore, rehearsed with the real commands on the real embedded server (threats A6, D6, D14, H7, H20)."""

import hashlib
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.house import Door, House, awaited, bearer
from vault.cli.demo_stage import Secrets
from vault.crypto.escrow import split
from vault.ids import random_bytes
from vault.storage import cluster, embedded

ALL = {"functional": True, "analytics": True, "advertising": True}
PEOPLE = ("ada", "bob", "cy")

pytestmark = pytest.mark.slow


def buy(door: Door, secrets: Secrets, *names: str) -> None:
    context = {"consent": {"categoryPreferences": ALL}}
    batch: list[dict[str, Any]] = []
    for name in names:
        batch += [
            {"type": "identify", "userId": name, "messageId": f"i-{name}", "context": context,
             "traits": {"email": f"{name}@example.com", "firstName": name.title()}},
            {"type": "track", "userId": name, "messageId": f"t-{name}", "context": context, "event": "Order Completed",
             "properties": {"order_id": f"o-{name}", "revenue": 300, "currency": "USD"}},
        ]  # fmt: skip
    door.http.post("/v1/batch", json={"batch": batch}, auth=(secrets.write_key, "")).raise_for_status()
    door.settled()


def narrow(door: Door, secrets: Secrets) -> None:
    """Ada is erased, Bob withdraws."""
    officer = bearer(secrets.officer)
    body = {"kind": "email", "value": "ada@example.com"}
    ref = door.http.post("/v1/subjects/find", json=body, headers=officer).raise_for_status().json()["ref"]
    request = door.http.post(f"/v1/subjects/{ref}/erasure", headers=officer).raise_for_status().json()["request"]
    door.request_done(secrets.officer, request)
    choice = {"userId": "bob", "messageId": "c-bob", "choices": [{"purpose": "marketing", "decision": "withdrawn"}]}
    door.http.post("/v1/consents", json=choice, auth=(secrets.write_key, "")).raise_for_status()
    door.settled()


def mailed(door: Door, secrets: Secrets) -> list[str]:
    """First names that the e-mail tool gets."""
    door.settled()
    lines = door.feed("email-tool", secrets.tokens["email-tool"])
    return sorted(line["traits"]["firstName"] for line in lines if line["op"] == "upsert")


def cursor_of(door: Door, secrets: Secrets) -> str:
    answer = door.http.get("/v1/destinations/email-tool/profiles", headers=bearer(secrets.tokens["email-tool"]))
    return str(json.loads(answer.text.splitlines()[-1])["cursor"])


def read_on(door: Door, secrets: Secrets, cursor: str) -> httpx.Response:
    headers = bearer(secrets.tokens["email-tool"])
    return door.http.get("/v1/destinations/email-tool/profiles", params={"cursor": cursor}, headers=headers)


def archives(made: dict[str, Any]) -> dict[str, str]:
    return {one["kind"]: one["file"] for one in made["archives"]}


def apart(house: House) -> House:
    """Keys and journal outside the data folder."""
    house.environ["PROFILE_VAULT_KEYRING"] = str(house.folder / "keyring")
    house.environ["PROFILE_VAULT_JOURNAL"] = str(house.folder / "journal")
    return house


def test_d6_d14_h20_a_backup_is_restored_and_nobody_comes_back(house: House) -> None:
    apart(house)
    secrets = house.furnish()
    target = house.folder / "backups"
    with house.serving() as door:
        buy(door, secrets, *PEOPLE)
        made = house.ask("backup", str(target))  # while it serves
        assert mailed(door, secrets) == ["Ada", "Bob", "Cy"]
        cursor = cursor_of(door, secrets)
        narrow(door, secrets)
        assert mailed(door, secrets) == ["Cy"]
    files = archives(made)
    for one in made["archives"]:
        path = Path(one["file"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == one["sha256"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for planted in (b"ada@example.com", b"Ada", house.key_file.read_bytes().strip()):
            assert planted not in path.read_bytes()
    refused = house.run("restore", "--data", files["data"], "--json", check=False)
    assert json.loads(refused.stderr)["code"] == "not_empty"

    embedded.remove(house.data)  # the database is lost; keys and journal are not
    names = ("--data", "--keys", "--journal")
    restored = house.ask("restore", *[word for name in names for word in (name, files[name[2:]])])
    assert (restored["keys"], restored["journal"]) == ("here", "here")  # those of the archives are older
    assert not restored["open"]
    assert restored["closed"]["code"] == "audit_behind_head"
    closed = house.run("erasures", "replay", "--json", check=False)
    assert json.loads(closed.stderr)["code"] == "audit_behind_head"  # nothing starts, so nothing is served
    words = restored["closed"]["hint"].split()
    sizes = [words[words.index(name) + 1] for name in ("--here", "--head")]
    wrong = house.run("audit", "accept-loss", "--here", sizes[0], "--head", "1", "--json", check=False)
    assert json.loads(wrong.stderr)["code"] == "loss_differs"
    accepted = house.ask("audit", "accept-loss", "--here", sizes[0], "--head", sizes[1])
    assert accepted["replayed"]["erased"] == 1
    assert accepted["replayed"]["lowered"] == 1
    (again,) = accepted["replayed"][
        "requests"
    ]  # the officer's certificate from before is in no backup: this is a new one
    listed = house.ask("requests", "list", "--type", "erasure")["requests"]
    assert [(one["request"], one["type"]) for one in listed] == [(again, "erasure")]

    with house.serving() as door:
        assert read_on(door, secrets, cursor).status_code == 410
        assert mailed(door, secrets) == ["Cy"]
        find = {"kind": "email", "value": "ada@example.com"}
        officer = bearer(secrets.officer)
        awaited("the end of her rows", lambda: door.http.post("/v1/subjects/find", json=find, headers=officer).is_error)
        assert door.http.get("/readyz").json()["ready"]
    assert house.ask("audit", "verify")["ok"]
    replayed = house.ask("erasures", "replay")
    assert (replayed["erased"], replayed["lowered"], replayed["requests"]) == (0, 0, [])
    assert replayed["journal"] > replayed["entries"]  # an earlier start compared the others


def test_h7_a_lost_machine_is_restored_from_the_archives_and_two_of_three_shares_of_the_root_key(house: House) -> None:
    apart(house)
    secrets = house.furnish()
    target = house.folder / "backups"
    with house.serving() as door:
        buy(door, secrets, *PEOPLE)
        first = house.ask("backup", str(target))
        narrow(door, secrets)
        later = archives(house.ask("backup", str(target), "--only", "keys,journal"))
        assert set(later) == {"keys", "journal"}
    shares = house.ask("keys", "escrow", "split", "--out", str(house.folder / "shares"))["files"]
    others = []
    for number, line in enumerate(split(random_bytes(32), 3, 2)):
        others.append(str(house.folder / f"other-{number}.txt"))
        Path(others[-1]).write_text(line)
    embedded.remove(house.data)
    for lost in (house.folder / "keyring", house.folder / "journal", house.data):
        shutil.rmtree(lost, ignore_errors=True)
    house.key_file.unlink()  # and the root key with it
    arguments = ("restore", "--data", archives(first)["data"], "--keys", later["keys"], "--journal", later["journal"])
    without = house.run(*arguments, "--json", check=False)
    assert without.returncode == 1  # no way in without the root key
    assert not house.key_file.exists()
    for some in ((shares[0],), (shares[0], shares[0]), (shares[0], others[1]), tuple(others[:2])):
        refused = house.run("keys", "escrow", "join", *some, "--json", check=False)
        assert json.loads(refused.stderr)["code"] in {"bad_shares", "other_key"}
        assert not house.key_file.exists()
    house.ask("keys", "escrow", "join", shares[2], shares[0])
    restored = house.ask(*arguments)  # the key store is in place already
    assert (restored["keys"], restored["journal"], restored["open"]) == ("here", "archive", False)
    words = restored["closed"]["hint"].split()
    sizes = [words[words.index(name) + 1] for name in ("--here", "--head")]
    house.ask("audit", "accept-loss", "--here", sizes[0], "--head", sizes[1])
    with house.serving() as door:
        assert mailed(door, secrets) == ["Cy"]


@pytest.mark.long
def test_an_archive_that_was_changed_is_refused_before_anything_is_touched(house: House) -> None:
    apart(house)
    house.furnish()
    files = archives(house.ask("backup", str(house.folder / "backups")))
    embedded.remove(house.data)
    for kind in ("data", "journal"):
        path = Path(files[kind])
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
        refused = house.run("restore", "--data", files["data"], "--journal", files["journal"], "--json", check=False)
        assert json.loads(refused.stderr)["code"] == "bad_backup"
        path.write_bytes(whole)
    manifest = Path(files["data"]).with_suffix(".json")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"policy": 1', b'"policy": 2'))
    refused = house.run("restore", "--data", files["data"], "--json", check=False)
    assert json.loads(refused.stderr)["code"] == "bad_backup"
    manifest.write_bytes(whole)
    restored = house.ask("restore", "--data", files["data"])
    assert restored["open"]
    assert restored["doctor"] == []


@pytest.mark.long
def test_an_embedded_database_of_an_older_postgresql_is_carried_over_by_the_two_commands(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel brings PostgreSQL 16, too: an earlier release of the vault might have run on it."""
    apart(house)
    with monkeypatch.context() as earlier:
        earlier.setattr(cluster, "RELEASE", "pginstall")
        earlier.setattr(cluster, "MAJOR", "16")
        server = embedded.start(house.data)  # the commands below join it
        try:
            secrets = house.furnish()
            with house.serving() as door:
                buy(door, secrets, *PEOPLE)
                narrow(door, secrets)
            files = archives(house.ask("backup", str(house.folder / "backups")))
            assert json.loads(Path(files["data"]).with_suffix(".json").read_text())["about"]["server"] == 16
        finally:
            server.release()
    met = house.run("serve", "--port", "0", check=False)
    assert "made by PostgreSQL 16" in met.stderr
    embedded.remove(house.data)
    restored = house.ask("restore", "--data", files["data"])
    assert restored["open"]
    assert (restored["replayed"]["erased"], restored["replayed"]["lowered"]) == (0, 0)  # nothing is lost by it
    with house.serving() as door:
        assert mailed(door, secrets) == ["Cy"]
        assert house.sql("SELECT current_setting('server_version_num')::int / 10000")[0][0] == 18
    assert house.ask("audit", "verify")["ok"]
