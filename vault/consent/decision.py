"""What may be done, from the state row alone. Pure: no clock, no database. A restriction beats every choice.

Consent: granted, not expired, not refused. Legitimate interests and public task: until somebody refuses or objects. Every
other basis: always. Nothing while the subject is being erased; no use while it is restricted (design section 6).
Times are microseconds since 1970 UTC; masks hold a bit per purpose number.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.purposes import Purpose
from vault.clock import Micros
from vault.consent.standing import mask_of
from vault.state.record import State

Reason = Literal[
    "unknown_purpose", "erasing", "restricted", "refused", "blocked", "objected", "minor", "expired", "no_choice"
]


class Allowed(msgspec.Struct, frozen=True, tag="allowed"):
    """The purpose may run, on this legal basis."""

    basis: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The purpose may not run."""

    reason: Reason


def decide(catalogue: Catalogue, state: State, purpose: int, now: Micros) -> Allowed | Refused:
    """May this purpose use the subject's data now, and why (not). Says the same as `permitted`, bit for bit."""
    declared = catalogue.purpose_by_number.get(purpose)
    if declared is None:
        return Refused("unknown_purpose")
    if state.fenced:
        return Refused("erasing")
    if state.restricted:
        return Refused("restricted")
    reason = _why_not(declared, state, now)
    return Refused(reason) if reason else Allowed(declared.legal_basis)


def permitted(catalogue: Catalogue, state: State, now: Micros) -> int:
    """Mask of the purposes that may use the subject's data now."""
    return 0 if state.restricted else collectable(catalogue, state, now)


def collectable(catalogue: Catalogue, state: State, now: Micros) -> int:
    """Mask of the purposes for which data may be taken in now: a restriction stops use, not sealing (Art. 18(2))."""
    if state.fenced:
        return 0
    closed = closed_to_minors(catalogue) if state.minor else 0
    return _open(catalogue, *_voices(state, now)) & ~closed


def meet(catalogue: Catalogue, members: Iterable[State], now: Micros, claimed: Iterable[State] = ()) -> int:
    """Mask of the purposes that may use a whole profile now: refused over granted over neutral (threats B5).

    `members` are the confirmed ones; those merely `claimed` can refuse and never grant. Nobody at all permits nothing.
    """
    granted = closed = 0
    somebody = minor = False
    for state in members:
        somebody = True
        if state.fenced or state.restricted:
            return 0
        minor = minor or state.minor
        said, refused = _voices(state, now)
        granted |= said
        closed |= refused
    if not somebody:
        return 0
    for state in claimed:
        if state.fenced or state.restricted:
            return 0
        minor = minor or state.minor
        closed |= _voices(state, now)[1]
    live = _open(catalogue, granted, closed)
    return live & ~closed_to_minors(catalogue) if minor else live


def words_of(catalogue: Catalogue, state: State, now: Micros) -> dict[str, str]:
    """Purpose name to where it stands: `permitted` where no choice is needed, else what was (not) said, for people."""
    words = {}
    live = collectable(catalogue, state, now)
    for purpose in catalogue.purposes.values():
        if live & purpose.mask:
            words[purpose.name] = "granted" if purpose.legal_basis == "consent" else "permitted"
        else:
            reason = _why_not(purpose, state, now) or "erasing"
            words[purpose.name] = "undecided" if reason == "no_choice" else reason
    return words


def closed_to_minors(catalogue: Catalogue) -> int:
    """Mask of what a minor's data may not be used for: advertising, profiling, and what rests on own consent.

    Consent of a guardian is not taken yet, so consent purposes stay closed (fail closed, threats C10).
    """
    return catalogue.consent_mask | mask_of(p.number for p in catalogue.purposes.values() if _is_adult(p))


def _voices(state: State, now: Micros) -> tuple[int, int]:
    """(what is granted and not expired, what is closed by somebody's word)."""
    granted = state.granted
    for purpose, ends in state.expiries:
        if ends <= now:
            granted &= ~(1 << purpose)
    return granted, state.refused | state.blocked | state.objected


def _open(catalogue: Catalogue, granted: int, closed: int) -> int:
    # a refusal binds under every basis that a choice can touch: a switch of basis opens nothing (threats C10)
    return (catalogue.consent_mask & granted | catalogue.interest_mask) & ~closed | catalogue.always_mask


def _why_not(purpose: Purpose, state: State, now: Micros) -> Reason | None:
    one = purpose.mask
    consent = purpose.legal_basis == "consent"
    if state.minor and (consent or _is_adult(purpose)):
        return "minor"
    if not consent and purpose.legal_basis not in {"legitimate_interests", "public_task"}:
        return None
    granted, closed = _voices(state, now)
    if closed & one:
        return "objected" if state.objected & one else "refused" if state.refused & one else "blocked"
    if not consent or granted & one:
        return None
    return "expired" if state.granted & one else "no_choice"


def _is_adult(purpose: Purpose) -> bool:
    return bool(purpose.kinds & {"advertising", "profiling"})
