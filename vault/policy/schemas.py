"""JSON Schemas of all TOML files of a policies folder, for editors. Made by asking the readers themselves.

Promises: what `policy check` accepts is valid; an unknown key or a wrong type is refused by both. A schema knows one file
at a time: that a name is declared elsewhere, or a number is free, only `policy check` can say. What a reader takes raw is
described here by hand, beside the constants that the reader uses; a new raw key fails until it is described.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args

from vault.catalogue import audiences, contracts, fields, people, purposes
from vault.catalogue.asking import AskedFile, AskedSection, Schema, tables_of
from vault.catalogue.computed import CURRENCY, read_computed
from vault.catalogue.contracts import COUNTED, COUNTRY, DEFAULT_SHA256, PLAIN_TRANSFORMS
from vault.catalogue.fields import EVENT_NAME, EventType
from vault.catalogue.identifiers import PLACE, read_identifiers
from vault.catalogue.load import Catalogue
from vault.catalogue.taxonomy import DPV
from vault.catalogue.toml import NAME
from vault.policy.examples import KINDS, World

DIALECT: Final = "http://json-schema.org/draft-07/schema#"  # what the editors' TOML extensions read
FOLDER: Final = ".schemas"  # within a policies folder; hidden files are no policy
SUFFIX: Final = ".schema.json"

_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean"]}
_NUMBER: Final[Schema] = {"type": "number"}
_TEXT: Final[Schema] = {"type": "string"}


def _whole(pattern: re.Pattern[str]) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern.pattern})$"}


_FORMS: Final[Schema] = {"anyOf": [{"enum": sorted({*PLAIN_TRANSFORMS, DEFAULT_SHA256, "sha256"})}, _whole(COUNTED)]}
_FORM_LIST: Final[Schema] = {"type": "array", "items": _FORMS, "minItems": 1, "uniqueItems": True}
# Keys that a reader takes raw, or whose text has a form of its own.
_BY_HAND: Final[dict[str, Mapping[str, Schema]]] = {
    "purposes": {
        "dpv": _whole(DPV),
        "tcf": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": purposes.MAX_TCF}},
    },
    "traits": {},
    "events": {},
    "identities": {
        "take_from": {"type": "array", "items": _whole(PLACE), "minItems": 1, "uniqueItems": True},
    },
    "computed": {"currency": _whole(CURRENCY)},
    "audiences": {"condition": {"$ref": "#/definitions/condition"}},
    "destinations": {
        "country": _whole(COUNTRY),
        "ends": {"type": "string", "format": "date"},
        "traits": {"type": "object", "additionalProperties": _FORM_LIST},
        "accounts": {"type": "object", "additionalProperties": _FORM_LIST},
        "transforms": _FORM_LIST,
    },
    "staff": {},
    "tests": {"never": {"anyOf": [{"const": "*"}, _FORM_LIST]}, "gives": {"anyOf": [{"const": "nothing"}, _FORMS]}},
}
_TITLES: Final = {
    "purposes": "Why data is used",
    "traits": "The fields of a profile",
    "events": "The calls of the tracking API that may be stored",
    "identities": "What finds a person",
    "computed": "Traits computed from events",
    "audiences": "Sets of profiles",
    "destinations": "Recipients and their contracts",
    "staff": "Roles of the people who work here",
    "tests": "Examples that must hold",
}
_READERS: Final[dict[str, Callable[[AskedFile], Any]]] = {
    "purposes": lambda file: purposes.read_purposes(file, ()),
    "traits": lambda file: fields.read_traits(file, {}),
    "events": lambda file: fields.read_events(file, {}),
    "identities": lambda file: read_identifiers(file, {}),
    "computed": lambda file: read_computed(file, {}, {}),
    "audiences": lambda file: audiences.read_audiences(file, {}, {}),
    "destinations": lambda file: contracts.read_contracts(file, {}, {}, {}, {}, {}),
    "staff": lambda file: people.read_roles(file, {}),
}


def schemas() -> dict[str, Schema]:
    """Every schema by the name of its file without `.toml`; `tests` is that of all files in `tests/`."""
    made = {name: _of_file(name) for name in _READERS}
    made["tests"] = _framed("tests", tables_of({"oneOf": [_of_kind(key) for key in KINDS]}, None))
    return made


def _of_file(name: str) -> Schema:
    file = AskedFile(f"{name}.toml", get_args(EventType) if name == "events" else ("any",))
    _READERS[name](file)
    by_hand = _BY_HAND[name]
    if name == "events":
        return _framed(name, _events(file, by_hand))
    body = tables_of(file.asked["any",].schema(by_hand), NAME.pattern)
    return _framed(name, body, {"condition": _condition()} if name == "audiences" else {})


def _events(file: AskedFile, by_hand: Mapping[str, Schema]) -> Schema:
    """Four tables of events; a star stands for every name where names are free text."""
    calls = {}
    for kind in get_args(EventType):
        name = EVENT_NAME.pattern if kind == "track" else rf"\*|{EVENT_NAME.pattern}"
        calls[kind] = tables_of(file.asked[kind, "any"].schema(by_hand), name)
    return {"type": "object", "properties": calls, "additionalProperties": False}


def _of_kind(key: str) -> Schema:
    """One kind of example, told by its key."""
    section = AskedSection(AskedFile("tests/any.toml"), ("any",))
    KINDS[key](section, cast("World", _Nothing()))
    schema = section.schema(_BY_HAND["tests"])
    return {**schema, "required": sorted({*schema.get("required", []), key})}


def _framed(name: str, body: Schema, definitions: Schema | None = None) -> Schema:
    head = {"$schema": DIALECT, "title": f"{name}.toml" if name != "tests" else "tests/*.toml"}
    more = {"definitions": definitions} if definitions else {}
    return {**head, "description": f"{_TITLES[name]}. See docs/reference/policies.md.", **body, **more}


def _condition() -> Schema:
    """A test of one trait, or a group of conditions."""
    parts = {"type": "array", "items": {"$ref": "#/definitions/condition"}, "minItems": 1}
    groups = [_exactly({word: parts}) for word in ("all", "any", "none")]
    tests = [_exactly({"trait": _TEXT, operator: _operand(operator)}) for operator in sorted(audiences.OPERATORS)]
    return {"anyOf": [*groups, *tests]}


def _operand(operator: str) -> Schema:
    if operator == "one_of":
        return {"type": "array", "items": _SCALAR, "minItems": 1}
    if operator == "exists":
        return {"const": True}
    if operator in audiences.NUMBER_OPS:
        return _NUMBER
    return _TEXT if operator in audiences.TEXT_OPS | audiences.TIME_OPS else _SCALAR


def _exactly(keys: Schema) -> Schema:
    return {"type": "object", "properties": keys, "required": sorted(keys), "additionalProperties": False}


class _Nothing:
    """A catalogue, a gate and a staff gate in which there is nothing."""

    def __init__(self) -> None:
        self.catalogue = _NoCatalogue()
        self.gate = self.staff = None


class _NoCatalogue:
    def __getattr__(self, name: str) -> Mapping[Any, Any]:
        if name not in Catalogue.__struct_fields__:
            raise AttributeError(name)
        return {}
