"""Commands against a vault of the test alone, on the run's PostgreSQL."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vault.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
Call = Callable[..., Result]


@pytest.fixture
def environ(database_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings of a vault of this test alone."""
    return {
        "PROFILE_VAULT_DATABASE_URL": database_url,
        "PROFILE_VAULT_KEYRING": str(tmp_path / "keyring"),
        "PROFILE_VAULT_KEY_FILE": str(tmp_path / "root.key"),
        "PROFILE_VAULT_JOURNAL": str(tmp_path / "journal"),
        "PROFILE_VAULT_POLICIES": str(ROOT / "policies"),
    }


@pytest.fixture
def call(environ: dict[str, str]) -> Call:
    """Runs one command to its end."""

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner(env=environ).invoke(main, arguments, input=stdin)

    return run
