"""The journal in a second server: moved there by a command, killed while a real vault serves, and back again."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, awaited
from vault.storage import embedded

AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}
PERSON = {
    "type": "identify",
    "userId": "u-1",
    "messageId": "m-1",
    "traits": {"email": "ada@example.com"},
    "context": AGREED,
}


class Second:
    """Another PostgreSQL, on which the journal is to lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held = embedded.start(folder)
        self.url = self.held.url()

    def kill(self) -> None:
        """As a host that loses its power: nobody is told, nothing is stopped in order."""
        pid = int((self.folder / "postgres" / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, signal.SIGKILL)
        awaited("the end of the journal's server", lambda: not Path(f"/proc/{pid}").exists())

    def lose(self) -> None:
        """As a host that burned down; an empty one takes its place and its address."""
        self.held.release()
        embedded.remove(self.folder)
        self.held = embedded.start(self.folder)
        assert self.held.url() == self.url

    def start(self) -> None:
        """On its own address again."""
        self.held.release()
        self.held = embedded.start(self.folder)
        assert self.held.url() == self.url


@pytest.fixture
def second() -> Iterator[Second]:
    folder = Path(tempfile.mkdtemp(prefix="pv-e2e-j-", dir="/tmp"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    made = Second(folder / "data")
    try:
        yield made
    finally:
        made.held.release()
        embedded.remove(folder / "data")
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir()
        folder.rmdir()


@pytest.mark.slow
def test_h13_a_vault_whose_journal_lies_in_a_second_server_refuses_while_that_is_dead_and_goes_on_by_itself(
    house: House, second: Second
) -> None:
    secrets = house.furnish()
    key = (secrets.write_key, "")
    url_file = house.folder / "journal-url"
    url_file.write_text(second.url)
    url_file.chmod(0o600)
    moved = house.ask("journal", "move", "--url-file", str(url_file))
    assert moved["entries"] >= 1
    stays = house.run("keys", "status", check=False)  # the settings still name the old place
    assert stays.returncode == 1
    assert "was moved from here" in stays.stderr
    house.environ["PROFILE_VAULT_JOURNAL_URL_FILE"] = str(url_file)

    def choose(decision: str) -> tuple[int, str]:
        choice = {"purpose": "marketing", "decision": decision}
        act = {"userId": "u-1", "messageId": f"c-{decision}", "choices": [choice]}
        answer = door.http.post("/v1/consents", json=act, auth=key)
        return answer.status_code, answer.json().get("code", "")

    with house.serving() as door:
        assert door.http.post("/v1/identify", json=PERSON, auth=key).is_success
        said = house.count("SELECT count(*) FROM ledger")
        second.kill()
        assert choose("withdrawn") == (503, "journal_unavailable")
        ready = door.http.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "journal_unavailable")
        assert house.count("SELECT count(*) FROM ledger") == said
        second.start()
        assert choose("withdrawn")[0] == 200
        awaited("a ready server", lambda: door.http.get("/readyz").is_success)
        door.settled()
        assert door.http.get("/readyz").json()["rollback_protection"] == "none"  # the keyring lies beside the database
        checks = {one["check"]: one for one in house.ask("doctor", "--port", door.url.rsplit(":", 1)[1])["checks"]}
        assert (checks["journal"]["state"], checks["journal server"]["state"]) == ("ok", "ok")
        assert checks["audit head"]["state"] == "ok"
        refused = house.run("journal", "move", "--folder", str(house.data / "journal"), check=False)
        assert "stop all of its processes" in refused.stderr

    back = house.ask("journal", "move", "--folder", str(house.data / "journal"))
    assert back["entries"] > moved["entries"]
    assert second.url not in house.log.read_text()
    del house.environ["PROFILE_VAULT_JOURNAL_URL_FILE"]
    assert house.ask("audit", "verify")["ok"] is True
