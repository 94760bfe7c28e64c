"""The package that a user installs, and the two commands that a newcomer types."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_policies_templates_migrations_and_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {
        f"vault/{path.relative_to(ROOT)}"
        for path in (ROOT / "policies").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert "vault/policies/purposes.toml" in here
    assert here <= names
    for folder in ("vault", "api", "bench"):
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def planned(target: str, **variables: str) -> str:
    """What make would do, without doing it."""
    environment = {"PATH": os.environ["PATH"], **variables}
    command = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


def test_make_demo_installs_by_hash_and_runs_the_demonstration() -> None:
    plan = planned("demo")
    assert "--require-hashes -r requirements/demo.txt" in plan
    assert plan.rstrip().endswith("profile-vault demo")
    assert planned("demo", ONCE="1").rstrip().endswith("profile-vault demo --once")


def test_make_test_installs_by_hash_and_runs_pytest() -> None:
    plan = planned("test")
    assert "--require-hashes -r requirements/dev.txt" in plan
    assert "pytest" in plan


def test_ci_runs_everything_without_a_terminal() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert "make test" in text
    assert "exec </dev/null" in text
