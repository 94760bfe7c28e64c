"""What a state audit can find, in words. Names people by their random ids only, and holds no value."""

from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec


class Check(StrEnum):
    """What did not agree. It stands in audit leaves: never renamed."""

    STATE = "state"
    KEYS = "keys"
    VALUES = "values"
    LEDGER = "ledger"
    CHOICES = "choices"
    EVENTS = "events"
    IDENTIFIERS = "identifiers"
    LOOKUP = "lookup"
    PROFILE = "profile"
    CHANGE = "change"
    DEDUP = "dedup"
    LOG = "log"
    LEAVES = "leaves"
    DISCLOSURES = "disclosures"
    NARROWING = "narrowing"
    ERASURE = "erasure"
    UNFULFILLED = "unfulfilled"
    OLDER = "older"
    GONE = "gone"
    FORGOTTEN = "forgotten"


MEANINGS: Final[dict[Check, str]] = {
    Check.STATE: "the state row was edited, or is another person's",
    Check.KEYS: "the wrapped keys are not those of the state row, or do not open",
    Check.VALUES: "values are not those of the state row, or do not open",
    Check.LEDGER: "entries of the consent ledger are missing, added or changed",
    Check.CHOICES: "the choices of the state row are not what the ledger comes to",
    Check.EVENTS: "events are missing, added or changed",
    Check.IDENTIFIERS: "identifiers on record are not those of the sealed values",
    Check.LOOKUP: "an identifier finds another person, or somebody of whom it is not",
    Check.PROFILE: "members of the profile are missing or added",
    Check.CHANGE: "the mark by which destinations hear of this person is missing",
    Check.DEDUP: "a message could be taken twice: the trace that it came is missing",
    Check.LOG: "the log tells of something that happened to this person and is not there: older rows were put back",
    Check.LEAVES: "entries of the log speak of people of whom nothing explains them: rows or salts were put back or deleted",
    Check.DISCLOSURES: "records of disclosures were deleted, added or changed",
    Check.NARROWING: "the journal has a withdrawal, objection or removal that this person's rows do not show, and the log"
    " has its entry: older rows were put back",
    Check.ERASURE: "an erased person is there again",
    Check.UNFULFILLED: "the journal has a narrowing that was never committed: harmless; `profile-vault erasures replay`"
    " applies it, which only lowers",
    Check.OLDER: "the state row is older than when it was last looked at: a whole person was put back",
    Check.GONE: "a person who was there when last looked at is gone, and no erasure says why",
    Check.FORGOTTEN: "what the sweep saw, `states.seen` in the journal's folder, is missing or an older copy: people"
    " who were put back before this round may not be found",
}


NUMBERS: Final[dict[Check, int]] = {
    Check.STATE: 1, Check.KEYS: 2, Check.VALUES: 3, Check.LEDGER: 4, Check.CHOICES: 5, Check.EVENTS: 6,
    Check.IDENTIFIERS: 7, Check.LOOKUP: 8, Check.PROFILE: 9, Check.CHANGE: 10, Check.DEDUP: 11, Check.LOG: 12,
    Check.LEAVES: 13, Check.DISCLOSURES: 14, Check.NARROWING: 15, Check.ERASURE: 16, Check.UNFULFILLED: 17,
    Check.OLDER: 18, Check.GONE: 19, Check.FORGOTTEN: 20,
}  # fmt: skip
"""As stored in `integrity_finding`: never given twice."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that does not agree. `subject` None: it is nobody's in particular."""

    check: Check
    subject: UUID | None = None
    count: int = 1

    @property
    def harmless(self) -> bool:
        """True if it is told for completeness only."""
        return self.check is Check.UNFULFILLED

    def told(self) -> dict[str, Any]:
        """For programs."""
        subject = None if self.subject is None else str(self.subject)
        return {"check": self.check.value, "subject": subject, "count": self.count, "meaning": MEANINGS[self.check]}
