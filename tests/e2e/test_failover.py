"""The database is replaced under a running vault, which goes on by itself and brings nobody back (threats C9, D14, H11, H20).

Real servers: a standby that streams, is cut off, and is promoted without the tail; and a copy of the files, put back.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.house import Door, House, awaited, bearer
from tests.e2e.standby import Pair
from tests.e2e.test_backup import ALL, PEOPLE, apart, buy, cursor_of, mailed, narrow, read_on
from vault.cli.demo_stage import Secrets
from vault.storage.cluster import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(house: House) -> Iterator[Pair]:
    """Servers that the house does not start, behind one address that its settings name."""
    made = Pair(house.folder / "pg")
    apart(house)
    house.environ["PROFILE_VAULT_KEY_FILE"] = str(house.key_file)
    house.environ["PROFILE_VAULT_DATABASE_URL"] = made.url
    try:
        yield made
    finally:
        made.close()


def withheld(door: Door, secrets: Secrets) -> str:
    """The code by which a feed, a lookup and a choice are refused, each the same; empty if one is answered."""
    email = bearer(secrets.tokens["email-tool"])
    answers = [
        door.http.get("/v1/destinations/email-tool/profiles", headers=email),
        door.http.get("/v1/spaces/default/collections/users/profiles/user_id:ada/traits", headers=email),
        door.http.post("/v1/consents", json={"userId": "cy", "choices": []}, auth=(secrets.write_key, "")),
    ]
    assert not any("Ada" in one.text or "Bob" in one.text for one in answers)
    codes = {one.json()["code"] if one.status_code == 503 else "" for one in answers}
    return codes.pop() if len(codes) == 1 else ""


def state(door: Door) -> str:
    answer = door.http.get("/readyz")
    return "ready" if answer.is_success else str(answer.json().get("code", ""))


def framed(door: Door, secrets: Secrets) -> bool:
    """Whether a read from the start is a snapshot, in one piece."""
    lines = [line["op"] for line in door.feed("email-tool", secrets.tokens["email-tool"])]
    return lines[0] == "reset" and lines[-1] == "snapshot_end"


def come(door: Door, secrets: Secrets) -> None:
    """Everybody gives an address and agrees; no worker is there to number it."""
    batch = [
        {"type": "identify", "userId": name, "messageId": f"i-{name}", "context": {"consent": {"categoryPreferences": ALL}},
         "traits": {"email": f"{name}@example.com", "firstName": name.title()}}
        for name in PEOPLE
    ]  # fmt: skip
    door.http.post("/v1/batch", json={"batch": batch}, auth=(secrets.write_key, "")).raise_for_status()


def leave(door: Door, secrets: Secrets) -> None:
    """Ada is erased, Bob withdraws; both are acknowledged, and no worker has taken up anything of it."""
    officer = bearer(secrets.officer)
    body = {"kind": "email", "value": "ada@example.com"}
    ref = door.http.post("/v1/subjects/find", json=body, headers=officer).raise_for_status().json()["ref"]
    door.http.post(f"/v1/subjects/{ref}/erasure", headers=officer).raise_for_status()
    choice = {"userId": "bob", "messageId": "c-bob", "choices": [{"purpose": "marketing", "decision": "withdrawn"}]}
    door.http.post("/v1/consents", json=choice, auth=(secrets.write_key, "")).raise_for_status()


def keys(pair: Pair, of: Cluster) -> int:
    return int(pair.ask(of, "SELECT count(*) FROM keys.subject_key"))


def test_d14_h20_a_standby_that_lost_its_tail_is_promoted_under_a_running_vault(house: House, pair: Pair) -> None:
    secrets = house.furnish()
    with house.serving("--no-worker") as door:
        come(door, secrets)
        house.run("worker", "--once")
        assert mailed(door, secrets) == ["Ada", "Bob", "Cy"]
        cursor = cursor_of(door, secrets)
        house.run("worker", "--once")  # the leaves of what was read
        standby = pair.follow()
        awaited("a standby that has everything", pair.caught_up)
        pair.cut()
        awaited("a standby that hears nothing", pair.deaf)
        leave(door, secrets)
        assert keys(pair, standby) == len(PEOPLE)  # its tail is lost
        pair.promote()
        pair.lead(standby)
        pair.kill(pair.primary)
        assert read_on(door, secrets, cursor).status_code in {410, 503}
        awaited("a vault that was opened anew", lambda: state(door) == "ready")
        assert read_on(door, secrets, cursor).status_code == 410
        ada = door.http.get(
            "/v1/spaces/default/collections/users/profiles/user_id:ada/traits",
            headers=bearer(secrets.tokens["email-tool"]),
        )
        assert ada.status_code == 404
        house.run("worker", "--once")
        assert mailed(door, secrets) == ["Cy"]
        assert framed(door, secrets)
    assert house.log.read_text().count('"database.replaced"') == 1


@pytest.mark.long
def test_h11_a_primary_that_lives_on_is_left_once_the_address_leads_elsewhere(house: House, pair: Pair) -> None:
    secrets = house.furnish()
    with house.serving("--no-worker") as door:
        come(door, secrets)
        house.run("worker", "--once")
        standby = pair.follow()
        awaited("a standby that has everything", pair.caught_up)
        pair.lead(standby)  # which is read-only: nobody connects, and what is open stays open
        assert mailed(door, secrets) == ["Ada", "Bob", "Cy"]
        awaited("a standby that has everything", pair.caught_up)
        pair.promote()  # and the old primary answers on, to whoever is connected there
        awaited("a vault that was shut", lambda: "database.replaced" in house.log.read_text())
        awaited("a vault that was opened anew", lambda: state(door) == "ready")
        before = pair.ask(pair.primary, "SELECT count(*) FROM ledger")
        leave(door, secrets)
        assert pair.ask(pair.primary, "SELECT count(*) FROM ledger") == before
        assert pair.ask(standby, "SELECT count(*) FROM ledger") > before


@pytest.mark.long
def test_a6_d14_h20_an_older_copy_of_the_files_under_a_running_vault_serves_nothing_until_its_loss_is_accepted(
    house: House, pair: Pair
) -> None:
    secrets = house.furnish()
    with house.serving() as door:
        buy(door, secrets, *PEOPLE)
        assert mailed(door, secrets) == ["Ada", "Bob", "Cy"]
        pair.copy()  # a restart of the same server, too: the vault opens anew, and nothing is lost
        awaited("a vault that was opened anew", lambda: state(door) == "ready")
        cursor = cursor_of(door, secrets)
        assert read_on(door, secrets, cursor).status_code == 200
        narrow(door, secrets)
        assert mailed(door, secrets) == ["Cy"]
        pair.kill(pair.primary)
        pair.put_back()
        awaited("a database that is known to be older", lambda: state(door) == "audit_behind_head")
        assert withheld(door, secrets) == "database_replaced"
        message = door.http.get("/readyz").json()["message"]
        house.run(*message.split("profile-vault ", 1)[1].split())
        awaited("a vault that was opened anew", lambda: state(door) == "ready")
        assert read_on(door, secrets, cursor).status_code == 410
        assert mailed(door, secrets) == ["Cy"]
        assert framed(door, secrets)
        door.settled()
        assert house.ask("audit", "verify")["ok"] is True
