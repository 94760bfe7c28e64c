"""Claims about the schema of a feed line: it speaks of the same operations, reasons and ids as the page and the code."""

import json
import re
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

from vault.destinations.pseudonym import person_key, pseudonym
from vault.destinations.webhook import EVENT_TYPE
from vault.disclosures.held import Reason

FORMATS = Path(__file__).parents[3] / "docs" / "formats"
SCHEMA: dict[str, Any] = json.loads((FORMATS / "feed.schema.json").read_text())
PAGE = (FORMATS / "feed.md").read_text()


def operations(of: dict[str, Any]) -> set[str]:
    told = of["properties"].get("op")
    return set(told.get("enum", [told.get("const")])) if isinstance(told, dict) else set()


def test_every_operation_of_the_page_has_its_line_in_the_schema() -> None:
    named = set().union(*(operations(one) for name, one in SCHEMA["$defs"].items() if "properties" in one))
    assert named == set(re.findall(r'\{"op":"(\w+)"', PAGE))
    assert [one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]] == [
        name for name, one in SCHEMA["$defs"].items() if "properties" in one
    ]


def test_the_reasons_of_a_removal_are_those_of_the_code_and_of_the_page() -> None:
    assert SCHEMA["$defs"]["remove"]["properties"]["reason"]["enum"] == list(get_args(Reason))
    assert all(f"`{reason}`" in PAGE for reason in get_args(Reason))


def test_our_pseudonyms_are_ids_of_the_schema() -> None:
    assert re.fullmatch(SCHEMA["$defs"]["id"]["pattern"], pseudonym(person_key(bytes(32), 1), UUID(int=7)))


def test_the_page_names_the_type_of_a_delivery() -> None:
    assert f'"type": "{EVENT_TYPE}"' in PAGE
