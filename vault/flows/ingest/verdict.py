"""What a decision about a message comes to: a verdict, or a reason to decide the batch again without somebody or something."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from vault.flows.ingest.item import Dropped, Item
from vault.flows.people.profile import ProfileDraft
from vault.sources.dropped import Drop


class Verdict(NamedTuple):
    """What became of one message. `profile` is whose decision it rests on."""

    item: Item
    dropped: Dropped | None
    profile: ProfileDraft | None
    fresh: bool  # its dedup row is to be written
    noted: tuple[Drop, ...] = ()  # what of it was not stored, for the counters
    purposes: int = 0  # mask of those that it was stored for


class Unfit(Exception):
    """Rows of these subjects do not agree: decide again without them."""

    def __init__(self, subjects: Iterable[UUID]) -> None:
        self.subjects = frozenset(subjects)
        super().__init__()


class Oversized(Exception):
    """One message makes a person's values grow over their limit: decide again without it."""

    def __init__(self, index: int, code: str) -> None:
        self.index, self.code = index, code
        super().__init__()
