"""The page of attacks names every threat of its kind, and tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "attacks.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_every_threat_to_stored_data_has_a_line() -> None:
    lines = re.findall(r"^\| ([AF][0-9]+) \|", PAGE, re.MULTILINE)
    assert lines == [f"A{number}" for number in range(1, 23)] + [f"F{number}" for number in (1, 2, 3, 4, 5, 7, 8, 9)]
    assert all(NAMED.search(line) or "owner: the" in line for line in PAGE.splitlines() if line.startswith("| A"))


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 40
    for path, name in named:
        source = (ROOT / path).read_text("utf-8")
        assert re.search(rf"^(?:async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_every_way_of_tampering_that_is_named_is_played() -> None:
    played = (ROOT / "tests" / "flows" / "test_tampering.py").read_text("utf-8")
    for words in re.findall(r"(?:the same|the first|nobody_else_is`) \(([^)]*)\)", PAGE):
        for name in re.findall(r"`([a-z_]+)`", words):
            assert re.search(rf"^    (?:[a-z_]+, )*{name},", played, re.MULTILINE), name
