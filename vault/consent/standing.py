"""What a ledger comes to: one fold, from which the masks of the state row follow. Pure: no clock, no database.

Rules (design section 6), which hold for every order in which entries arrive:
- A refusal counts at once. A grant counts only if it was said after everything known when the latest refusal came, and
  if nobody of a higher rank refused. So a replayed, late or backdated grant never opens anything (threats C1, C2, C3).
- A stamp's grant counts only as the first entry of its purpose, or over refusals that the same server source stamped.
- What a client source says about a profile that it merely names blocks, or does nothing (C13).

Times are microseconds since 1970 UTC; masks hold a bit per purpose number.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from vault.catalogue.numbers import bit
from vault.clock import Micros
from vault.consent.ledger import REFUSALS, Authority, Choice, Decision, How


class Stand(StrEnum):
    """Where a purpose stands. The values are words of the API."""

    UNDECIDED = "undecided"
    REQUESTED = "requested"
    GRANTED = "granted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"
    EXPIRED = "expired"


_STANDS: Final[Mapping[Decision, Stand]] = {
    Decision.DENIED: Stand.DENIED,
    Decision.WITHDRAWN: Stand.WITHDRAWN,
    Decision.OBJECTED: Stand.OBJECTED,
}
_REFUSED: Final = frozenset(_STANDS.values())

Speaks = tuple[int, bytes]  # (source, device)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries about one purpose come to."""

    entries: int = 0  # that count: claimed grants and voided entries do not
    stand: Stand = Stand.UNDECIDED
    objected: bool = False
    blocked_at: Micros | None = None  # receipt of the claimed refusal that blocks it
    ends: Micros | None = None  # of the grant, where it stands granted
    explicit: bool = False  # the grant was an act (Art. 9(2)(a) asks for one)
    latest: Micros = Micros(-1)  # the latest time said by any entry that counts
    horizon: Micros = Micros(-1)  # `latest` when the latest refusal came: what is not said after it opens nothing
    rank: int = 0  # the highest rank that refuses
    stamped_by: int = 0  # the server source all of whose refusals in force are stamps; 0: none, or not only stamps
    words: Mapping[Speaks, bool] = {}  # the latest word of each speaker: True if it granted
    place: int = 0  # sequence of the entry on which the stand rests

    @property
    def refused(self) -> bool:
        """True while a refusal is in force."""
        return self.stand in _REFUSED


NOTHING: Final = Facts()


