"""The rules that `keys access` prints: what a process needs of its key service, and nothing beside."""

import json
import re
from pathlib import Path

import pytest

from vault.catalogue.load import load, read_folder
from vault.crypto.services.rules import rules_for
from vault.errors import ConfigError
from vault.key_settings import ServiceSettings
from vault.keys.roles import DESK, DUE, EVERYTHING, FEED, INGEST, REQUESTS, ProcessRole

ROOT = Path(__file__).resolve().parents[3]
PURPOSES = {one.name: one.number for one in load(read_folder(ROOT / "policies")).purposes.values()}
TRANSIT = ServiceSettings(kind="transit", prefix="pv")
AWS = ServiceSettings(kind="awskms", prefix="pv", kms_region="eu-central-1")
MARKETING = ProcessRole((FEED,), (), ("marketing",))
WRITER = ProcessRole((INGEST,), (DUE,))
OFFICE = ProcessRole((DESK,), (REQUESTS,))


def rules(service: ServiceSettings, role: ProcessRole) -> str:
    return rules_for(service, *role.locks(role.numbers(PURPOSES)), prepares=role.whole)


def paths(text: str, what: str) -> set[str]:
    return set(re.findall(rf'path "transit/{what}/pv-([a-z0-9*-]+)"', text))


def test_a_feed_may_decrypt_the_locks_of_its_role_and_encrypt_nothing() -> None:
    text = rules(TRANSIT, MARKETING)
    assert paths(text, "decrypt") == {"purpose-6", "state", "index", "pseudonym", "cursor", "journal", "rows"}
    assert paths(text, "encrypt") == paths(text, "keys") == set()
    assert text == "\n".join(re.findall(r"```hcl\n(.*?)```", page(), re.DOTALL)).strip().replace(
        "profile-vault-", "pv-"
    )


def page() -> str:
    return (ROOT / "docs/how-to/choose-a-key-service.md").read_text("utf-8")


def test_a_writer_may_encrypt_for_rights_and_not_decrypt_and_the_desk_makes_keys_of_requests() -> None:
    writer, desk = rules(TRANSIT, WRITER), rules(TRANSIT, OFFICE)
    assert paths(writer, "encrypt") == {"rights"}
    assert "rights" not in paths(writer, "decrypt")
    assert paths(desk, "encrypt") == {"case", "archive"}
    assert "rights" in paths(desk, "decrypt")


def test_only_who_prepares_may_make_keys_of_the_service() -> None:
    for role in (MARKETING, WRITER, OFFICE):
        assert '"create"' not in rules(TRANSIT, role)
        actions = [one for part in json.loads(rules(AWS, role))["Statement"] for one in part["Action"]]
        assert set(actions) <= {"kms:Decrypt", "kms:Encrypt", "kms:DescribeKey"}
    assert '"create"' in rules(TRANSIT, EVERYTHING)
    whole = [one for part in json.loads(rules(AWS, EVERYTHING))["Statement"] for one in part["Action"]]
    assert {"kms:ListAliases", "kms:CreateKey", "kms:ScheduleKeyDeletion"} <= set(whole)


def test_the_same_rules_for_aws_go_by_the_tags_of_the_keys() -> None:
    statements = {one["Sid"]: one for one in json.loads(rules(AWS, MARKETING))["Statement"]}
    assert set(statements) == {"Open", "Know"}
    locks = statements["Open"]["Condition"]["StringEquals"]["aws:ResourceTag/profile-vault-lock"]
    assert locks == ["cursor", "index", "journal", "pseudonym", "purpose-6", "rows", "state"]
    assert all("aws:ResourceTag/profile-vault" in one["Condition"]["StringEquals"] for one in statements.values())


@pytest.mark.parametrize("kind", ["local", "pkcs11"])
def test_a_service_without_such_rules_says_what_to_do_instead(kind: str) -> None:
    with pytest.raises(ConfigError):
        rules(ServiceSettings(kind=kind), MARKETING)
