"""What runs for real: every service has its own class, its own secrets and nothing more, as compose.yaml and Dockerfile say.

No container engine is needed to hold this; tests/e2e/test_separate_processes.py runs the same commands as processes.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from api.app import build
from tests.composed import HOME, Service, compose, image_environment, mounts, option, parts_of_command
from vault.cli.roles import role_of
from vault.config import load
from vault.keys.names import epochs
from vault.keys.roles import ProcessRole

ROOT = Path(__file__).resolve().parents[2]
FILE = compose()
SERVICES: dict[str, Service] = FILE["services"]
STAYING = ("ingest", "feed", "feed-analytics", "desk", "worker")
ENDING = ("secrets", "init", "operator")
PURPOSES = {name: number for number, name in enumerate(
    ("service", "support", "accounting", "fraud_prevention", "analytics", "personalisation", "marketing", "advertising")
)}  # fmt: skip
RIGHTS = epochs(63)


def role(command: list[str]) -> ProcessRole:
    found = role_of(option(command, "--doors"), option(command, "--purposes"), duties=option(command, "--duties"))
    assert found is not None, "a service that does everything"
    return found


def handed_out() -> dict[str, ProcessRole]:
    """Volume of a key folder -> the role that `init` hands it out for."""
    target = {path: name for path, (name, _) in mounts(SERVICES["init"]).items()}
    lines = [shlex.split(line) for line in SERVICES["init"]["command"][0].splitlines()]
    commands = [line for line in lines if line[1:3] == ["keys", "hand-out"]]
    return {target[f"{HOME}/hand-out/{line[3]}"]: role(line) for line in commands}


def test_every_service_is_known_to_these_tests() -> None:
    assert set(SERVICES) == {*STAYING, *ENDING, "database"}


@pytest.mark.parametrize("name", STAYING)
def test_a_service_mounts_the_secrets_of_its_own_role_and_no_others(name: str) -> None:
    command = SERVICES[name]["command"]
    mounted = mounts(SERVICES[name])
    volume, writable = mounted[f"{HOME}/keys"]
    assert not writable
    assert [one for one, _ in mounted.values() if one.startswith("keys-")] == [volume]
    assert "secrets" not in {one for one, _ in mounted.values()}  # the root key
    assert SERVICES[name]["environment"]["PROFILE_VAULT_KEY_FILE"] == f"{HOME}/keys"
    assert role(command) == handed_out()[volume]
    assert [other for other in STAYING if volume in dict(mounts(SERVICES[other]).values())] == [name]


def test_the_desk_alone_opens_the_key_rights_and_no_release_door_opens_another_purpose() -> None:
    for name in STAYING:
        found = role(SERVICES[name]["command"])
        opened, sealed = found.locks(found.numbers(PURPOSES))
        assert (RIGHTS in opened) == (name == "desk")
        assert (RIGHTS in sealed) == (name == "ingest")
        if found.releases:
            assert {one for one in opened if one.startswith("purpose-")} == {
                epochs(PURPOSES[purpose]) for purpose in found.purposes
            }


@pytest.mark.parametrize("name", STAYING)
def test_a_service_is_confined_watched_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 0
    assert "user" not in service  # the image's own, which is not root
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert "http://127.0.0.1:8000/readyz" in service["healthcheck"]["test"][-1]  # inside: /readyz is for loopback only
    assert service["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not service.get("privileged")
    assert "network_mode" not in service


def test_what_releases_values_cannot_write_keys_or_the_journal() -> None:
    for name in STAYING:
        written = {path for path, (_, writable) in mounts(SERVICES[name]).items() if writable}
        wanted = {"ingest": {"keyring", "journal"}, "desk": {"keyring", "journal"}, "worker": {"journal"}}
        assert written == {f"{HOME}/{one}" for one in wanted.get(name, ())}


def test_no_password_stands_anywhere_and_the_root_key_is_with_what_ends() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    assert not re.search(r"(?i)password\w*:\s*['\"]?[a-z0-9]", re.sub(r"POSTGRES_PASSWORD_FILE: /\S+", "", text))
    assert not re.search(r"://[^\s:%]+:(?!%s@)[^\s@/]+@", text)
    assert "POSTGRES_HOST_AUTH_METHOD" not in text
    holders = {name for name, one in SERVICES.items() if "secrets" in dict(mounts(one).values())}
    assert holders == set(ENDING)
    assert all(SERVICES[name]["restart"] == "no" for name in ENDING)
    assert SERVICES["operator"]["profiles"] == ["operator"]


def test_the_database_is_18_with_its_data_where_that_image_wants_it() -> None:
    database = SERVICES["database"]
    assert database["image"] == "postgres:18"
    assert mounts(database)["/var/lib/postgresql"] == ("database", True)
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/vault-access/database-password"
    assert "ports" not in database
    # while the image makes the database, its server answers on the socket only: a check by address waits for the real one
    assert database["healthcheck"]["test"] == [
        "CMD-SHELL",
        "pg_isready --host 127.0.0.1 --username vault --dbname vault",
    ]


def logins_made() -> dict[str, frozenset[str]]:
    """Volume of a database URL -> the parts of the login that `secrets` makes for it."""
    target = {path: name for path, (name, _) in mounts(SERVICES["secrets"]).items()}
    lines = [shlex.split(line) for line in SERVICES["secrets"]["command"][0].splitlines()]
    return {
        target[f"{HOME}/logins/{line[1]}"]: parts_of_command(line)
        for line in lines
        if len(line) == 4 and line[0] == "login"
    }


REMOTE: dict[str, Service] = yaml.safe_load((ROOT / "compose" / "transit.yaml").read_text("utf-8"))["services"]


@pytest.mark.parametrize("name", [*STAYING, "init", "operator"])
def test_with_transit_each_service_has_a_token_of_its_own_with_the_rules_of_its_own_role(name: str) -> None:
    ((path, (token, writable)),) = mounts(REMOTE[name]).items()
    assert (path, writable) == ("/run/profile-vault", False)
    whose = token.removeprefix("./tokens/")
    assert whose == (name if name in STAYING else "prepare")
    merged = image_environment() | SERVICES[name]["environment"] | REMOTE[name]["environment"]
    merged |= {"PROFILE_VAULT_DATABASE_URL": "postgresql://nobody", "PROFILE_VAULT_TRANSIT_URL": "https://bao.example"}
    del merged["PROFILE_VAULT_DATABASE_URL_FILE"]
    settings = load(ROOT, merged)
    assert (settings.service.kind, settings.service.transit_token_file) == ("transit", Path(f"{path}/token"))
    page = (ROOT / "docs" / "how-to" / "run-with-compose.md").read_text("utf-8")
    (line,) = re.findall(rf"^profile-vault keys access ?(.*) \| bao policy write vault-{whose} -$", page, re.MULTILINE)
    options = shlex.split(line)
    found = role_of(option(options, "--doors"), option(options, "--purposes"), duties=option(options, "--duties"))
    assert found == (role(SERVICES[name]["command"]) if name in STAYING else None)  # None: who prepares


def test_with_transit_nothing_else_of_a_service_changes_and_no_key_is_handed_out() -> None:
    assert set(REMOTE) == {*STAYING, "init", "operator"}
    for name, one in REMOTE.items():
        assert set(one) == {"environment", "volumes", *(["command"] if name == "init" else [])}
    assert REMOTE["init"]["command"] == ["profile-vault keys init"]


@pytest.mark.parametrize("name", STAYING)
def test_a_service_connects_by_a_login_of_its_own_doors_and_duties_and_sees_no_other_password(name: str) -> None:
    mounted = mounts(SERVICES[name])
    volume, writable = mounted[f"{HOME}/access"]
    assert not writable
    assert logins_made()[volume] == parts_of_command(SERVICES[name]["command"])
    assert [one for one, _ in mounted.values() if one.startswith(("access", "roles"))] == [volume]


def test_the_passwords_and_the_owner_of_the_database_are_with_what_ends_and_the_database() -> None:
    holders = {name for name, one in SERVICES.items() if "access" in dict(mounts(one).values())}
    assert holders == {*ENDING, "database"}
    assert mounts(SERVICES["database"])["/run/vault-roles"] == ("roles", False)


def test_the_role_of_the_vault_is_made_without_being_a_superuser() -> None:
    database = SERVICES["database"]
    assert database["environment"]["POSTGRES_USER"] == "postgres"
    assert "POSTGRES_DB" not in database["environment"]
    assert mounts(database)["/docker-entrypoint-initdb.d/10-owner.sh"] == ("./compose/10-owner.sh", False)


def test_every_volume_is_declared_and_every_folder_of_it_is_in_the_image_with_its_owner() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    made = re.findall(r"install -d -o vault -g vault -m 07[05]{2} (.*?)(?:&&|\nCOPY)", dockerfile, re.DOTALL)
    folders = {f"/var/lib/{one}" for text in made for one in text.replace("\\", " ").split()}
    named: set[str] = set()
    for name in (*STAYING, *ENDING):
        for path, (volume, _) in mounts(SERVICES[name]).items():
            if volume.startswith("./"):
                continue
            named.add(volume)
            assert path in folders, f"{path} of {name}: its volume would belong to root"
    assert named | {"database"} == set(FILE["volumes"])


def test_the_image_runs_as_nobody_in_particular_from_pinned_requirements_and_names_no_index() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    installs = re.findall(r"pip\b[^&]*\binstall\b[^&]*", "\n".join(lines))
    assert installs
    assert all("--require-hashes" in one or "--no-deps dist/" in one for one in installs)
    assert not re.search(r"https?://(?!127\.0\.0\.1)|index-url|trusted-host", "\n".join(lines))
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert set(image_environment()) >= {"PROFILE_VAULT_KEYRING", "PROFILE_VAULT_JOURNAL", "PROFILE_VAULT_KEY_FILE"}


def test_purposes_are_numbered_as_the_shipped_policies_number_them() -> None:
    text: Any = (ROOT / "policies" / "purposes.toml").read_text("utf-8")
    for name, number in PURPOSES.items():
        assert re.search(rf'name = "{name}"\nnumber = {number}\b|\[{name}\]\n(.*\n)*?number\s*=\s*{number}\b', text), (
            name
        )


def test_the_proxies_of_the_page_pass_on_every_path_of_the_doors_and_none_of_operators() -> None:
    nginx = (ROOT / "docs" / "how-to" / "proxy" / "nginx.conf").read_text("utf-8")
    found = re.findall(r"^    location (=|~)? ?(\S+) \{(.*?)\}(?:\s+#[^\n]*)?$", nginx, re.MULTILINE | re.DOTALL)
    passed = {
        (kind, path): upstream[1]
        for kind, path, body in found
        if (upstream := re.search(r"proxy_pass http://(\w+);", body))
    }
    caddy = re.findall(r"path_regexp (\S+)", (ROOT / "docs" / "how-to" / "proxy" / "Caddyfile").read_text("utf-8"))
    upstreams = {"ingest": "vault_ingest", "feed": "vault_feed", "desk": "vault_desk"}
    for door, upstream in upstreams.items():
        for route in build(doors=[door]).routes:
            path = re.sub(r"\{[^}]+\}", "x", route.path)
            reached = {name for (kind, pattern), name in passed.items() if _matches(kind, pattern, path)}
            by_caddy = [pattern for pattern in caddy if re.search(pattern, path)]
            if path.startswith(("/livez", "/readyz", "/metrics", "/schema")):
                assert not reached | set(by_caddy), path
            else:
                assert upstream in reached, path
                assert by_caddy or path == "/.well-known/profile-vault-keys.json", path


def _matches(kind: str, pattern: str, path: str) -> bool:
    if kind == "~":
        return re.search(pattern, path) is not None
    return path == pattern if kind == "=" else path.startswith(pattern)
