"""Contracts: what each destination is promised, and on what terms. What it gets is decided by `vault.policy.gate`."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.purposes import Purpose, purpose_mask
from vault.catalogue.toml import Section, TomlFile
from vault.clock import Micros, from_datetime

Which = Literal["last", "first", "all"]

DEFAULT_SHA256: Final = "sha256:google"  # what `sha256` alone means
PLAIN_TRANSFORMS: Final = frozenset({"reveal", "mask", "sha256:google", "sha256:meta", "pseudonym", "year"})
COUNTED: Final = re.compile(r"(?:prefix|round):(?:0|[1-9][0-9]?)", re.ASCII)


def transform_named(text: str) -> str | None:
    """The full name of a transform, or None if there is none of that name: `sha256` is `sha256:google`."""
    if text == "sha256":
        return DEFAULT_SHA256
    if text in PLAIN_TRANSFORMS or (COUNTED.fullmatch(text) and text != "prefix:0"):
        return text
    return None


class IdentifierTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of one identifier kind may be given."""

    which: Which  # of several values
    transforms: tuple[str, ...]  # acceptable ones, the preferred first


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One destination. Of each list of transforms the gate takes the first that it allows."""

    number: int
    name: str
    recipient: str  # legal name
    role: Literal["processor", "controller", "joint_controller"]
    country: str  # ISO 3166-1 alpha-2
    transfer: str | None = None  # safeguard of GDPR Chapter V; None within the EEA
    contact: str
    agreement: str  # which document
    ends: Micros | None = None
    purposes: int  # mask
    traits: dict[str, tuple[str, ...]]  # trait or computed trait -> acceptable transforms
    identifiers: dict[str, IdentifierTerms]
    audiences: tuple[str, ...] = ()
    accounts: dict[str, tuple[str, ...]] = {}  # account trait -> acceptable transforms
    delivery: Literal["pull", "webhook"]
    rate: int  # requests a minute
    keep: Micros | None = None  # how long the recipient may hold a value
    sale_or_share: bool = False  # CCPA
    gvl_id: int | None = None  # IAB Global Vendor List
    can_restrict: bool = False  # it can hold a profile without using it
    acknowledges: Literal["cursor", "report", "manual"]  # how it says that it deleted
    timeline: bool = False  # it may see the events of a profile


COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)
_MAX_DESTINATION: Final = 0xFFFF
_MAX_RATE: Final = 100_000
_MAX_GVL: Final = 0xFFFF
# The European Economic Area: data may go there without a safeguard of GDPR Chapter V.
_EEA: Final = re.compile(
    "AT|BE|BG|CY|CZ|DE|DK|EE|ES|FI|FR|GR|HR|HU|IE|IS|IT|LI|LT|LU|LV|MT|NL|NO|PL|PT|RO|SE|SI|SK", re.ASCII
)


def read_contracts(
    file: TomlFile,
    purposes: Mapping[str, Purpose],
    traits: Mapping[str, int],
    identifiers: Mapping[str, int],
    audiences: Mapping[str, int],
    accounts: Mapping[str, int],
) -> dict[str, Contract]:
    """The contracts of `destinations.toml`; the last four map what may be asked for to the purposes it is collected for."""
    taken: dict[int, str] = {}
    contracts: dict[str, Contract] = {}
    for section in file.tables():
        contract = contracts[section.name] = _read(section, taken, purposes)
        for key, names, known in (
            ("traits", contract.traits, traits),
            ("identifiers", contract.identifiers, identifiers),
            ("audiences", contract.audiences, audiences),
            ("accounts", contract.accounts, accounts),
        ):
            for name in names:
                _check_object(section, key, name, known, contract.purposes)
    return contracts


def _read(section: Section, taken: dict[int, str], purposes: Mapping[str, Purpose]) -> Contract:
    section.check_name()
    contract = Contract(
        number=section.number(1, _MAX_DESTINATION, taken),
        name=section.name,
        recipient=section.text("recipient"),
        role=section.choice("role", ("processor", "controller", "joint_controller")),
        country=section.text("country"),
        transfer=section.optional("transfer"),
        contact=section.text("contact"),
        agreement=section.text("agreement"),
        ends=_ends(section),
        purposes=purpose_mask(section, "purposes", purposes),
        traits=_forms(section, "traits", "email"),
        identifiers={one.name: _terms(one) for one in section.inside("identifiers")},
        audiences=section.texts("audiences"),
        accounts=_forms(section, "accounts", "plan"),
        delivery=section.choice("delivery", ("pull", "webhook")),
        rate=section.integer("rate", 1, _MAX_RATE),
        keep=section.duration("keep"),
        sale_or_share=section.flag("sale_or_share"),
        gvl_id=section.integer("gvl_id", 1, _MAX_GVL) if section.has("gvl_id") else None,
        can_restrict=section.flag("can_restrict"),
        acknowledges=section.choice("acknowledges", ("cursor", "report", "manual")),
        timeline=section.flag("timeline"),
    )
    section.done()
    if COUNTRY.fullmatch(contract.country) is None:
        section.problem("country", "is no country", "write two capitals, as in DE")
    elif _EEA.fullmatch(contract.country) is None and contract.transfer is None:
        section.problem("transfer", "is missing", "name the safeguard for a country outside the EEA (Art. 44)")
    return contract


def _forms(section: Section, key: str, such_as: str) -> dict[str, tuple[str, ...]]:
    """A table of names, each with its acceptable transforms."""
    if not section.has(key):
        return {}
    table = section.raw(key)
    if not isinstance(table, dict):
        section.problem(key, "must be a table", f'write {such_as} = ["reveal"] under it')
        return {}
    inner = Section(section.file, (*section.path, key), table)
    return {name: _transforms(inner, name) for name in table}


def _terms(section: Section) -> IdentifierTerms:
    terms = IdentifierTerms(
        which=section.choice("which", get_args(Which)), transforms=_transforms(section, "transforms")
    )
    section.done()
    return terms


def _transforms(section: Section, key: str) -> tuple[str, ...]:
    names: list[str] = []
    for text in section.texts(key, required=True):
        name = transform_named(text)
        if name is None:
            section.problem(key, f"names `{text}`, which is no transform", "see docs/reference/policies.md")
        else:
            names.append(name)
    return tuple(names)


def _ends(section: Section) -> Micros | None:
    value = section.raw("ends")
    if value is None:
        return None
    if type(value) is not dt.date:
        section.problem("ends", "has the wrong type", "write a date, as in 2030-12-31")
        return None
    return Micros(from_datetime(dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC) + dt.timedelta(days=1)))


def _check_object(section: Section, key: str, name: str, known: Mapping[str, int], mask: int) -> None:
    if name not in known:
        section.problem(key, f"names `{name}`, which is not declared", "declare it, or correct the name")
    elif not known[name] & mask:
        section.problem(key, f"names `{name}`, collected for none of the contract's purposes", "take it out")
