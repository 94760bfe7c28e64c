"""The floors and walls of ADR 0003, as import-linter sees them, and that nothing stands outside the house."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_floors_and_walls_hold() -> None:
    done = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_every_room_stands_on_a_floor() -> None:
    layers = project()["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {f"vault.{path.stem}" for path in (ROOT / "vault").iterdir() if is_module(path)}
    assert rooms == {room for room in named if room.startswith("vault.")}


def is_module(path: Path) -> bool:
    if path.is_dir():
        return (path / "__init__.py").is_file()
    return path.suffix == ".py" and path.name != "__init__.py"


def test_a_planted_import_between_two_rooms_is_refused(tmp_path: Path) -> None:
    """The linter itself is tried: a small house of the same kind, with one wrong import."""
    house = tmp_path / "vault"
    for room in ("profile", "consent"):
        (house / room).mkdir(parents=True)
        (house / room / "__init__.py").write_text("")
    (house / "__init__.py").write_text("")
    (house / "profile" / "__init__.py").write_text("import vault.consent\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["vault"]\n[[tool.importlinter.contracts]]\nname = "floors"\n'
        'type = "layers"\nlayers = ["vault.profile | vault.consent"]\n'
    )
    code = "import sys; sys.path.insert(0, '.'); " + LINT
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode != 0
    assert "vault.profile -> vault.consent" in done.stdout
