"""Who is meant: from the identifiers of a message to attach, new, merge or claim. Pure; deterministic for any order of input.

Flat matching with limits and priorities (as Segment's identity resolution, standards section 2.2): none found makes a new
subject; one profile takes the message; several merge if limits and protection allow, else the weakest identifier is dropped
from the message and it is tried again. Kinds that never join are the caller's to find with; they are not given here.

A client source resolves by its own anonymous id alone. The profile that it names beside is a claim: nothing is joined,
changed or told (threats B1, C14).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, Literal
from uuid import UUID

import msgspec

MAX_MERGES: Final = 100  # of one profile; a merge storm ends here (threats B3; Segment's own cap)
MAX_IDENTIFIERS: Final = 1_000  # that join, of one profile; messages still resolve beyond, and attach no more (B3)


class Rule(IntEnum):
    """By which rule a link was made. Numbers are stored for good (table `link`)."""

    MERGED = 1  # one message of a server source named both
    CLAIMED = 2  # a client source named it beside its own anonymous id
    CONFIRMED = 3  # a server source or a verified identifier confirmed a claim
    ALIASED = 4  # an alias of a server source said that one was called so before


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One identifier of a message, looked up."""

    kind: int
    priority: int  # 1 is the strongest
    tag: bytes
    root: UUID | None = None  # of the profile that has it; None: nobody's yet
    own: bool = False  # the anonymous id of the device that speaks
    previous: bool = False  # an alias says that the person was called so before


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the graph must know of a profile that was found."""

    root: UUID
    counts: Mapping[int, int] = {}  # kind -> values that the whole profile has
    identified: bool = False  # holds a user id
    restricted: bool = False
    fenced: bool = False  # an erasure has begun
    merges: int = 0  # links under this root

    @property
    def protected(self) -> bool:
        """True if nothing may be joined to it (threats B6)."""
        return self.restricted or self.fenced


class Absorbed(msgspec.Struct, frozen=True):
    """A profile that becomes part of another, and the kind of identifier that shows it."""

    root: UUID
    kind: int


class New(msgspec.Struct, frozen=True, tag="new"):
    """Nobody yet: make a subject and give it `attach`."""

    attach: tuple[Found, ...]
    dropped: tuple[Found, ...] = ()  # identifiers that this message must not use
    claim: UUID | None = None  # the profile that a client source names; its word only


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """The message belongs to this profile, which takes `attach` as new identifiers."""

    root: UUID
    attach: tuple[Found, ...]
    dropped: tuple[Found, ...] = ()
    claim: UUID | None = None


class Merge(msgspec.Struct, frozen=True, tag="merge"):
    """The profiles are one person: link `absorbed` under `survivor`, which takes `attach`."""

    survivor: UUID
    absorbed: tuple[Absorbed, ...]
    attach: tuple[Found, ...]
    dropped: tuple[Found, ...] = ()


class Nobody(msgspec.Struct, frozen=True, tag="nobody"):
    """The message can belong to no one; it is not stored."""

    reason: Literal["erasing", "no_usable_identifier"]


Resolution = New | Attach | Merge | Nobody


def decide(
    found: Iterable[Found], profiles: Mapping[UUID, Profile], limits: Mapping[int, int], *, server: bool
) -> Resolution:
    """Whose message this is.

    `profiles` holds every root in `found`; `limits` says how many values of a kind one profile may have, for every kind
    that joins. Raises KeyError where either has a gap.
    """
    usable = tuple(sorted(found, key=_strength))
    return _by_server(usable, profiles, limits) if server else _by_client(usable, profiles)


def survivor_of(profiles: Iterable[Profile]) -> UUID:
    """The oldest profile that holds a user id, else the oldest. Subject ids are ordered by time, and never equal."""
    return min(profiles, key=lambda profile: (not profile.identified, profile.root)).root


def _strength(found: Found) -> tuple[int, bool, bool, bytes]:
    """Of one kind: what a person is called now before what she was called; the device that speaks before one it names."""
    return (found.priority, found.previous, not found.own, found.tag)


def _by_server(usable: tuple[Found, ...], profiles: Mapping[UUID, Profile], limits: Mapping[int, int]) -> Resolution:
    dropped: tuple[Found, ...] = ()
    while usable:
        met = [profiles[root] for root in sorted({one.root for one in usable if one.root is not None})]
        new = tuple(one for one in usable if one.root is None)
        if not met:
            fitting, over = _within_limits(new, limits)
            return New(fitting, dropped + over)
        if len(met) == 1 and met[0].fenced:
            return Nobody("erasing")
        if _may_meet(met) and _fits(met, new, limits):
            room = max(0, MAX_IDENTIFIERS - sum(sum(profile.counts.values()) for profile in met))
            attach, dropped = new[:room], dropped + new[room:]
            if len(met) == 1:
                return Attach(met[0].root, attach, dropped)
            survivor = survivor_of(met)
            return Merge(survivor, _absorbed(usable, survivor), attach, dropped)
        usable, dropped = usable[:-1], (*dropped, usable[-1])
    return Nobody("no_usable_identifier")


def _by_client(usable: tuple[Found, ...], profiles: Mapping[UUID, Profile]) -> Resolution:
    own = next((one for one in usable if one.own), None)
    if own is None:
        return Nobody("no_usable_identifier")
    named = next((one.root for one in usable if not one.own and one.root is not None and one.root != own.root), None)
    # a profile in erasure is not told apart from one that is not there
    claim = named if named is not None and not profiles[named].fenced else None
    if own.root is None:
        return New((own,), (), claim)
    return Nobody("erasing") if profiles[own.root].fenced else Attach(own.root, (), (), claim)


def _may_meet(met: Sequence[Profile]) -> bool:
    if len(met) == 1:
        return True
    merges = sum(profile.merges for profile in met) + len(met) - 1
    return merges <= MAX_MERGES and not any(profile.protected for profile in met)


def _fits(met: Sequence[Profile], new: Sequence[Found], limits: Mapping[int, int]) -> bool:
    """True if no kind grows over its limit. What is over it already (a limit was lowered) and does not grow is no bar."""
    total: Counter[int] = Counter(one.kind for one in new)
    largest: Counter[int] = Counter()
    for profile in met:
        total.update(profile.counts)
        largest |= Counter(profile.counts)
    return all(count <= max(limits[kind], largest[kind]) for kind, count in total.items())


def _within_limits(new: tuple[Found, ...], limits: Mapping[int, int]) -> tuple[tuple[Found, ...], tuple[Found, ...]]:
    """(those that a new profile may take, those beyond the limit of their kind)."""
    fitting: list[Found] = []
    over: list[Found] = []
    counts: Counter[int] = Counter()
    for one in new:
        counts[one.kind] += 1
        (fitting if counts[one.kind] <= limits[one.kind] else over).append(one)
    return tuple(fitting), tuple(over)


def _absorbed(usable: Iterable[Found], survivor: UUID) -> tuple[Absorbed, ...]:
    """Each other profile by the strongest identifier that found it, oldest first."""
    evidence: dict[UUID, int] = {}
    for one in usable:  # strongest first
        if one.root is not None and one.root != survivor:
            evidence.setdefault(one.root, one.kind)
    return tuple(Absorbed(root, kind) for root, kind in sorted(evidence.items()))
