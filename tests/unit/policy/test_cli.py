"""`profile-vault policy`: check and test tell what is wrong, with exit code 1, and need no database."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.policy.folder import edited, shipped
from vault.cli.main import main


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["policy", *words])


def test_a_good_folder_is_counted(tmp_path: Path) -> None:
    done = run("check", str(write(tmp_path, shipped())), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["purposes"], said["destinations"], len(said["digest"])) == (8, 4, 64)
    assert "hold together" in run("check", str(tmp_path)).stdout


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    files = edited("purposes.toml", "gpc = true", "gcp = true")
    done = run("check", str(write(tmp_path, files)))
    assert done.exit_code == 1
    assert "purposes.toml:" in done.stderr
    assert "did you mean `gpc`?" in done.stderr
    told = run("check", str(tmp_path), "--json")
    assert (told.exit_code, told.stdout) == (1, "")
    assert json.loads(told.stderr)["code"] == "policy"


def test_examples_that_hold_end_with_0(tmp_path: Path) -> None:
    done = run("test", str(write(tmp_path, shipped())))
    assert done.exit_code == 0
    assert "examples hold" in done.stdout


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_an_example_that_fails_ends_with_1_and_its_claim(tmp_path: Path, flag: list[str]) -> None:
    files = edited("gate/rules.csv", "p, d:support-desk, event:*, support, reveal, allow\n", "")
    done = run("test", str(write(tmp_path, files)), *flag)
    assert done.exit_code == 1
    assert "support-desk sees" in " ".join(done.stdout.split())
    assert "tests/destinations.toml:99" in done.stdout


def test_apply_says_what_is_wrong_before_it_opens_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.cli.policy.with_vault", lambda _: pytest.fail("opened"))
    done = run("apply", str(write(tmp_path, edited("purposes.toml", "gpc = true", "gcp = true"))))
    assert done.exit_code == 1
    assert "gcp" in done.stderr
