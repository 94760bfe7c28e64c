"""One compartment in work: its wraps, and its fields once they are asked for.

What is stored stays the bytes that it is; only what changed is kept beside it, and spliced in when it is written.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from vault.errors import Unreadable
from vault.flows.people.read import StoredCompartment
from vault.keys.compartments import Compartment, Wrapped
from vault.profile.values import EMPTY, Directory, Entry, FieldHead, scan_fields, splice
from vault.state.record import Mark, digest

# Writes of one compartment's fields; then a new generation begins, under a new data key. Each write seals what it changed, some 256
# values at most, and AES-GCM with random nonces takes 2**32 under one key (threats A10, ADR 0107).
MOST_WRITES: Final = 2**24


class CompartmentDraft:
    """One compartment in work: its wraps, and its fields once they are asked for."""

    __slots__ = (
        "_blob",
        "_changes",
        "_places",
        "_stored",
        "held",
        "mark",
        "opened",
        "version",
        "whole",
        "wrapped",
    )

    def __init__(self, wrapped: Wrapped, stored: StoredCompartment | None, mark: Mark | None) -> None:
        self.wrapped = wrapped
        self.held = wrapped.held  # mask of the purposes that still have a wrap
        self.version = stored.version if stored else 0
        self.whole = self._takes()  # no wrap was taken away, and its key is not used up: it may take new values
        self.mark = mark  # in the state as read; None while it has no row of fields
        self.opened: Compartment | None = None
        self._blob = stored.blob if stored else EMPTY
        self._stored: Directory | None = None  # of `_blob`, once it was looked into
        self._places: Mapping[int, int] = {}  # field -> its place there
        self._changes: dict[int, Entry | None] | None = None  # None for a field that was taken out

    def __repr__(self) -> str:
        return f"CompartmentDraft({self.wrapped.purposes:#x}, {self.wrapped.generation})"

    def _takes(self) -> bool:
        return self.held == self.wrapped.purposes and self.version < MOST_WRITES

    @property
    def stored(self) -> bool:
        """True if the database has a row of fields for it."""
        return self.version > 0

    @property
    def dirty(self) -> bool:
        """True if its fields are not as they are stored."""
        return self._changes is not None

    @property
    def size(self) -> int:
        """Bytes of its fields as they are stored."""
        return len(self._blob if self._stored is None else self._stored.blob)

    def _look(self) -> Directory:
        """What is stored, looked into for the first time. Raises `Unreadable` unless the state vouches for these bytes."""
        blob = self._blob
        if self.version:
            mark = self.mark
            if mark is None or mark.version != self.version or mark.digest != digest(blob):
                raise Unreadable
        stored = self._stored = scan_fields(blob)
        self._blob = EMPTY  # it is in there
        self._places = stored.form.places
        return stored

    def __contains__(self, field: int) -> bool:
        if self._changes is not None and field in self._changes:
            return self._changes[field] is not None
        if self._stored is None:
            self._look()
        return field in self._places

    def __iter__(self) -> Iterator[int]:
        """The numbers of its fields."""
        if self._stored is None:
            self._look()
        changes = self._changes or {}
        yield from (field for field in self._places if field not in changes)
        yield from (field for field, entry in changes.items() if entry is not None)

    def head(self, field: int) -> FieldHead | None:
        """The head of a field; None where it has none of it."""
        if self._changes is not None and field in self._changes:
            entry = self._changes[field]
            return None if entry is None else entry[0]
        stored = self._stored or self._look()
        place = self._places.get(field)
        return None if place is None else stored.head(place)

    def entry(self, field: int) -> Entry | None:
        """The head and the sealed value of a field; None where it has none of it."""
        if self._changes is not None and field in self._changes:
            return self._changes[field]
        stored = self._stored or self._look()
        place = self._places.get(field)
        return None if place is None else stored.entry(place)

    def put(self, field: int, entry: Entry) -> None:
        """Set a field."""
        if self._stored is None:
            self._look()
        if self._changes is None:
            self._changes = {}
        self._changes[field] = entry

    def drop(self, field: int) -> bool:
        """Take a field out. True if it was there."""
        if field not in self:
            return False
        if self._changes is None:
            self._changes = {}
        self._changes[field] = None
        return True

    def rewrapped(self, wrapped: Wrapped) -> None:
        """Some of its wraps are gone."""
        self.wrapped = wrapped
        self.held = wrapped.held
        self.whole = self._takes()

    def packed(self) -> Directory:
        """Its fields as drafted, as they are to be stored."""
        stored = self._stored or self._look()
        return splice(stored, self._changes) if self._changes else stored

    def settle(self, mark: Mark, stored: Directory) -> None:
        """Its fields as drafted are stored now."""
        self.mark, self.version = mark, mark.version
        self.whole = self._takes()
        self._stored, self._places, self._changes = stored, stored.form.places, None
