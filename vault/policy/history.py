"""What a new policy version may not change about all earlier ones: numbers, legal bases, shown texts, stored meanings.

Stored bytes and masks name things by number, so a number once given keeps its name for good, even after the thing is
gone. Reads files as text, without the catalogue's other rules: an old version must stay readable by a stricter release.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from vault.catalogue.toml import Problems, TomlFile

_PLAIN: Final = {
    "purposes.toml": "purpose",
    "traits.toml": "trait",
    "identities.toml": "identifier kind",
    "computed.toml": "computed trait",
    "audiences.toml": "audience",
    "destinations.toml": "destination",
}
_EVENTS: Final = "events.toml"
_GROUP: Final = "group"
_ACCOUNT_TRAIT: Final = "account trait"  # those of all group calls are numbered together
_DEFINITION: Final = ("kind", "event", "property", "currency_property", "currency")

Path = tuple[str, ...]


class _Thing(NamedTuple):
    """Something with a number: where it stands, and what its number is unique among."""

    file: str
    path: Path
    scope: str  # `trait`, `event`, `property of track:Order Completed`, `account trait`
    number: int
    table: Mapping[str, Any]

    @property
    def name(self) -> str:
        if self.scope == _ACCOUNT_TRAIT:
            return self.path[-1]
        return ":".join(part for part in self.path if part != "properties")


def compare(files: Mapping[str, str], earlier: Iterable[Mapping[str, str]], problems: Problems) -> None:
    """Note what `files` changes that no version may. `earlier` holds the files of every version, the latest first."""
    new = list(_things(files))
    names = {(thing.scope, thing.name): thing for thing in new}
    numbers = {(thing.scope, thing.number): thing for thing in new}
    lines = {name: TomlFile(name, files.get(name, ""), Problems()) for name in (*_PLAIN, _EVENTS)}

    def note(thing: _Thing, key: str, what: str, remedy: str) -> None:
        line = lines[thing.file].line((*thing.path, key))
        problems.add(thing.file, line, f"{thing.scope} `{thing.path[-1]}` {what}", remedy)

    for index, version in enumerate(earlier):
        for old in _things(version):
            same = names.get((old.scope, old.name))
            if same is not None and same.number != old.number:
                note(same, "number", f"had the number {old.number}", "put it back: stored bytes name it so")
            other = numbers.get((old.scope, old.number))
            if other is not None and other.name != old.name:
                note(
                    other, "number", f"has the number that `{old.path[-1]}` had", "take a new one: none is given twice"
                )
            if same is not None and index == 0:
                for key, what, remedy in _changes(old, same):
                    note(same, key, what, remedy)
        _compare_notices(files, version, problems)


def given(versions: Iterable[Mapping[str, str]]) -> dict[str, set[int]]:
    """Every number that some version gave, by what it is unique among: `trait`, `property of TYPE:EVENT`, `account trait`."""
    taken: dict[str, set[int]] = {}
    for files in versions:
        for thing in _things(files):
            taken.setdefault(thing.scope, set()).add(thing.number)
    return taken


def _changes(old: _Thing, new: _Thing) -> Iterator[tuple[str, str, str]]:
    """Key, what and remedy for each forbidden change of meaning under the same name."""
    if new.scope == "purpose" and new.table.get("legal_basis") != old.table.get("legal_basis"):
        yield "legal_basis", "has another legal basis now", "declare a new purpose: choices were made about the old one"
    if new.scope == "identifier kind" and _of(new, "normal_form", "exact") != _of(old, "normal_form", "exact"):
        yield "normal_form", "has another normal form now", "declare a new kind: stored tags are made from the old form"
    if new.scope == "computed trait":
        before, now = _of(old, "version", 0), _of(new, "version", 0)
        if now < before:
            yield "version", f"went back from version {before}", "raise it"
        changed = any(_of(new, key, None) != _of(old, key, None) for key in _DEFINITION)
        if changed and now == before:
            yield "version", "has another definition under the same version", "raise it"


def _compare_notices(files: Mapping[str, str], version: Mapping[str, str], problems: Problems) -> None:
    for name, text in version.items():
        if name.startswith("notices/"):
            if name not in files:
                problems.add(name, 1, "the notice is gone", "put it back: people have agreed to it")
            elif files[name] != text:
                problems.add(name, 1, "the notice has changed", "put the text back and add the next version beside it")


def _of(thing: _Thing, key: str, default: Any) -> Any:
    return thing.table.get(key, default)


def _things(files: Mapping[str, str]) -> Iterator[_Thing]:
    for file, scope in _PLAIN.items():
        for name, table in _tables(_parsed(files, file)):
            yield from _thing(file, (name,), scope, table)
    for kind, group in _tables(_parsed(files, _EVENTS)):
        for name, table in _tables(group):
            yield from _thing(_EVENTS, (kind, name), "event", table)
            for one, inner in _tables(table.get("properties")):
                scope = _ACCOUNT_TRAIT if kind == _GROUP else f"property of {kind}:{name}"
                yield from _thing(_EVENTS, (kind, name, "properties", one), scope, inner)


def _thing(file: str, path: Path, scope: str, table: Mapping[str, Any]) -> Iterator[_Thing]:
    number = table.get("number")
    if type(number) is int:
        yield _Thing(file, path, scope, number, table)


def _tables(inside: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(inside, dict):
        yield from ((name, table) for name, table in inside.items() if isinstance(table, dict))


def _parsed(files: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(files.get(name, ""))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}  # a file of the new version that does not parse is a problem already
