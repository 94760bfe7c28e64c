"""Readers of the policies run on nothing, to learn what they would ask for: each key with its type, limits and words.

So the schemas that editors use cannot say anything else than the readers do. `AskedSection` stands in for a table: its
getters note what is asked and answer the harmless defaults that a faulty table would give.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from vault.catalogue.toml import DURATION, NAME, Choice, Path, Problems, Section, TomlFile
from vault.clock import Micros

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string", "pattern": r"\S"}


class AskedFile(TomlFile):
    """A file in which every table that is looked for is there once, under the names in `roots` or any."""

    def __init__(self, name: str, roots: Iterable[str] = ("any",)) -> None:
        """`roots` are the names of the tables on top."""
        super().__init__(name, "", Problems())
        self._roots = tuple(roots)
        self.asked: dict[Path, AskedSection] = {}

    def tables(self, at: Path = ()) -> Iterator[Section]:
        """One table under `at`; on top one for each root."""
        for name in self._roots if not at else ("any",):
            path = (*at, name)
            if path not in self.asked:
                self.asked[path] = AskedSection(self, path)
            yield self.asked[path]


class AskedSection(Section):
    """A table that has every key, and notes what it is asked for."""

    def __init__(self, file: AskedFile, path: Path) -> None:
        """Nothing was asked yet."""
        super().__init__(file, path, {})
        self._file = file
        self._keys: dict[str, Schema] = {}
        self._required: set[str] = set()
        self._perhaps: set[str] = set()
        self._inside: set[str] = set()
        self.named = False  # its name was checked

    def schema(self, by_hand: Mapping[str, Schema]) -> Schema:
        """What it was asked for. `by_hand`: keys that are read raw. Raises KeyError for one of these that is not given."""
        keys = {key: by_hand[key] if key in by_hand else one or by_hand[key] for key, one in self._keys.items()}
        for key in self._inside:
            inner = self._file.asked[(*self.path, key, "any")]
            keys[key] = tables_of(inner.schema(by_hand), NAME.pattern if inner.named else None)
        required = [key for key in keys if key in self._required]
        return {
            "type": "object",
            "properties": keys,
            "additionalProperties": False,
            **({"required": required} if required else {}),
        }

    def problem(self, key: str | None, what: str, remedy: str) -> None:
        """An empty table has many; none is of interest."""

    def has(self, key: str) -> bool:
        """Whatever a reader looks for is there; but it may be absent."""
        if key not in self._required:
            self._perhaps.add(key)
        self._keys.setdefault(key, {})
        return True

    def raw(self, key: str) -> Any:
        """None, as of an absent key."""
        self._keys.setdefault(key, {})

    def text(self, key: str, default: str | None = None) -> str:
        """As asked: a text."""
        self._note(key, TEXT, required=default is None)
        return default or ""

    def check_name(self) -> None:
        """Its name has the common form."""
        self.named = True

    def number(self, low: int, high: int, taken: dict[int, str]) -> int:
        """As asked: the number of a thing."""
        del taken
        return self.integer("number", low, high)

    def flag(self, key: str, *, required: bool = False) -> bool:
        """As asked: true or false."""
        self._note(key, {"type": "boolean"}, required=required)
        return False

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """As asked: a whole number."""
        self._note(key, {"type": "integer", "minimum": low, "maximum": high}, required=default is None)
        return low if default is None else default

    def choice(self, key: str, options: Iterable[Choice], default: Choice | None = None) -> Choice:
        """As asked: a word."""
        self._note(key, _word(options), required=default is None)
        return cast("Choice", default or "")

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        """As asked: a list of texts."""
        self._list(key, {"type": "string"}, required=required)
        return ()

    def chosen(self, key: str, options: Iterable[Choice], *, required: bool = False) -> tuple[Choice, ...]:
        """As asked: a list of words."""
        self._list(key, _word(options), required=required)
        return ()

    def duration(self, key: str) -> Micros | None:
        """As asked: an ISO 8601 duration."""
        self._note(key, {"type": "string", "pattern": f"^(?:{DURATION.pattern})$"}, required=False)
        return None

    def inside(self, key: str) -> Iterator[Section]:
        """As asked: tables in a table."""
        self._inside.add(key)
        return super().inside(key)

    def done(self) -> None:
        """What nobody asked for is not known: `additionalProperties` says so."""

    def _list(self, key: str, items: Schema, *, required: bool) -> None:
        least = {"minItems": 1} if required else {}
        self._note(key, {"type": "array", "items": items, "uniqueItems": True, **least}, required=required)

    def _note(self, key: str, schema: Schema, *, required: bool) -> None:
        if required and key not in self._perhaps:
            self._required.add(key)
        self._keys[key] = schema


def tables_of(schema: Schema, name: str | None) -> Schema:
    """A table of tables, each of this schema, under names of this pattern."""
    names = {"propertyNames": {"pattern": f"^(?:{name})$"}} if name is not None else {}
    return {"type": "object", **names, "additionalProperties": schema}


def _word(options: Iterable[str]) -> Schema:
    """One of the words; where the folder itself declares them, any text: only `policy check` knows which."""
    known = sorted(options)
    return {"enum": known} if known else TEXT
