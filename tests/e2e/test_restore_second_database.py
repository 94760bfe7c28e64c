"""Restore where the journal lies in a second server: as docs/how-to/journal-in-a-database.md says it (threats D6, D14)."""

import shutil
from typing import Any

import pytest

from tests.e2e.house import House
from tests.e2e.test_backup import PEOPLE, apart, archives, buy, mailed, narrow
from tests.e2e.test_second_database import Second, second  # noqa: F401 (a fixture)
from vault.storage import embedded

pytestmark = pytest.mark.slow


def accept(house: House, restored: dict[str, Any]) -> dict[str, Any]:
    """The officer gives up what the database lacks, by the command that the restore names."""
    assert (restored["open"], restored["closed"]["code"]) == (False, "audit_behind_head")
    words = restored["closed"]["hint"].split()
    sizes = [words[words.index(name) + 1] for name in ("--here", "--head")]
    accepted: dict[str, Any] = house.ask("audit", "accept-loss", "--here", sizes[0], "--head", sizes[1])
    return accepted


@pytest.mark.long
def test_d6_d14_data_goes_back_beside_a_journal_in_a_second_server_which_is_there_or_comes_from_its_archive(
    house: House,
    second: Second,  # noqa: F811
) -> None:
    apart(house)
    secrets = house.furnish()
    url_file = house.folder / "journal-url"
    url_file.write_text(second.url)
    url_file.chmod(0o600)
    house.ask("journal", "move", "--url-file", str(url_file))
    folder = house.environ.pop("PROFILE_VAULT_JOURNAL")
    house.environ["PROFILE_VAULT_JOURNAL_URL_FILE"] = str(url_file)
    target = house.folder / "backups"
    with house.serving() as door:
        buy(door, secrets, *PEOPLE)
        data = archives(house.ask("backup", str(target)))["data"]
        narrow(door, secrets)
        later = archives(house.ask("backup", str(target), "--only", "keys,journal"))

    embedded.remove(house.data)  # the database alone is lost
    accepted = accept(house, house.ask("restore", "--data", data, "--keys", later["keys"]))
    assert (accepted["replayed"]["erased"], accepted["replayed"]["lowered"]) == (1, 1)
    with house.serving() as door:
        assert mailed(door, secrets) == ["Cy"]
    last = archives(house.ask("backup", str(target), "--only", "keys,journal"))

    embedded.remove(house.data)  # and now the journal's server with it
    second.lose()
    shutil.rmtree(folder, ignore_errors=True)
    closed = house.run("restore", "--data", data, "--keys", last["keys"], check=False)
    assert closed.returncode == 1  # no journal: nobody could say who was erased
    del house.environ["PROFILE_VAULT_JOURNAL_URL_FILE"]
    house.environ["PROFILE_VAULT_JOURNAL"] = folder
    embedded.remove(house.data)
    restored = house.ask("restore", "--data", data, "--keys", last["keys"], "--journal", last["journal"])
    assert restored["journal"] == "archive"
    accepted = accept(house, restored)
    assert accepted["replayed"]["erased"] == 1
    house.ask("journal", "move", "--url-file", str(url_file))
    del house.environ["PROFILE_VAULT_JOURNAL"]
    house.environ["PROFILE_VAULT_JOURNAL_URL_FILE"] = str(url_file)
    with house.serving() as door:
        assert mailed(door, secrets) == ["Cy"]
    assert house.ask("audit", "verify")["ok"] is True
