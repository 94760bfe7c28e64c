"""What was found, and whether it may be there. Everything that no line here explains is residue.

The lines name a column each, with the reason for which it still knows the erased person: an id or a keyed tag, never a
value. `waiting` ones end with the request, when the last recipient has answered or its time has passed.
"""

from typing import Any, Final

import msgspec

INDEX: Final = "by index"
WHOLE: Final = "whole"

ALWAYS: Final[dict[str, str]] = {
    "public.erased.subject_id": "the record of erased ids: late writers and restores are refused by it",
    "public.dedup.event_key": "a keyed tag of source and message id, kept 400 days so that a repeat has no second effect",
    "journal": "the entry outside the database by which no restore brings the person back: ids and keyed tags only",
}
WAITING: Final[dict[str, str]] = {
    "public.request.detail": "who was erased and who is owed an answer; emptied when all have answered",
    "public.recipient_notice.subject_id": "what a recipient still owes",
    "public.disclosure_state.subject_id": "bare rows from which recipients are told to delete; no fields stand in them",
    "public.change.subject_id": "the change number under which recipients are told to delete",
    "public.change_in.subject_id": "a change that waits for its number",
}
STATISTICS: Final = "planner statistics"
SAMPLED: Final = "ids and keyed tags that ANALYZE sampled before; the next one replaces them"
OTHERS: Final = "the same identifier at a subject that is not the erased person: it came, or came again, by itself"


class Found(msgspec.Struct, frozen=True):
    """One place in which something was found."""

    store: str  # schema.table.column, or a kind of file
    rows: int
    why: str | None = None  # None: nothing explains it

    @property
    def residue(self) -> bool:
        """Nothing explains it."""
        return self.why is None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one scan looked for, where it looked, and what it found."""

    how: str
    at: str  # RFC 3339
    looked_for: dict[str, int | str]
    looked_at: dict[str, int]
    found: tuple[Found, ...]
    not_looked_at: tuple[tuple[str, str], ...]  # place, and why not

    @property
    def residue(self) -> tuple[Found, ...]:
        """What must not be there."""
        return tuple(one for one in self.found if one.residue)

    @property
    def word(self) -> str:
        """What stands beside each store of a certificate."""
        return f"{self.how}: {'nothing left' if not self.residue else 'something left'}"

    def shown(self) -> dict[str, Any]:
        """As it stands in a certificate and in the answer of the command."""
        return {
            "how": self.how,
            "at": self.at,
            "looked_for": dict(self.looked_for),
            "looked_at": dict(self.looked_at),
            "residue": [{"store": one.store, "rows": one.rows} for one in self.residue],
            "remains": [{"store": f.store, "rows": f.rows, "why": f.why} for f in self.found if not f.residue],
            "not_looked_at": [{"place": place, "why": why} for place, why in self.not_looked_at],
        }


def judge(store: str, rows: int, *, waiting: bool) -> Found:
    """The find, with its reason if it has one. `waiting`: a recipient of this erasure may still answer."""
    why = ALWAYS.get(store)
    if why is None and waiting:
        why = WAITING.get(store)
    return Found(store, rows, why)
