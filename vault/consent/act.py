"""An act decides: what a person, an officer or a source says on purpose, as ledger entries. Pure.

Acts are the change event "Segment Consent Preference Updated", `POST /v1/consents`, the portal, a one-click unsubscribe, an
officer, a report that lowers. Also here: the entries that time writes (an end, a grace), and those that void others.
Times are microseconds since 1970 UTC; masks hold a bit per purpose number.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import bits
from vault.catalogue.purposes import Purpose
from vault.clock import DAY, Micros
from vault.consent.ledger import REFUSALS, Authority, Choice, Decision, How
from vault.consent.stamp import Speaker, Stamp, ends_at
from vault.consent.standing import Facts, Masks, Stand, Standing, apply, outranked

GRACE: Final = 7 * DAY  # between a refusal by a client that merely named the profile and the loss of its wraps


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of an act."""

    purpose: int
    decision: Decision  # requested, granted, denied, withdrawn or objected
    said_at: Micros | None = None  # corrected; None: when the act was said
    notice: str | None = None
    language: str | None = None
    evidence: bytes = b""  # SHA-256 over salt and evidence
    covers: tuple[int, ...] = ()
    about: bytes = b""


class Ignored(msgspec.Struct, frozen=True):
    """A choice that writes nothing, for the audit log and the answer."""

    purpose: int
    reason: Literal["stale_grant", "outranked", "no_choice_here", "unknown_purpose", "minor"]


class Outcome(msgspec.Struct, frozen=True):
    """What an act comes to. `standing` is the ledger with `entries` on it."""

    entries: tuple[Choice, ...]
    ignored: tuple[Ignored, ...]
    standing: Standing


def said_by_change(stamp: Stamp) -> tuple[Said, ...]:
    """The choices of a change event: true grants, false refuses, a category that it does not name says nothing."""
    return tuple(
        Said(purpose=number, decision=Decision.GRANTED if stamp.yes >> number & 1 else Decision.DENIED)
        for number in bits(stamp.yes | stamp.no)
    )


def act_entries(
    catalogue: Catalogue,
    standing: Standing,
    said: Iterable[Said],
    speaker: Speaker,
    *,
    how: How,
    said_at: Micros,
    received_at: Micros,
    minor: bool = False,
    event_key: bytes = b"",
) -> Outcome:
    """The entries of an act in the order of `said`, each judged with those before it already written.

    Any refusal is written, as `withdrawn` where it is granted, as `objected` where the basis is not consent, else as
    `denied`. A grant is written if it counts: said after the latest refusal, by nobody lower; a claimed one is written and
    has no effect (threats C13). A purpose that no choice touches (contract, law) is left alone.
    """
    entries: list[Choice] = []
    ignored: list[Ignored] = []
    for one in said:
        purpose = catalogue.purpose_by_number.get(one.purpose)
        if purpose is None or not (catalogue.consent_mask | catalogue.interest_mask) & purpose.mask:
            ignored.append(Ignored(one.purpose, "no_choice_here" if purpose else "unknown_purpose"))
            continue
        facts = standing.of(one.purpose)
        at = Micros(max(0, min(said_at if one.said_at is None else one.said_at, received_at)))
        choice = Choice(
            purpose=one.purpose,
            decision=_decision(purpose, facts, one.decision),
            how=how,
            authority=speaker.authority,
            said_at=at,
            received_at=received_at,
            source=speaker.source,
            device=speaker.device,
            claimed=speaker.claimed,
            about=one.about,
            notice=one.notice,
            language=one.language,
            evidence=one.evidence,
            event_key=event_key,
        )
        if choice.decision is Decision.GRANTED:
            reason = _why_not(facts, choice, minor=minor)
            if reason:
                ignored.append(Ignored(one.purpose, reason))
                continue
            reach = one.covers if speaker.authority is not Authority.CLIENT else ()  # only these reach back in time
            choice = msgspec.structs.replace(choice, ends=ends_at(at, purpose.expires), covers=reach)
        entries.append(choice)
        standing = apply(standing, choice)
    return Outcome(tuple(entries), tuple(ignored), standing)


def _why_not(facts: Facts, choice: Choice, *, minor: bool) -> Literal["stale_grant", "outranked", "minor"] | None:
    if choice.claimed:
        return None
    if minor:
        return "minor"  # consent of a guardian is not taken yet
    reason = outranked(facts, choice)
    return None if reason == "stamp" else reason


def _decision(purpose: Purpose, facts: Facts, said: Decision) -> Decision:
    if said not in REFUSALS:
        return said
    if purpose.legal_basis != "consent" or said is Decision.OBJECTED:
        return Decision.OBJECTED
    return Decision.WITHDRAWN if facts.stand is Stand.GRANTED else Decision.DENIED