class Masks(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of a subject as its state row holds them; fields as in `State`."""

    granted: int = 0
    refused: int = 0
    blocked: int = 0
    objected: int = 0
    expiries: tuple[tuple[int, Micros], ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """A ledger as read, and what it says of each purpose."""

    choices: tuple[Choice, ...] = ()
    facts: Mapping[int, Facts] = {}  # by purpose number

    def of(self, purpose: int) -> Facts:
        """What is known of a purpose."""
        return self.facts.get(purpose, NOTHING)

    @property
    def explicit(self) -> int:
        """Mask of the purposes granted by an act: what a special trait needs (Art. 9(2)(a))."""
        return mask_of(number for number, facts in self.facts.items() if facts.explicit)

    def masks(self) -> Masks:
        """The masks that the state row must hold."""
        facts = self.facts.items()
        ends = ((number, one.ends) for number, one in sorted(facts) if one.stand is Stand.GRANTED)
        return Masks(
            granted=mask_of(number for number, one in facts if one.stand is Stand.GRANTED),
            refused=mask_of(number for number, one in facts if one.refused),
            blocked=mask_of(number for number, one in facts if one.blocked_at is not None),
            objected=mask_of(number for number, one in facts if one.objected),
            expiries=tuple((number, at) for number, at in ends if at is not None),
        )


def fold(choices: Iterable[Choice]) -> Standing:
    """What a whole ledger says. The order of `choices` is the order of their sequence."""
    ledger = tuple(choices)
    return Standing(ledger, {purpose: _facts(ledger, purpose) for purpose in sorted({c.purpose for c in ledger})})


def apply(standing: Standing, choice: Choice) -> Standing:
    """The same as folding the ledger with one more entry."""
    ledger = (*standing.choices, choice)
    return Standing(ledger, {**standing.facts, choice.purpose: _facts(ledger, choice.purpose)})


def outranked(facts: Facts, choice: Choice) -> Literal["stale_grant", "outranked", "stamp"] | None:
    """Why a grant would not count; None if it would. Claimed grants are the caller's to tell apart."""
    if choice.how is How.STAMP:
        if not facts.entries:
            return None
        own = facts.stamped_by == choice.source and choice.authority is Authority.SERVER
        return None if own and facts.refused and choice.said_at > facts.horizon else "stamp"
    if choice.authority.rank < facts.rank:
        return "outranked"
    if choice.said_at <= facts.horizon:
        return "stale_grant"
    return None


def _facts(ledger: tuple[Choice, ...], purpose: int) -> Facts:
    mine = [(place, choice) for place, choice in enumerate(ledger, 1) if choice.purpose == purpose]
    voided = _voided(mine)
    facts = NOTHING
    for place, choice in mine:
        if place not in voided:
            facts = _step(facts, choice, place)
    return facts


def _voided(entries: list[tuple[int, Choice]]) -> frozenset[int]:
    """Places of the entries that a later invalidation voids."""
    return frozenset(
        place
        for end, void in entries
        if void.decision is Decision.INVALIDATED
        for place, entry in entries
        if place < end and entry.source == void.source and entry.received_at >= void.said_at
    )


def _step(facts: Facts, choice: Choice, place: int) -> Facts:
    """One entry more."""
    decision = choice.decision
    if decision is Decision.INVALIDATED:  # an entry all the same: no stamp decides again
        return msgspec.structs.replace(facts, entries=facts.entries + 1)
    if choice.claimed:
        return _claimed(facts, choice)
    if decision is Decision.GRANTED:
        return _granted(facts, choice, place)
    known = msgspec.structs.replace(facts, entries=facts.entries + 1, latest=max(facts.latest, choice.said_at))
    if decision in REFUSALS:
        return _refused(facts, known, choice, place)
    if decision is Decision.EXPIRED and facts.stand is Stand.GRANTED:
        return msgspec.structs.replace(known, stand=Stand.EXPIRED, ends=None, explicit=False, place=place)
    if decision is Decision.REQUESTED and facts.stand in {Stand.UNDECIDED, Stand.EXPIRED}:
        return msgspec.structs.replace(known, stand=Stand.REQUESTED, place=place)
    return known


def _claimed(facts: Facts, choice: Choice) -> Facts:
    """By a client source about a profile that it merely names: a refusal blocks, anything else does nothing."""
    if choice.decision not in REFUSALS:
        return facts
    latest = max(facts.latest, choice.said_at)
    blocked_at = choice.received_at if facts.blocked_at is None else facts.blocked_at
    return msgspec.structs.replace(
        facts, entries=facts.entries + 1, latest=latest, horizon=latest, blocked_at=blocked_at
    )


def _granted(facts: Facts, choice: Choice, place: int) -> Facts:
    if outranked(facts, choice) is not None:
        return facts
    # of two grants the one said later gives the end, whichever came first
    newer = facts.stand is not Stand.GRANTED or choice.said_at >= facts.latest
    return msgspec.structs.replace(
        facts,
        entries=facts.entries + 1,
        stand=Stand.GRANTED,
        objected=False,
        blocked_at=None,
        ends=choice.ends if newer else facts.ends,
        explicit=facts.explicit or choice.how is not How.STAMP,
        latest=max(facts.latest, choice.said_at),
        rank=0,
        stamped_by=0,
        words={**facts.words, (choice.source, choice.device): True},
        place=place,
    )


def _refused(facts: Facts, known: Facts, choice: Choice, place: int) -> Facts:
    stamp = choice.how is How.STAMP and choice.authority is Authority.SERVER
    alone = not facts.refused or facts.stamped_by == choice.source
    return msgspec.structs.replace(
        known,
        stand=_STANDS[choice.decision],
        objected=facts.objected or choice.decision is Decision.OBJECTED,
        blocked_at=None,  # the stronger word replaces the weaker
        ends=None,
        explicit=False,
        horizon=known.latest,
        rank=max(facts.rank, choice.authority.rank),
        stamped_by=choice.source if stamp and alone else 0,
        words={**facts.words, (choice.source, choice.device): False},
        place=place,
    )


def mask_of(numbers: Iterable[int]) -> int:
    """The mask of some purpose numbers."""
    mask = 0
    for number in numbers:
        mask |= bit(number)
    return mask
