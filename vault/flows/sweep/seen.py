"""Compares people with what was seen of them last, in the order of their ids, record by record."""

from collections.abc import Callable, Iterator
from uuid import UUID

from vault.flows.sweep.finding import Check, Finding
from vault.journal.witness import Seen


class Memory:
    """Walks the records of the last round beside the people of this one."""

    def __init__(self, records: Iterator[Seen], erased: Callable[[], set[bytes]]) -> None:
        """`erased`: the ids of all who were ever erased; asked for only when somebody is missing."""
        self._records = records
        self._next = next(records, None)
        self._erased = erased

    def __repr__(self) -> str:
        return "Memory(...)"

    def skip(self, last: UUID | None) -> None:
        """Go on behind `last`: what came before was compared already."""
        while last is not None and self._next is not None and self._next.subject <= last:
            self._next = next(self._records, None)

    def compare(self, people: list[Seen], *, end: bool) -> tuple[list[Finding], list[Seen]]:
        """What does not agree of the next people, and what is to be remembered of them. `end`: there are no more.

        Who was put back or is missing stays remembered as they were, and so is found again until somebody accepts it.
        """
        found: list[Finding] = []
        keep: dict[UUID, Seen] = {one.subject: one for one in people}
        last = people[-1].subject if people else None
        while self._next is not None and (end or (last is not None and self._next.subject <= last)):
            before, self._next = self._next, next(self._records, None)
            now = keep.get(before.subject)
            if now is None:
                if not before.kept and before.subject.bytes not in self._erased():
                    found.append(Finding(Check.GONE, before.subject))
                    keep[before.subject] = before
            elif now.version < before.version:
                found.append(Finding(Check.OLDER, before.subject))
                keep[before.subject] = before
        return found, [keep[subject] for subject in sorted(keep)]
