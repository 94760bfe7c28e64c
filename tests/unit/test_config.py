"""Settings: where they come from, which one wins, and that a mistake stops the start without being repeated."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from vault.config import Limits, Settings, load
from vault.errors import ConfigError
from vault.key_settings import ServiceSettings

SECRET = "hunter2"
URL = f"postgresql://vault:{SECRET}@db.example/vault"


def settings(folder: Path, toml: str = "", **environ: str) -> Settings:
    if toml:
        (folder / "profile-vault.toml").write_text(toml)
    return load(folder, {f"PROFILE_VAULT_{name}": value for name, value in environ.items()})


def test_without_settings_the_vault_is_embedded_and_everything_lies_in_the_data_folder(tmp_path: Path) -> None:
    found = settings(tmp_path, DATA_DIR="data")
    assert found.embedded
    assert found.data_dir == tmp_path / "data"
    assert (found.keyring, found.journal) == (tmp_path / "data/keyring", tmp_path / "data/journal")
    assert found.policies is None  # none is set, none lies here
    assert found.webhook_networks == ()
    assert found.beside


def test_the_key_file_lies_outside_the_data_folder(tmp_path: Path) -> None:
    found = settings(tmp_path, DATA_DIR="data")
    assert not found.key_file.is_relative_to(found.data_dir)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    found = settings(tmp_path, 'data_dir = "one"\njournal = "j"\n', DATA_DIR="two")
    assert found.data_dir == tmp_path / "two"
    assert found.journal == tmp_path / "j"


def test_a_path_in_the_file_is_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/vault.toml").write_text('data_dir = "../data"\n')
    assert settings(tmp_path, CONFIG="etc/vault.toml").data_dir == tmp_path / "data"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        settings(tmp_path, CONFIG="absent.toml")


@pytest.mark.parametrize(
    "toml", ['journel = "x"', "journal = 3", "journal = [", 'webhook_networks = ["10.0.0.0/8", 3]']
)
def test_an_unknown_or_misshapen_setting_is_an_error(tmp_path: Path, toml: str) -> None:
    with pytest.raises(ConfigError):
        settings(tmp_path, toml)


def test_a_misspelt_variable_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PROFILE_VAULT_JOURNEL"):
        settings(tmp_path, JOURNEL="/safe")


@pytest.mark.parametrize("missing", ["KEYRING", "JOURNAL"])
def test_with_a_database_url_keyring_and_journal_must_be_set(tmp_path: Path, missing: str) -> None:
    given = {"DATABASE_URL": URL, "KEYRING": "/k", "JOURNAL": "/j"}
    del given[missing]
    with pytest.raises(ConfigError, match="keyring and journal") as refused:
        settings(tmp_path, **given)
    assert SECRET not in str(refused.value)


def test_h15_the_database_url_is_never_shown(tmp_path: Path) -> None:
    found = settings(tmp_path, DATABASE_URL=URL, KEYRING="/k", JOURNAL="/j")
    assert found.database_url == URL
    assert not found.embedded
    assert not found.beside
    assert SECRET not in repr(found) + str(found) + f"{[found]}"
    with pytest.raises(ConfigError) as refused:
        settings(tmp_path, DATABASE_URL=f"mysql://{SECRET}", KEYRING="/k", JOURNAL="/j")
    assert SECRET not in str(refused.value)


def test_the_database_url_may_come_from_a_file_but_not_from_two_places(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL + "\n")
    assert settings(tmp_path, DATABASE_URL_FILE="url", KEYRING="/k", JOURNAL="/j").database_url == URL
    with pytest.raises(ConfigError):
        settings(tmp_path, DATABASE_URL_FILE="url", DATABASE_URL=URL, KEYRING="/k", JOURNAL="/j")
    with pytest.raises(ConfigError):
        settings(tmp_path, DATABASE_URL_FILE="absent", KEYRING="/k", JOURNAL="/j")


def test_the_journal_may_be_a_database_by_its_url_or_by_a_file_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL + "\n")
    for given in ({"JOURNAL": URL}, {"JOURNAL_URL_FILE": "url"}):
        found = settings(tmp_path, DATABASE_URL=URL, KEYRING="/k", **given)
        assert (found.journal, found.journal_url, found.journal_place) == (None, URL, URL)
        assert not found.beside
        with pytest.raises(ConfigError, match="in a folder only"):
            found.journal_folder  # noqa: B018 (it raises)
    found = settings(tmp_path, f'journal = "{URL}"\n')
    assert found.journal_place == URL
    assert found.beside  # the keyring is
    found = settings(tmp_path, "journal = 'j'\n")
    assert found.journal_place == found.journal_folder == tmp_path / "j"


def test_h15_the_journals_url_is_never_shown_and_none_but_postgresql_is_taken(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    assert SECRET not in repr(settings(tmp_path, JOURNAL=URL))
    for given in (
        {"JOURNAL": f"mysql://vault:{SECRET}@x/y"},
        {"JOURNAL": URL, "JOURNAL_URL_FILE": "url"},
        {"JOURNAL_URL_FILE": "absent"},
        {"JOURNAL_URL_FILE": "."},
    ):
        with pytest.raises(ConfigError) as refused:
            settings(tmp_path, **given)
        assert SECRET not in str(refused.value)


def test_policies_are_those_that_are_named_else_those_that_lie_here(tmp_path: Path) -> None:
    assert settings(tmp_path, POLICIES="absent").policies == tmp_path / "absent"
    (tmp_path / "policies").mkdir()
    assert settings(tmp_path).policies == tmp_path / "policies"


def test_webhook_networks_are_networks(tmp_path: Path) -> None:
    wanted = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert settings(tmp_path, WEBHOOK_NETWORKS="10.1.0.0/16, fd00::/8").webhook_networks == wanted
    assert settings(tmp_path, 'webhook_networks = ["10.1.0.0/16", "fd00::/8"]').webhook_networks == wanted
    with pytest.raises(ConfigError):
        settings(tmp_path, WEBHOOK_NETWORKS="10.1.0.1/16")  # a host where a network is meant


def test_limits_are_whole_numbers_within_bounds(tmp_path: Path) -> None:
    assert settings(tmp_path).limits == Limits()
    found = settings(tmp_path, "source_rate = 50\nprocesses = 2\n", SOURCE_RATE="70")
    assert (found.limits.source_rate, found.limits.processes) == (70, 2)
    for name, value in (
        ("SOURCE_RATE", "0"),
        ("PROCESSES", "many"),
        ("STAFF_RATE", "-1"),
        ("LOOKUP_RATE", "٣"),
        ("DESK_AT_ONCE", "9" * 30),
    ):
        with pytest.raises(ConfigError, match=name.lower()):
            settings(tmp_path, **{name: value})
    for toml in ('source_rate = "50"', "source_rate = 1.5", "source_rate = true"):
        with pytest.raises(ConfigError, match="source_rate"):
            settings(tmp_path, toml)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://vault.example.com", "https://vault.example.com"),
        ("https://vault.example.com/", "https://vault.example.com"),
        ("http://10.0.0.9:8443/in/vault/", "http://10.0.0.9:8443/in/vault"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("", None),
    ],
)
def test_where_browsers_reach_the_vault_is_an_address_without_a_slash_at_its_end(
    tmp_path: Path, given: str, found: str | None
) -> None:
    assert settings(tmp_path, PUBLIC_URL=given).public_url == found
    assert settings(tmp_path, f'public_url = "{given}"\n').public_url == found


@pytest.mark.parametrize(
    "given",
    [
        "vault.example.com",
        "ftp://vault.example.com",
        f"https://user:{SECRET}@vault.example.com",
        f"https://vault.example.com/?key={SECRET}",
        "https://vault.example.com/#a",
        "https://vault.example.com//a",
        "https://evil .example",
        "https://vault.example.com\\@evil.example",
        "https://",
    ],
)
def test_g17_an_address_that_could_be_read_in_two_ways_is_an_error(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match="public_url") as refused:
        settings(tmp_path, PUBLIC_URL=given)
    assert SECRET not in str(refused.value)


TRANSIT = {"KEY_SERVICE": "transit", "TRANSIT_URL": "https://keys.example.com:8200/", "TRANSIT_TOKEN_FILE": "token"}


def test_a_key_service_has_settings_of_its_own(tmp_path: Path) -> None:
    assert settings(tmp_path).service == ServiceSettings()
    found = settings(tmp_path, **TRANSIT, KEY_PREFIX="shop-1").service
    assert (found.kind, found.prefix, found.transit_url) == ("transit", "shop-1", "https://keys.example.com:8200")
    assert found.transit_token_file == tmp_path / "token"
    toml = 'key_service = "awskms"\nkms_region = "eu-central-1"\nkms_deletion_days = 30\n'
    assert settings(tmp_path, toml).service.kms_deletion_days == 30
    toml = 'key_service = "pkcs11"\npkcs11_module = "m.so"\npkcs11_token = "t"\npkcs11_pin_file = "pin"\n'
    assert settings(tmp_path, toml).service.pkcs11_pin_file == tmp_path / "pin"


@pytest.mark.parametrize(
    "given",
    [
        {"KEY_SERVICE": "vault"},
        {"KEY_SERVICE": "transit"},  # and nothing that it needs
        {"TRANSIT_URL": "https://keys.example.com"},  # and no word of what for: it would be sealed by a file
        {**TRANSIT, "KMS_REGION": "eu-central-1"},
        {**TRANSIT, "KEY_PREFIX": "a/b"},
        {**TRANSIT, "TRANSIT_MOUNT": "../sys"},
        {"KEY_SERVICE": "awskms", "KMS_REGION": "eu/west"},
        {"KEY_SERVICE": "awskms", "KMS_REGION": "eu-central-1", "KMS_DELETION_DAYS": "6"},
        {"KEY_PREFIX": "shop"},
    ],
)
def test_a_key_service_that_is_half_named_stops_the_start(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        settings(tmp_path, **given)


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.com", "http://10.0.0.7:8200", "https://user:pass@keys.example.com", "https://keys.example.com/v1",
        "https://keys.example.com?x=1", "https://keys.example.com#x", "https://169.254.169.254", "https://[fe80::1]",
        "https://0.0.0.0", "https://2130706433", "https://0177.0.0.1", "https://127.1", "https://0x7f000001", "ftp://keys.example.com",
        "http://127.0.0.1.example.com", "https://", "keys.example.com", "https://224.0.0.1", "http://localhost.example.com:80",
    ],
)  # fmt: skip
def test_h1_the_address_of_a_key_service_has_tls_and_one_reading(tmp_path: Path, url: str) -> None:
    for given in (
        {**TRANSIT, "TRANSIT_URL": url},
        {"KEY_SERVICE": "awskms", "KMS_REGION": "eu-1", "KMS_ENDPOINT": url},
    ):
        with pytest.raises(ConfigError) as told:
            settings(tmp_path, **given)
        assert "169.254" not in str(told.value)
        assert "user:pass" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:1", "https://10.0.0.7:8200", "https://kms"]
)
def test_loopback_needs_no_tls_and_private_networks_are_where_key_services_are(tmp_path: Path, url: str) -> None:
    assert settings(tmp_path, **{**TRANSIT, "TRANSIT_URL": url}).service.transit_url == url


def test_h15_nothing_of_a_key_service_shows_in_a_repr(tmp_path: Path) -> None:
    found = settings(tmp_path, **TRANSIT)
    assert "keys.example.com" not in repr(found) + repr(found.service)
    assert "token" not in repr(found.service)
