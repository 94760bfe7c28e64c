"""Strict reading of the policies' TOML: every key is asked for by name and type, and what nobody asked for is a problem.

Problems are collected, not raised one by one: `file:line: what; remedy`. They name keys and values of the policies
folder only, which holds no personal data. `tomllib` gives no lines, so a small finder reads them from the text.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar, cast

from vault.clock import DAY, HOUR, SECOND, Micros

# A calendar year is 365.25 days and a month a twelfth of it: a duration is one number, the same for everyone.
YEAR: Final = 365 * DAY + DAY // 4
MONTH: Final = YEAR // 12
DURATION: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,3})Y)?(?:([0-9]{1,3})M)?(?:([0-9]{1,3})W)?(?:([0-9]{1,5})D)?(?:T(?:([0-9]{1,4})H)?(?:([0-9]{1,4})M)?)?",
    re.ASCII,
)
_UNITS: Final = (YEAR, MONTH, 7 * DAY, DAY, HOUR, 60 * SECOND)

_KEY_PART: Final = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""", re.ASCII)
_HEADER: Final = re.compile(r"\s*\[\[?(.*?)\]\]?\s*(?:#.*)?$")
_PLACE: Final = re.compile(r"\s*\(at line ([0-9]+), column ([0-9]+)\)|\s*\(at end of document\)")

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}", re.ASCII)  # safe in CSV, in a rule and in a path

Path = tuple[str, ...]
Choice = TypeVar("Choice", bound=str)


class Problems:
    """What is wrong so far, in the order of discovery."""

    def __init__(self) -> None:
        """Nothing is wrong yet."""
        self.lines: list[str] = []
        self.unreadable = False  # some file is not TOML, so what others say of it cannot be judged

    def add(self, file: str, line: int, what: str, remedy: str) -> None:
        """One problem and what to do about it."""
        text = f"{file}:{line}: {what}; {remedy}"
        if text not in self.lines:
            self.lines.append(text)

    def __bool__(self) -> bool:
        return bool(self.lines)


