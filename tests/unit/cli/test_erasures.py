"""Claims about checking a certificate where there is no vault."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vault.cli.main import main

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "certificate.json").read_text())


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps({"document": VECTOR["document"], "signature": VECTOR["signature"]}))
    return file


@pytest.mark.parametrize("url", ["", "postgresql://nobody@127.0.0.1:1/none"])
def test_without_a_vault_it_asks_for_the_saved_keys(certificate: Path, tmp_path: Path, url: str) -> None:
    env = {"PROFILE_VAULT_DATABASE_URL": url, "PROFILE_VAULT_DATA_DIR": str(tmp_path / "none")}
    told = CliRunner(env=env).invoke(main, ["erasures", "verify", str(certificate)])
    assert told.exit_code == 1
    assert "give --keys: the saved /.well-known/profile-vault-keys.json" in told.stderr
    assert "cannot start" not in told.stderr


def test_with_the_saved_keys_it_needs_no_vault(certificate: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    line = {"use": "certificate", "key_id": VECTOR["signature"]["key_id"], "public": VECTOR["public"]}
    keys.write_text(json.dumps({"keys": [line]}))
    env = {"PROFILE_VAULT_DATABASE_URL": "", "PROFILE_VAULT_DATA_DIR": str(tmp_path / "none")}
    told = CliRunner(env=env).invoke(main, ["erasures", "verify", str(certificate), "--keys", str(keys), "--json"])
    assert (told.exit_code, json.loads(told.stdout)["signature"]) == (0, "holds")
