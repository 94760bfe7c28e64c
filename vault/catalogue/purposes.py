"""Purposes: why data is used. One struct, as `policies/purposes.toml` says it. Knows no person and no time of day."""

import datetime as dt
from typing import Literal

import msgspec

from vault.catalogue.numbers import bit
from vault.clock import Micros, from_datetime, to_datetime

LegalBasis = Literal[
    "consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"
]
Kind = Literal["advertising", "profiling", "direct_marketing", "strictly_necessary", "soft_opt_in"]
Starts = Literal["said", "year_end"]


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the closed registry of purposes."""

    number: int  # 0 to 62: a bit of every mask
    name: str
    title: str
    categories: tuple[str, ...] = ()  # consent category ids of the sources that mean this purpose
    legal_basis: LegalBasis  # GDPR Art. 6(1); never changed under the same name
    dpv: str  # IRI of the W3C Data Privacy Vocabulary
    retention: Micros | None = None  # how long a value may be used for this purpose; None: while the basis holds
    starts: Starts = "said"  # from when it counts: when the value was said, or the end of that calendar year (UTC)
    expires: Micros | None = None  # the life of a choice
    notice: str | None = None  # NAME of notices/NAME/VERSION.LANG.md
    tcf: tuple[int, ...] = ()  # IAB TCF purposes that mean this one
    gpc: bool = False  # a Global Privacy Control signal is a refusal
    objection: Literal["absolute", "weighed"] | None = None  # Art. 21; absolute for direct marketing
    art9: str | None = None  # condition of Art. 9(2), `a` to `j`, under which special data may be used
    kinds: frozenset[Kind] = frozenset()
    on_erasure: Literal["erase", "keep"] = "erase"
    keep_ground: str | None = None  # the exception of Art. 17(3) on which it is kept
    consent_evidence: bool = False  # keep proof of a choice after an erasure (Art. 7(1), 17(3)(e))

    @property
    def mask(self) -> int:
        """The bit of this purpose."""
        return bit(self.number)

    def kept_until(self, said_at: Micros) -> Micros | None:
        """The end of the use of a value said at `said_at`; None: no end of its own."""
        if self.retention is None:
            return None
        start = said_at
        if self.starts == "year_end":
            start = from_datetime(dt.datetime(to_datetime(said_at).year + 1, 1, 1, tzinfo=dt.UTC))
        return Micros(start + self.retention)
