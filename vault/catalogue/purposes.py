"""Purposes: why data is used. One struct, as `policies/purposes.toml` says it. Knows no person and no time of day."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.numbers import MAX_PURPOSE, bit
from vault.catalogue.taxonomy import is_dpv
from vault.catalogue.toml import Section, TomlFile
from vault.clock import Micros, from_datetime, to_datetime

LegalBasis = Literal[
    "consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"
]
Kind = Literal["advertising", "profiling", "direct_marketing", "strictly_necessary", "soft_opt_in"]
Starts = Literal["said", "year_end"]
Objection = Literal["absolute", "weighed"]
KeepGround = Literal["17-3-a", "17-3-b", "17-3-c", "17-3-d", "17-3-e"]


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
    objection: Objection | None = None  # Art. 21; absolute for direct marketing
    art9: str | None = None  # condition of Art. 9(2), `a` to `j`, under which special data may be used
    kinds: frozenset[Kind] = frozenset()
    on_erasure: Literal["erase", "keep"] = "erase"
    keep_ground: KeepGround | None = None  # the exception of Art. 17(3) on which it is kept
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


MAX_TCF: Final = 11  # purposes of the Transparency and Consent Framework 2.2
_ART9: Final = tuple("abcdefghij")  # conditions of Art. 9(2)


def read_purposes(file: TomlFile, notices: Collection[str]) -> dict[str, Purpose]:
    """The purposes of `purposes.toml`; `notices` are the names in the notices folder."""
    taken: dict[int, str] = {}
    purposes = {section.name: _read(section, taken, notices) for section in file.tables()}
    if not purposes:
        file.problems.add(file.name, 1, "no purpose is declared", "declare at least one: nothing can be stored without")
    return purposes


def purpose_mask(
    section: Section, key: str, purposes: Mapping[str, Purpose], *, within: int | None = None, required: bool = True
) -> int:
    """The mask of a list of purpose names. Absent and not required: `within`, the purposes of the whole."""
    if not required and not section.has(key):
        return within or 0
    mask = 0
    for name in section.chosen(key, purposes, required=True):
        one = purposes[name].mask
        if within is not None and not one & within:
            section.problem(key, f"names `{name}`, which the whole is not collected for", "add it there or take it out")
        mask |= one
    return mask


def _read(section: Section, taken: dict[int, str], notices: Collection[str]) -> Purpose:
    section.check_name()
    purpose = Purpose(
        number=section.number(0, MAX_PURPOSE, taken),
        name=section.name,
        title=section.text("title"),
        categories=section.texts("categories"),
        legal_basis=section.choice("legal_basis", get_args(LegalBasis)),
        dpv=section.text("dpv"),
        retention=section.duration("retention"),
        starts=section.choice("starts", get_args(Starts), "said"),
        expires=section.duration("expires"),
        notice=_notice(section, notices),
        tcf=_tcf(section),
        gpc=section.flag("gpc"),
        objection=section.choice("objection", get_args(Objection)) if section.has("objection") else None,
        art9=section.choice("art9", _ART9) if section.has("art9") else None,
        kinds=frozenset(section.chosen("kind", get_args(Kind))),
        on_erasure=section.choice("on_erasure", ("erase", "keep"), "erase"),
        keep_ground=section.choice("keep_ground", get_args(KeepGround)) if section.has("keep_ground") else None,
        consent_evidence=section.flag("consent_evidence"),
    )
    section.done()
    _check_law(section, purpose)
    return purpose


def _notice(section: Section, notices: Collection[str]) -> str | None:
    """The name of the text that people are shown, whose folder must be there."""
    name = section.optional("notice")
    if name and name not in notices:
        remedy = f"write the text as notices/{name}/1.en.md"
        known = f", or name one of {', '.join(sorted(notices))}" if notices else ""
        section.problem("notice", f"is `{name}`, and there is no text of that name", remedy + known)
    return name


def _tcf(section: Section) -> tuple[int, ...]:
    numbers = section.raw("tcf") if section.has("tcf") else []
    if not isinstance(numbers, list) or not all(type(n) is int and 1 <= n <= MAX_TCF for n in numbers):
        section.problem("tcf", "must be a list of TCF purposes", "write numbers from 1 to 11")
        return ()
    return tuple(numbers)


def _check_law(section: Section, purpose: Purpose) -> None:
    """What the law asks of a purpose, as far as a file can show it."""
    if not is_dpv(purpose.dpv):
        section.problem("dpv", "is no DPV term", "write an IRI such as https://w3id.org/dpv#ServiceProvision")
    if section.raw("legal_basis") not in get_args(LegalBasis):
        return  # told already; what another basis asks for is not known
    if purpose.legal_basis == "consent" and purpose.notice is None:
        section.problem("legal_basis", "is consent, with no `notice`", "name the text that people are shown (Art. 7)")
    if purpose.legal_basis in ("legitimate_interests", "public_task") and purpose.objection is None:
        section.problem("legal_basis", "allows objection", "write objection as `absolute` or `weighed` (Art. 21)")
    if "direct_marketing" in purpose.kinds and purpose.objection != "absolute":
        section.problem("objection", "must be `absolute`", "objection to direct marketing always holds (Art. 21(3))")
    if purpose.expires is not None and purpose.legal_basis != "consent":
        section.problem("expires", "is the life of a choice", "take it out: only consent is a choice")
    if purpose.categories and purpose.legal_basis not in ("consent", "legitimate_interests"):
        section.problem("categories", "map a banner to a purpose that no banner decides", "take them out")
    if (purpose.on_erasure == "keep") != (purpose.keep_ground is not None):
        section.problem("keep_ground", 'goes with on_erasure = "keep"', "name the ground of Art. 17(3), or erase")
    if purpose.on_erasure == "keep" and (purpose.retention is None or purpose.legal_basis == "consent"):
        section.problem("on_erasure", "keeps data without an end or on consent", "give a retention and another basis")
