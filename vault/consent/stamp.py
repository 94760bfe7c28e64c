"""A stamp limits: what the consent state that an event carries means for that event, and the little it may write.

Pure. Wire form: `context.consent.categoryPreferences` (standards section 1.5), a map of category to true or false.
Masks hold a bit per purpose number; times are microseconds since 1970 UTC.
"""

from collections.abc import Mapping

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import bits
from vault.clock import Micros
from vault.consent.ledger import Authority, Choice, Decision, How
from vault.consent.standing import Facts, Stand, Standing, outranked
from vault.state.record import State


class Stamp(msgspec.Struct, frozen=True):
    """A stamp in terms of purposes. `denies` is what the event may not be used for; `no` is what somebody said no to."""

    yes: int  # every category of the purpose is true
    no: int  # some category of the purpose is false
    denies: int  # some category of the purpose is false or missing


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """Who says it, and about whom."""

    authority: Authority
    source: int = 0  # source id; 0 for people
    device: bytes = b""  # keyed tag, 16 bytes: of the anonymous id (client source), of the user (server source)
    claimed: bool = False  # a client source about a profile that is not that of its own anonymous id


def read_stamp(preferences: Mapping[str, bool] | None, catalogue: Catalogue) -> Stamp | None:
    """A stamp by the categories of this catalogue; None if the event carries none.

    An empty one denies every purpose that some category means. A category that no purpose knows says nothing.
    """
    if preferences is None:
        return None
    no = missing = 0
    for category, purposes in catalogue.categories.items():
        answer = preferences.get(category)
        if answer is None:
            missing |= purposes
        elif not answer:
            no |= purposes
    return Stamp(yes=catalogue.mapped & ~no & ~missing, no=no, denies=no | missing)


def says_something_new(catalogue: Catalogue, state: State, stamp: Stamp | None, speaker: Speaker) -> bool:
    """False only if `stamp_entries` is sure to be empty: then the ledger need not be read."""
    if stamp is None or speaker.claimed:
        return False
    undecided = ~(state.granted | state.refused)
    first = stamp.yes & catalogue.consent_mask & undecided
    back = stamp.yes & state.refused if speaker.authority is Authority.SERVER else 0
    return bool(first | back | stamp.no & state.granted)


def stamp_entries(
    catalogue: Catalogue,
    standing: Standing,
    stamp: Stamp,
    speaker: Speaker,
    *,
    said_at: Micros,
    received_at: Micros,
    event_key: bytes = b"",
) -> tuple[Choice, ...]:
    """What a stamp writes into the ledger, lowest purpose first. Mostly nothing: a repeated stamp renews nothing.

    A grant only for a purpose without any entry (or over a refusal that the same server source stamped earlier); a refusal
    only where the state is granted and the last that this source said for this device or user was a grant (threats C12).
    """
    if speaker.claimed:
        return ()
    entries = []
    for number in bits((stamp.yes | stamp.no) & catalogue.all_purposes):
        purpose = catalogue.purpose_by_number[number]
        facts = standing.of(number)
        decision = _decision(facts, speaker, granting=bool(stamp.yes & purpose.mask))
        if decision is None or (decision is Decision.GRANTED and purpose.legal_basis != "consent"):
            continue
        choice = Choice(
            purpose=number,
            decision=decision,
            how=How.STAMP,
            authority=speaker.authority,
            said_at=min(said_at, received_at),
            received_at=received_at,
            source=speaker.source,
            device=speaker.device,
            event_key=event_key,
        )
        if decision is Decision.GRANTED:
            if outranked(facts, choice):
                continue
            choice = msgspec.structs.replace(choice, ends=ends_at(choice.said_at, purpose.expires))
        entries.append(choice)
    return tuple(entries)


def ends_at(said_at: Micros, life: Micros | None) -> Micros | None:
    """When a grant said then expires, if the purpose's choices do."""
    return None if life is None else Micros(said_at + life)


def _decision(facts: Facts, speaker: Speaker, *, granting: bool) -> Decision | None:
    if granting:
        return None if facts.stand is Stand.GRANTED else Decision.GRANTED
    spoken = facts.words.get((speaker.source, speaker.device), False)
    return Decision.WITHDRAWN if facts.stand is Stand.GRANTED and spoken else None