class TomlFile:
    """One parsed file and the lines of its keys. A file that does not parse is one problem and reads as empty."""

    def __init__(self, name: str, text: str, problems: Problems) -> None:
        """`name` is the path within the policies folder."""
        self.name = name
        self.problems = problems
        self._lines: dict[Path, int] = {}
        for path, number in _key_lines(text):
            for length in range(len(path), 0, -1):  # a table without a header of its own is where its first part is
                self._lines.setdefault(path[:length], number)
        self.table: dict[str, Any] = {}
        try:
            self.table = tomllib.loads(text, parse_float=Decimal)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            place = _PLACE.search(str(error))
            what, line = _told(error, place), _line_of(place, text)
            problems.add(name, line, what, "correct it there, or just before; see https://toml.io")
            problems.unreadable = True

    def line(self, path: Path) -> int:
        """The line of a key; of the table or inline value that holds it, when it has none of its own."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 1

    def tables(self, at: Path = ()) -> Iterator["Section"]:
        """The tables directly under `at`, each as a section. Anything else there is a problem."""
        inside: Any = self.table
        for part in at:
            inside = inside.get(part, {}) if isinstance(inside, dict) else {}
        if not isinstance(inside, dict):
            self.problems.add(self.name, self.line(at), f"`{at[-1]}` must be a table", f"write [{at[-1]}.NAME]")
            return
        for key, value in inside.items():
            if isinstance(value, dict):
                yield Section(self, (*at, key), value)
            else:
                what = f"`{key}` must be a table"
                self.problems.add(self.name, self.line((*at, key)), what, f"write [{'.'.join((*at, key))}]")


class Section:
    """One table. Each getter answers the value, or a harmless default after noting the problem; `done` notes unknown keys."""

    def __init__(self, file: TomlFile, path: Path, table: Mapping[str, Any]) -> None:
        """`path` leads to the table; its last part is the name."""
        self.file = file
        self.path = path
        self.name = path[-1]
        self.table = table
        self._asked: set[str] = set()

    def problem(self, key: str | None, what: str, remedy: str) -> None:
        """Something is wrong with a key, or with the table as a whole (None)."""
        path = self.path if key is None else (*self.path, key)
        where = f"[{'.'.join(self.path)}] " if key is None else f"[{'.'.join(self.path)}] `{key}` "
        self.file.problems.add(self.file.name, self.file.line(path), where + what, remedy)

    def has(self, key: str) -> bool:
        """Is the key there?"""
        self._asked.add(key)
        return key in self.table

    def raw(self, key: str) -> Any:
        """The value as TOML has it, None when absent; the caller checks it."""
        self._asked.add(key)
        return self.table.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty; required unless there is a default."""
        value = self._get(key, str, "a text", default)
        if value is not None and not value.strip():
            self.problem(key, "is empty", "write a text")
        return value or ""

    def optional(self, key: str) -> str | None:
        """A text, or None when absent."""
        return self.text(key) if self.has(key) else None

    def check_name(self) -> None:
        """Note a table whose name cannot stand in a rule, a path and a JSON key alike."""
        if NAME.fullmatch(self.name) is None:
            self.problem(None, "has an unfit name", "use a letter, then at most 62 letters, digits, `_` and `-`")

    def number(self, low: int, high: int, taken: dict[int, str]) -> int:
        """The number of this thing; `taken` maps those already given to their names."""
        number = self.integer("number", low, high)
        if number in taken and "number" in self.table:
            self.problem("number", f"is {number}, which is `{taken[number]}`", "give it a number of its own")
        taken.setdefault(number, self.name)
        return number

    def flag(self, key: str, *, required: bool = False) -> bool:
        """True or false; false when absent."""
        return bool(self._get(key, bool, "true or false", default=None if required else False))

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(key, int, f"a whole number from {low} to {high}", default)
        if value is not None and not low <= value <= high:
            self.problem(key, f"is {value}", f"write a whole number from {low} to {high}")
            return low
        return low if value is None else value

    def choice(self, key: str, options: Iterable[Choice], default: Choice | None = None) -> Choice:
        """One of some words."""
        known = sorted(options)
        value = self._get(key, str, f"one of {', '.join(known)}", default)
        if value is not None and value not in known:
            self.problem(key, f"is `{value}`", _instead(value, known))
            value = None
        return cast("Choice", (known[0] if known else "") if value is None else value)

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """A list of texts without repeats; empty when absent."""
        value = self._get(key, list, "a list of texts", None if required else [])
        if value is None:
            return ()
        if not all(isinstance(item, str) for item in value):
            self.problem(key, "must be a list of texts", f'write {key} = ["…"]')
            return ()
        if len(set(value)) != len(value):
            self.problem(key, "names something twice", "write each once")
        if required and not value:
            self.problem(key, "is empty", "name at least one")
        return tuple(value)

    def chosen(self, key: str, options: Iterable[Choice], *, required: bool = False) -> tuple[Choice, ...]:
        """A list of some of the known words."""
        known = sorted(options)
        values = self.texts(key, required=required)
        for value in values:
            if value not in known:
                self.problem(key, f"names `{value}`, which is not known", _instead(value, known))
        return cast("tuple[Choice, ...]", tuple(value for value in values if value in known))

    def duration(self, key: str) -> Micros | None:
        """An ISO 8601 duration such as P3Y or PT30M in microseconds; None when absent."""
        if not self.has(key):
            return None
        text = self.text(key)
        match = DURATION.fullmatch(text)
        amount = 0 if match is None else sum(int(n) * unit for n, unit in zip(match.groups(), _UNITS, strict=True) if n)
        if amount == 0 or text.endswith("T"):
            self.problem(key, f"is `{text}`", "write an ISO 8601 duration such as P3Y, P90D or PT30M")
        return Micros(amount)

    def inside(self, key: str) -> Iterator["Section"]:
        """The tables in the table `key`."""
        self._asked.add(key)
        return self.file.tables((*self.path, key))

    def done(self) -> None:
        """Note every key that nobody asked for."""
        for key in self.table:
            if key not in self._asked:
                self.problem(key, "is not known here", _instead(key, sorted(self._asked)))

    def _get(self, key: str, kind: type[Any], wanted: str, default: Any) -> Any:
        self._asked.add(key)
        if key not in self.table:
            if default is None:
                self.problem(key, "is missing", f"write {wanted}")
            return default
        value = self.table[key]
        if type(value) is not kind:  # exact: in Python true is an int
            self.problem(key, "has the wrong type", f"write {wanted}")
            return default
        return value


def _told(error: Exception, place: re.Match[str] | None) -> str:
    """What the parser says of its syntax: it names characters and keys, as the rest of this page does."""
    if isinstance(error, RecursionError):
        return "this is not TOML: it nests too deep"
    reason = str(error)[: place.start()] if place else str(error)
    column = f" at column {place[2]}" if place and place[2] else ""
    return f"this is not TOML{column}: {reason[:1].lower()}{reason[1:]}".replace("\n", " ")


def _line_of(place: re.Match[str] | None, text: str) -> int:
    if place is None:
        return 1
    return int(place[1]) if place[1] else max(1, len(text.splitlines()))


def _instead(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known are {', '.join(known)}" if known else "remove it"


def _key_lines(text: str) -> Iterator[tuple[Path, int]]:
    """Every key and table header with its line, numbered from 1. Text over several lines may add harmless extra keys."""
    table: Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            table = _key_path(header[1])
            yield table, number
            continue
        if "=" in line:
            path = _key_path(line)
            if path:
                yield (*table, *path), number


def _key_path(text: str) -> Path:
    """The parts of a dotted key at the start of `text`."""
    parts: list[str] = []
    position = 0
    while True:
        match = _KEY_PART.match(text, position)
        if match is None:
            return tuple(parts)
        parts.append(next(group for group in match.groups() if group is not None))
        position = match.end()
        if position >= len(text) or text[position] != ".":
            return tuple(parts)
        position += 1
