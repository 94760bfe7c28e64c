"""One compartment in work: its wraps, and its fields once they are asked for. A draft is whole or dirty, never half."""

from vault.errors import Unreadable
from vault.flows.people.read import StoredCompartment
from vault.keys.compartments import Compartment, Wrapped
from vault.profile.values import FieldHead, parse_fields
from vault.state.record import Mark, digest


class CompartmentDraft:
    """One compartment in work: its wraps, and its fields once they are asked for."""

    __slots__ = ("_blob", "_fields", "_mark", "dirty", "held", "opened", "version", "whole", "wrapped")

    def __init__(self, wrapped: Wrapped, stored: StoredCompartment | None, mark: Mark | None) -> None:
        self.wrapped = wrapped
        self.held = wrapped.held  # mask of the purposes that still have a wrap
        self.whole = self.held == wrapped.purposes  # no wrap was taken away: it may take new values
        self.version = stored.version if stored else 0
        self.opened: Compartment | None = None
        self.dirty = False
        self._blob = stored.blob if stored else None
        self._mark = mark
        self._fields: dict[int, tuple[FieldHead, bytes]] | None = None if stored else {}

    def __repr__(self) -> str:
        return f"CompartmentDraft({self.wrapped.purposes:#x}, {self.wrapped.generation})"

    @property
    def stored(self) -> bool:
        """True if the database has a row of fields for it."""
        return self.version > 0

    @property
    def mark(self) -> Mark | None:
        """Its mark in the state as read; None while it has no row of fields."""
        return self._mark

    @property
    def fields(self) -> dict[int, tuple[FieldHead, bytes]]:
        """Head and sealed value by object number. Raises `Unreadable` unless the state vouches for these bytes."""
        fields = self._fields
        if fields is None:
            blob, mark = self._blob, self._mark
            if blob is None or mark is None or mark.version != self.version or mark.digest != digest(blob):
                raise Unreadable
            heads, values = parse_fields(blob)
            fields = self._fields = {head[0]: (head, value) for head, value in zip(heads, values, strict=True)}
            self._blob = None
        return fields

    def rewrapped(self, wrapped: Wrapped) -> None:
        """Some of its wraps are gone."""
        self.wrapped = wrapped
        self.held = wrapped.held
        self.whole = self.held == wrapped.purposes

    def settle(self, mark: Mark) -> None:
        """Its fields as drafted are stored now."""
        self._mark, self.version, self.dirty = mark, mark.version, False

    def drop(self, field: int) -> bool:
        """Take a field out. True if it was there."""
        if self.fields.pop(field, None) is None:
            return False
        self.dirty = True
        return True
