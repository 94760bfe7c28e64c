"""The JSON Schemas and the readers agree: each accepts what the other does, as far as one file can tell."""

import datetime as dt
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.policy.folder import FOLDER, shipped
from vault.catalogue.asking import AskedFile, AskedSection
from vault.catalogue.load import read_folder
from vault.errors import PolicyError
from vault.policy import version
from vault.policy.begin import STARTER, schema_files
from vault.policy.schemas import SUFFIX, schemas

SCHEMAS = schemas()
KEY = re.compile(r"^([A-Za-z][A-Za-z0-9_]*) = (.+)$")


def schema_of(path: str) -> str:
    return "tests" if path.startswith("tests/") else path.removesuffix(".toml")


def plain(value: Any) -> Any:
    """TOML's values as an editor's validator sees them."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def valid(path: str, text: str) -> bool:
    return Draft7Validator(SCHEMAS[schema_of(path)]).is_valid(plain(tomllib.loads(text)))


def accepted(files: dict[str, str]) -> bool:
    """As `policy check` and `policy test` read them."""
    try:
        version.run_tests(version.check(files))
    except PolicyError:
        return False
    return True


def faults() -> Iterator[tuple[str, str, str]]:
    """For each key that the shop uses in a file: the file, a name for the fault, and the text with it."""
    for path, text in shipped().items():
        seen: set[str] = set()
        lines, header = text.splitlines(), ""
        for number, line in enumerate(lines):
            header = line if line.startswith("[") else header
            found = KEY.match(line)
            named = header.endswith(
                (".properties]", ".traits]", ".identifiers]", ".accounts]")
            )  # its keys are names, not words
            if found is None or (key := header if named else found[1]) in seen:
                continue
            seen.add(key)
            if named:
                yield path, f"{key} {found[1]}", "\n".join([*lines[:number], f"{found[1]} = 1", *lines[number + 1 :]])
                continue
            for fault, changed in (
                ("wrong type", f"{found[1]} = {{ zz = 1 }}"),
                ("unknown key", f"{line}\nzz_{found[1]} = {found[2]}"),
            ):
                yield path, f"{found[1]}: {fault}", "\n".join([*lines[:number], changed, *lines[number + 1 :]])


FAULTS = [fault for fault in faults() if fault[0].endswith(".toml")]


@pytest.mark.parametrize("folder", [FOLDER, STARTER], ids=["shop", "starter"])
def test_what_policy_check_accepts_is_valid(folder: Any) -> None:
    files = read_folder(folder)
    assert accepted(files)
    assert [path for path, text in files.items() if path.endswith(".toml") and not valid(path, text)] == []


@pytest.mark.parametrize(("path", "fault", "text"), FAULTS, ids=[f"{path} {fault}" for path, fault, _ in FAULTS])
def test_unknown_keys_and_wrong_types_are_refused_by_both(path: str, fault: str, text: str) -> None:
    assert not valid(path, text)
    assert not accepted({**shipped(), path: text})


def test_every_table_is_closed_or_holds_tables_that_are() -> None:
    def objects(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for one in schema.values():
                yield from objects(one)
        elif isinstance(schema, list):
            for one in schema:
                yield from objects(one)

    for name, schema in SCHEMAS.items():
        Draft7Validator.check_schema(schema)
        for one in objects(schema):
            closed = one["additionalProperties"]
            assert closed is False or isinstance(closed, dict), name
            assert ("properties" in one) is (closed is False), name


@pytest.mark.parametrize(
    ("path", "text", "holds"),
    [
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ trait="t", at_least=1.5 }', True),
        ("audiences.toml", '[a]\nnumber=1\ntitle=""\npurpose="p"\ncondition={ trait="t", less=1 }', False),
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ any=[{ none=[{ trait="t", less=1 }] }] }', True),
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ trait="t", exists=false }', False),
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ all=[] }', False),
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ trait="t", at_least=1, less=2 }', False),
        ("audiences.toml", '[a]\nnumber=1\ntitle="x"\npurpose="p"\ncondition={ trait="t", at_least="1" }', False),
        ("events.toml", '[track."*"]\nnumber=1\npurposes=["a"]', False),
        ("events.toml", '[page."*"]\nnumber=1\npurposes=["a"]', True),
        ("events.toml", "[identify.x]\nnumber=1", False),
        ("traits.toml", '["a b"]\nnumber=1\ntype="text"\ncategory="user"\npurposes=["a"]', False),
        ("traits.toml", '[a]\nnumber=16384\ntype="text"\ncategory="user"\npurposes=["a"]', False),
        ("tests/x.toml", '["a"]\ndestination="a"\ncategory="user"\nnever="reveal"', False),
        ("tests/x.toml", '["a"]\ndestination="a"\ncategory="user"\nnever=["round:2"]', True),
        ("tests/x.toml", '["claims nothing"]\ndestination="a"', False),
    ],
)  # fmt: skip
def test_what_is_described_by_hand_is_described_rightly(path: str, text: str, holds: bool) -> None:
    assert valid(path, text) is holds


def test_every_file_of_the_folder_has_a_schema_and_names_it_in_its_first_line() -> None:
    for folder in (FOLDER, STARTER):
        for path, text in read_folder(folder).items():
            if path.endswith(".toml"):
                up = "../" if "/" in path else "./"
                assert text.split("\n", 1)[0] == f"#:schema {up}.schemas/{schema_of(path)}{SUFFIX}", path


def test_the_shipped_schemas_are_those_of_this_code() -> None:
    on_disk = {path.name: path.read_text("utf-8") for path in (FOLDER / ".schemas").iterdir()}
    assert on_disk == schema_files(), "run `make docs`"


def test_a_key_that_a_reader_takes_raw_must_be_described() -> None:
    section = AskedSection(AskedFile("any.toml"), ("any",))
    section.raw("new_key")
    with pytest.raises(KeyError, match="new_key"):
        section.schema({})
    assert section.schema({"new_key": {"type": "string"}})["properties"] == {"new_key": {"type": "string"}}
