"""Profiles as this process last wrote or read them, kept to be worked on again without a read.

Nothing is decided by age: a kept profile carries the versions that it was read at, and the one statement refuses whoever
decided on a row that has moved on. So a stale one costs another try and never a wrong answer (design section 5, State row).
Whoever takes a profile has it alone; it comes back only when its statement committed, and is forgotten otherwise. What is
kept are sealed values and opened ciphers of at most `LIMIT` people, and at most `MAX_BYTES`, since whoever holds a public key
can make up people as large as a person may be (threats G7); the one not used for longest goes first (threats A16:
docs/threat-model.md).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from vault.flows.people.profile import ProfileDraft

LIMIT: Final = 10_000  # profiles; one of 31 traits in three compartments takes some 23 KB, 8 of them for opened ciphers
MAX_BYTES: Final = 64 * 1024 * 1024  # of their fields: so many may have 6 KB each, which is twice what people have
MAX_MEMBERS: Final = 20  # of a kept profile: what is larger is rare, and would crowd others out


class Grave(NamedTuple):
    """A tombstone: what was said before `until` is late; with `suppress` all is; `objected` outlived the erasure."""

    until: int
    suppress: bool
    objected: int


class Kept:
    """A profile, and those of its tags of which it is known whether they have a tombstone."""

    __slots__ = ("graves", "owners", "profile", "root", "size", "tags", "taken")

    def __init__(self, profile: ProfileDraft, graves: dict[bytes, Grave | None]) -> None:
        self.profile = profile
        self.root = profile.root.hex
        self.graves = graves  # tag of an identifier -> its tombstone
        self.owners = {tag: member.subject for member in profile.members for tag in member.tags if tag in graves}
        self.tags = count_tags(profile)
        self.size = size_of(profile)
        self.taken = False  # somebody works on it: nobody else may


def count_tags(profile: ProfileDraft) -> int:
    """How many identifiers a profile has."""
    return sum([len(member.tags) for member in profile.members])


def size_of(profile: ProfileDraft) -> int:
    """Bytes of the fields of a profile."""
    return sum([one.size for member in profile.members for one in member.compartments.values()])


class Warm:
    """The kept profiles of one process. Shows nothing of them."""

    def __init__(self, limit: int = LIMIT, most: int = MAX_BYTES) -> None:
        """Empty; holds at most `limit` profiles, and at most `most` bytes of their fields."""
        self._limit = limit
        self._most = most
        self._size = 0
        self._by_root: OrderedDict[str, Kept] = OrderedDict()
        self._by_tag: dict[bytes, Kept] = {}

    @property
    def size(self) -> int:
        """Bytes of the fields of those that are kept."""
        return self._size

    def __len__(self) -> int:
        """How many profiles are kept."""
        return len(self._by_root)

    def __repr__(self) -> str:
        return f"Warm({len(self._by_root)})"

    def find(self, tag: bytes) -> Kept | None:
        """The kept profile that an identifier finds; None while somebody works on it."""
        kept = self._by_tag.get(tag)
        return None if kept is None or kept.taken else kept

    def take(self, kept: Kept) -> None:
        """From now on it is the caller's alone, who keeps it again, or lets it go."""
        kept.taken = True

    def let_go(self, taken: Iterable[Kept]) -> None:
        """Forget those of them that did not come back: half changed, they are of no use, and hold opened ciphers."""
        for kept in taken:
            if kept.taken and self._by_root.get(kept.root) is kept:
                self._drop(kept)

    def keep(self, profile: ProfileDraft, graves: Mapping[bytes, Grave | None]) -> None:
        """A profile whose drafts are as they are stored. `graves` tells of any tags; those that are its own count."""
        mine = self._by_root.get(profile.root.hex)
        if mine is not None and mine.profile is profile and mine.tags == count_tags(profile):
            mine.taken = False
            self._by_root.move_to_end(mine.root)
            size = size_of(profile)
            self._size += size - mine.size
            mine.size = size
            self._make_room()
            return
        members = profile.members
        if len(members) > MAX_MEMBERS or profile.fenced:
            return
        known = {tag: graves[tag] for member in members for tag in member.tags if tag in graves}
        for member in members:
            before = self._by_root.get(member.hex)
            if before is not None:
                known = {**before.graves, **known}
                self._drop(before)
        kept = Kept(profile, known)
        self._by_root[kept.root] = kept
        self._size += kept.size
        for tag in known:
            other = self._by_tag.get(tag)
            if other is not None:
                self._drop(other)
            self._by_tag[tag] = kept
        self._make_room()

    def forget(self, subjects: Iterable[UUID]) -> None:
        """These roots are known to have moved on."""
        for subject in subjects:
            kept = self._by_root.get(subject.hex)
            if kept is not None:
                self._drop(kept)

    def _make_room(self) -> None:
        while len(self._by_root) > self._limit or self._size > self._most:
            self._drop(next(iter(self._by_root.values())))

    def _drop(self, kept: Kept) -> None:
        if self._by_root.pop(kept.root, None) is not None:
            self._size -= kept.size
        for tag in kept.graves:
            if self._by_tag.get(tag) is kept:
                del self._by_tag[tag]
