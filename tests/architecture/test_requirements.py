"""What is installed, for Python and for the clients of tests: by hash, from the machine's own index, free of the GPL (ADR 0002)."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;\\]+)(?: ; [^\\]+)? ?\\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = (PIN.match(line) for line in path.read_text("utf-8").splitlines())
    return {canonical(match[1]): match[2] for match in found if match}


def test_there_is_a_set_for_use_for_the_demonstration_and_for_work() -> None:
    assert [path.name for path in SETS] == ["base.txt", "demo.txt", "dev.txt"]


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name)
def test_requirements_are_pins_and_hashes_and_name_no_index(path: Path) -> None:
    hashed = True
    for line in path.read_text("utf-8").splitlines():
        if line.lstrip().startswith("#") or not line:
            continue
        if HASH.match(line):
            hashed = True
            continue
        assert PIN.match(line), f"neither a pin nor a hash: {line}"
        assert hashed, "a pin without a hash"
        hashed = False
    assert hashed
    assert not re.search(
        r"https?:|file:|--index|--extra-index|--find-links|--trusted-host|-r |-e ", path.read_text("utf-8")
    )


def test_the_sets_agree_on_every_version() -> None:
    base, demo, dev = (pins(ROOT / "requirements" / name) for name in ("base.txt", "demo.txt", "dev.txt"))
    assert base.items() <= demo.items() <= dev.items()


def direct(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {canonical(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in lines}  # type: ignore[index]


def test_every_direct_dependency_is_pinned_and_has_a_line_in_the_adr() -> None:
    assert direct() <= pins(ROOT / "requirements" / "base.txt").keys()
    assert direct("demo", "build", "dev") <= pins(ROOT / "requirements" / "dev.txt").keys()
    page = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text("utf-8").lower()
    assert not [name for name in direct("demo", "build", "dev") if name not in page]


def test_nothing_that_is_installed_with_the_vault_is_under_the_gpl_or_without_a_licence() -> None:
    for name in pins(ROOT / "requirements" / "base.txt"):
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # for another platform
            continue
        licence = " ".join(
            [
                about.get("License-Expression") or "",
                (about.get("License") or "")[:300],
                *(line for line in about.get_all("Classifier") or [] if line.startswith("License")),
            ]
        ).strip()
        assert licence, f"{name} states no licence"
        assert not re.search(r"\bA?GPL|GNU (Affero )?General Public", licence), f"{name}: {licence}"


def test_the_javascript_clients_are_pinned_by_hash_name_no_registry_and_are_free_of_the_gpl() -> None:
    folder = ROOT / "tests" / "clients"
    named = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) for version in named.values())
    packages = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == named
    for path, package in packages.items():
        assert package["integrity"].startswith("sha512-"), path
        assert "resolved" not in package, path
        assert not re.search(r"\bA?GPL", package.get("license", "")), path
    page = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text("utf-8")
    assert not [name for name in named if name not in page]