def wraps_lost(catalogue: Catalogue, entries: Iterable[Choice]) -> int:
    """Mask of the purposes whose wraps these entries take away in the same transaction.

    Not those blocked by a client that merely named the profile (within the grace), nor those under a weighed objection
    (until an officer decides). An expiry takes none: the sweep erases what no purpose may use any more.
    """
    lost = 0
    for choice in entries:
        purpose = catalogue.purpose_by_number.get(choice.purpose)
        if purpose is None or choice.claimed or choice.decision not in REFUSALS:
            continue
        if may_take_wraps(purpose):
            lost |= purpose.mask
    return lost


def may_take_wraps(purpose: Purpose) -> bool:
    """True if a refusal of this purpose takes its wraps away at once."""
    return purpose.legal_basis == "consent" or purpose.objection == "absolute"


def narrowed(before: Masks, after: Masks) -> tuple[int, int, int]:
    """Masks newly (refused, blocked, objected): what the journal must know before the commit."""
    return after.refused & ~before.refused, after.blocked & ~before.blocked, after.objected & ~before.objected


# --- entries that time writes ----------------------------------------------------------------------------------------


def expiry_entries(standing: Standing, now: Micros) -> tuple[Choice, ...]:
    """An `expired` entry for each granted choice whose end has come."""
    return tuple(
        _by_clock(purpose, Decision.EXPIRED, How.CLOCK, now)
        for purpose, ends in standing.masks().expiries
        if ends <= now
    )


def grace_entries(standing: Standing, now: Micros) -> tuple[Choice, ...]:
    """A refusal for each purpose that has been blocked for the whole grace: from here its wraps are lost."""
    return tuple(
        _by_clock(purpose, Decision.WITHDRAWN if facts.stand is Stand.GRANTED else Decision.DENIED, How.GRACE, now)
        for purpose, facts in sorted(standing.facts.items())
        if facts.blocked_at is not None and facts.blocked_at + GRACE <= now
    )


def _by_clock(purpose: int, decision: Decision, how: How, now: Micros) -> Choice:
    authority = Authority.CLIENT if how is How.GRACE else Authority.NOBODY
    return Choice(purpose=purpose, decision=decision, how=how, authority=authority, said_at=now, received_at=now)


# --- entries that answer other facts ---------------------------------------------------------------------------------


def invalidation_entries(standing: Standing, source: int, since: Micros, now: Micros) -> tuple[Choice, ...]:
    """Entries that void all choices of a leaked key's source received since a time (threats C5, C13)."""
    if source <= 0:
        raise ValueError("only the choices of a source can be voided")
    spoiled = {c.purpose for c in standing.choices if c.source == source and c.received_at >= since and not _void(c)}
    return tuple(
        Choice(
            purpose=purpose,
            decision=Decision.INVALIDATED,
            how=How.OFFICER,
            authority=Authority.OFFICER,
            said_at=min(since, now),
            received_at=now,
            source=source,
        )
        for purpose in sorted(spoiled)
    )


def _void(choice: Choice) -> bool:
    return choice.decision is Decision.INVALIDATED


def carried_entries(catalogue: Catalogue, objected: int, said_at: Micros, now: Micros) -> tuple[Choice, ...]:
    """The objections of a tombstone, for the new subject of somebody who had been erased (threats D15)."""
    return tuple(
        Choice(
            purpose=number,
            decision=Decision.OBJECTED,
            how=How.CARRIED,
            authority=Authority.PERSON,
            said_at=min(said_at, now),
            received_at=now,
        )
        for number in bits(objected & catalogue.all_purposes)
    )


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A narrowing of one purpose that a journal remembers."""

    purpose: int
    decision: Decision  # denied, objected or expired
    said_at: Micros
    rank: int
    claimed: bool = False


def replayed_entry(standing: Standing, lost: Lost, now: Micros) -> Choice | None:
    """What the journal says, as an entry for a ledger that had lost it; None if the ledger says at least as much."""
    facts = standing.of(lost.purpose)
    decision = lost.decision
    known = {
        Decision.DENIED: facts.refused or (lost.claimed and facts.blocked_at is not None),
        Decision.OBJECTED: facts.objected,
        Decision.EXPIRED: facts.stand is not Stand.GRANTED,
    }[decision]
    if known:
        return None
    if decision is Decision.DENIED and facts.stand is Stand.GRANTED and not lost.claimed:
        decision = Decision.WITHDRAWN
    return Choice(
        purpose=lost.purpose,
        decision=decision,
        how=How.REPLAYED,
        authority=Authority(lost.rank),
        said_at=min(lost.said_at, now),
        received_at=now,
        claimed=lost.claimed,
    )


def copied_to_member(choices: Iterable[Choice], member: Standing) -> tuple[Choice, ...]:
    """A choice made while joined, as entries of another member: refusals always, grants where they count there too."""
    kept: list[Choice] = []
    for choice in choices:
        if choice.decision is Decision.GRANTED and not choice.claimed and outranked(member.of(choice.purpose), choice):
            continue
        kept.append(choice)
        member = apply(member, choice)
    return tuple(kept)
