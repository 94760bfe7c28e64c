"""How a module looks: short, introduced, and named for what it holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for folder in ("vault", "api") for path in (ROOT / folder).rglob("*.py"))
MAX_LINES = 400
DRAWERS = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools", "lib"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_introduced_and_finished(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_LINES, "one thought a module: split it"
    assert ast.get_docstring(ast.parse(text)), "say what it holds, what it promises, what it must not know"
    assert not UNFINISHED.search(text)
    assert not DRAWERS & {path.stem, *path.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_an_init_holds_only_the_docstring_of_its_room(path: Path) -> None:
    assert len(ast.parse(path.read_text("utf-8")).body) == 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_prints(path: Path) -> None:
    """What the command line says goes through `vault.cli.output`; logs go through structlog."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
