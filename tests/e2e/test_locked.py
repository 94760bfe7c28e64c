"""The vault without its key service, as its operator meets it: real processes, and a real OpenBao behind a gate (threats H6).

The service is away, hangs, refuses the token, and comes back; nothing is restarted but the vault itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.between import HANGS, Between
from tests.e2e.house import Door, House, awaited, bearer
from tests.keyservices import ROOT_TOKEN, Services, private
from vault.cli.demo_stage import Secrets

pytestmark = pytest.mark.slow
AGREED = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}


@pytest.fixture
def gate(services: Services) -> Iterator[Between]:
    made = Between(services.bao.url).open()
    yield made
    made.close()


@pytest.fixture
def secrets(house: House, gate: Between) -> Secrets:
    """The house, moved in with a key service elsewhere."""
    house.environ |= {
        "PROFILE_VAULT_KEY_SERVICE": "transit",
        "PROFILE_VAULT_KEY_PREFIX": f"pv-{house.folder.name}",
        "PROFILE_VAULT_TRANSIT_URL": gate.url,
        "PROFILE_VAULT_TRANSIT_TOKEN_FILE": str(private(house.folder / "token", ROOT_TOKEN)),
    }
    return house.furnish()


def said(door: Door, write_key: str, number: int) -> Any:
    """A batch of the shop's, as the door answers it."""
    message = {
        "type": "identify", "userId": f"u-{number}", "messageId": f"m-{number}", "context": AGREED,
        "traits": {"email": f"u{number}@example.com"},
    }  # fmt: skip
    return door.http.post("/v1/batch", json={"batch": [message]}, auth=(write_key, ""))


def locked_everywhere(door: Door, secrets: Secrets) -> None:
    """Alive, not ready, and every path with values answers the same."""
    assert door.http.get("/livez").text == "ok"
    answers = [
        said(door, secrets.write_key, 0),
        door.http.post("/v1/consents", json={"userId": "u-1", "choices": []}, auth=(secrets.write_key, "")),
        door.http.get("/v1/destinations/email-tool/profiles", headers=bearer(secrets.tokens["email-tool"])),
        door.http.get("/v1/spaces/default/collections/users/profiles/user_id:u-1/traits", auth=("nobody", "")),
        door.http.post("/v1/subjects/find", json={"kind": "user_id", "value": "u-1"}, headers=bearer(secrets.officer)),
        door.http.get("/v1/audit/entries", headers=bearer(secrets.officer)),
        door.http.get("/.well-known/profile-vault-keys.json"),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "locked"), answer.request.url
        assert int(answer.headers["retry-after"]) >= 1
        assert "example.com" not in answer.text
        assert "127.0.0.1" not in answer.text  # where the service is, is told to operators only
    assert door.http.get("/metrics").status_code == 200


def why(door: Door) -> str:
    answer = door.http.get("/readyz")
    assert answer.status_code == 503
    assert (answer.json()["ready"], answer.json()["code"]) == (False, "locked")
    return str(answer.json()["message"])


def test_h6_the_vault_starts_locked_without_its_key_service_and_opens_by_itself(
    house: House, gate: Between, secrets: Secrets
) -> None:
    gate.close()
    failed = house.run("keys", "status", "--json", check=False)
    assert failed.returncode == 1
    assert json.loads(failed.stderr.splitlines()[-1])["code"] == "locked"
    with house.serving(ready=False) as door:
        assert "refuses the connection" in awaited("a first look", lambda: why(door))
        locked_everywhere(door, secrets)
        gate.fault = HANGS
        gate.open()
        awaited("a service that hangs", lambda: "does not answer in time" in why(door))
        locked_everywhere(door, secrets)
        private(house.folder / "token", "expired")
        gate.release()
        awaited("a token that is not taken", lambda: "does not take the token" in why(door))
        locked_everywhere(door, secrets)
        private(house.folder / "token", ROOT_TOKEN)
        awaited("an open vault", lambda: door.http.get("/readyz").is_success)
        assert said(door, secrets.write_key, 1).status_code == 200
        door.settled()  # the worker of this process came with it
        assert door.feed("email-tool", secrets.tokens["email-tool"])

        gate.close()  # an outage while it is open
        assert said(door, secrets.write_key, 2).status_code == 200
        found = door.http.post(
            "/v1/subjects/find", json={"kind": "user_id", "value": "u-1"}, headers=bearer(secrets.officer)
        ).json()["ref"]
        refused = door.http.post(f"/v1/subjects/{found}/erasure", headers=bearer(secrets.officer))
        assert (refused.status_code, refused.json()["code"]) == (503, "key_service")
        assert refused.headers["retry-after"]
        ready = door.http.get("/readyz").json()
        assert (ready["ready"], ready["key_service"]) == (True, "transit: away")
        gate.open()
        awaited("a service that is back", lambda: door.http.get("/readyz").json()["key_service"] == "transit: answers")
        erasure = door.http.post(f"/v1/subjects/{found}/erasure", headers=bearer(secrets.officer))
        assert erasure.status_code == 202
        door.request_done(secrets.officer, erasure.json()["request"])
    assert house.log.read_text().count('"start.locked"') == 3  # once for each reason, not once for each look


def test_the_worker_waits_for_its_key_service_and_a_single_run_of_it_ends_with_one(
    house: House, gate: Between, secrets: Secrets
) -> None:
    gate.close()
    once = house.run("worker", "--once", check=False)
    assert once.returncode == 1
    assert "locked" in once.stderr
    worker = house.start("worker")
    try:
        awaited("a locked worker", lambda: "start.locked" in house.log.read_text())
        assert worker.poll() is None
        gate.open()
        with house.serving("--no-worker") as door:
            assert said(door, secrets.write_key, 1).status_code == 200
            door.settled()
    finally:
        worker.terminate()
        worker.wait()


def test_another_key_service_than_the_one_that_sealed_ends_the_start_and_says_so(
    house: House, gate: Between, secrets: Secrets, tmp_path: Path
) -> None:
    house.environ["PROFILE_VAULT_KEY_PREFIX"] = "pv-another"
    told = house.run("serve", "--port", "0", check=False)
    assert told.returncode != 0
    assert "start.refused" in told.stderr
    assert "sealed by another one" in told.stderr
    assert "locked" not in told.stderr
