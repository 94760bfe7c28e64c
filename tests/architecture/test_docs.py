"""The documentation is true: what it links to exists, and what exists is in it."""

import re
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector

from api import problems
from api.metrics import Metrics
from docs import generate
from vault import config
from vault.measures import REGISTRY
from vault.storage import session

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(path for folder in ("vault", "api", "tests") for path in (ROOT / folder).rglob("*.py"))
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
HEADINGS = ("## Context", "## Decision", "## Consequences", "## Enforced by")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_every_page_and_decision_that_code_names_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    for named in re.findall(r"docs/[a-z0-9/-]+\.(?:md|json)", text):
        assert (ROOT / named).is_file(), named
    for number in re.findall(r"\bADR (\d{4})\b", text):
        assert list((ROOT / "docs" / "adr").glob(f"{number}-*.md")), f"ADR {number}"


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    for name in config.NAMES:
        assert f"| `{name}` | `{config.PREFIX}{name.upper()}` |" in page, name
    assert set(re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)) == set(config.NAMES)


def test_every_figure_is_in_the_docs_with_its_labels() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    told = {
        name: tuple(re.findall(r"`([a-z]+)`", labels))
        for name, labels in re.findall(r"^\| `(profile_vault_[a-z_]+)` \|([^|]*)\|", page, re.MULTILINE)
    }
    collectors = [one for registry in (Metrics().registry, REGISTRY) for one in registry._collector_to_names]
    there = {
        family.name + ("_total" if family.type == "counter" else ""): tuple(one._labelnames)
        for one in collectors
        if not isinstance(one, ProcessCollector)
        for family in one.describe()
    }
    assert told == there
    assert all(f"`{name}`" in page for name in REGISTRY._names_to_collectors if name.startswith("process_"))
    guide = (ROOT / "docs" / "how-to" / "watch-a-vault.md").read_text("utf-8")
    for name in re.findall(r"profile_vault_[a-z_]+", guide):
        assert name.removesuffix("_bucket") in there, name


def test_every_limit_is_in_the_docs_as_it_is() -> None:
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    limits = (ROOT / "docs" / "reference" / "limits.md").read_text("utf-8")
    for name, (default, _, _) in config.NUMBERS.items():
        assert re.search(rf"^\| `{name}` .*\| {default} \|$", settings, re.MULTILINE), name
        if name not in {"processes", "database_connections"}:
            assert re.search(rf"`{name}`, {default:,}\b", limits), name


def test_the_generated_pages_are_those_of_this_code() -> None:
    for path, text in generate.pages().items():
        assert path.is_file(), f"run `make docs`: {name_of(path)}"
        assert path.read_text("utf-8") == text, f"run `make docs`: {name_of(path)}"


def test_every_error_code_that_is_raised_is_in_the_docs() -> None:
    page = generate.pages()[generate.REFERENCE / "errors.md"]
    assert not [code for codes in generate.exact_codes().values() for code in codes if f"`{code}`" not in page]
    assert not [code for code in (*problems.STATUSES, *problems.EXACT) if f"`{code}`" not in page and code != "error"]
    assert f"`{session.FULL}`" in page  # named by a constant


def test_every_page_is_in_the_index() -> None:
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text("utf-8")
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"index.md", "adr/0000-template.md"}
    assert not [page for page in sorted(pages) if f"({page})" not in index]
    assert "0000-template" not in index


@pytest.mark.parametrize("path", ADRS[1:], ids=name_of)
def test_a_decision_says_why_what_follows_and_what_enforces_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.match(rf"# {path.name[:4]}\. ", text)
    assert [heading for heading in HEADINGS if heading in text] == list(HEADINGS)


def test_the_readme_fits_a_screen_and_names_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 70
    assert any(line.startswith("make demo") for line in lines)
    assert any(line.startswith("make test") for line in lines)
