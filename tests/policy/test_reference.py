"""The pages about policies say what the code reads: every key, right, operator and model; and the how-to can be followed."""

import re
from pathlib import Path

import pytest

from tests.policy.folder import edited, shipped
from vault.catalogue.audiences import OPERATORS
from vault.catalogue.contracts import PLAIN_TRANSFORMS
from vault.catalogue.load import load
from vault.catalogue.toml import Problems, Section
from vault.policy.actors import Right
from vault.policy.history import compare
from vault.policy.rules import GATE_MODEL_TEXT, STAFF_MODEL_TEXT
from vault.policy.version import check, run_tests

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "policies.md").read_text("utf-8")
HOW_TO = (DOCS / "how-to" / "add-a-purpose.md").read_text("utf-8")


def section_of(heading: str) -> str:
    """The part of the page under one heading."""
    return PAGE.split(f"\n## `{heading}`", 1)[1].split("\n## ", 1)[0]


def test_every_key_that_is_read_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, set[str]] = {}
    done = Section.done

    def remember(section: Section) -> None:
        asked.setdefault(section.file.name, set()).update(section._asked)
        done(section)

    monkeypatch.setattr(Section, "done", remember)
    load(shipped())
    assert set(asked) == {name for name in shipped() if "/" not in name}
    for file, keys in asked.items():
        text = section_of(file)
        missing = {key for key in keys if not re.search(rf"[`{{, ]{key}\b", text)}
        assert not missing, f"{file}: {missing}"


def test_every_right_operator_and_transform_is_explained() -> None:
    for word in (*(right.value for right in Right), *OPERATORS, *PLAIN_TRANSFORMS):
        assert f"`{word}`" in PAGE, word


@pytest.mark.parametrize("model", [GATE_MODEL_TEXT, STAFF_MODEL_TEXT])
def test_the_accepted_models_stand_on_the_page(model: str) -> None:
    assert f"```\n{model}```" in PAGE


def test_the_how_to_can_be_followed() -> None:
    blocks = re.findall(r"```(?:toml)?\n(.*?)```", HOW_TO, re.DOTALL)
    purpose = next(block for block in blocks if block.startswith("[reviews]"))
    rule = next(block for block in blocks if block.startswith("p, d:review-tool"))
    examples = next(block for block in blocks if block.startswith('["review-tool'))

    files = edited(
        "identities.toml",
        'purposes = ["service", "support", "marketing", "advertising"]',
        'purposes = ["service", "support", "marketing", "advertising", "reviews"]',
    )
    files["purposes.toml"] += purpose
    files["notices/reviews/1.en.md"] = "We would like to ask you.\n"
    files["destinations.toml"] += CONTRACT
    files["gate/rules.csv"] += rule
    files["tests/reviews.toml"] = examples
    problems = Problems()
    compare(files, [shipped()], problems)
    assert problems.lines == []
    assert [result.fault for result in run_tests(check(files))] == [None] * len(run_tests(check(files)))
    assert "reviews" in load(files).categories


CONTRACT = """
[review-tool]
number = 5
recipient = "Example Reviews ApS"
role = "processor"
country = "DK"
contact = "privacy@reviews.example"
agreement = "Data processing agreement of 2026-12-01"
purposes = ["reviews"]
delivery = "pull"
rate = 60
acknowledges = "cursor"

[review-tool.identifiers]
email = { which = "last", transforms = ["reveal"] }
"""
