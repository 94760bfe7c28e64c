"""Contracts: what each destination is promised, and on what terms. What it gets is decided by `vault.policy.gate`."""

import re
from typing import Final, Literal

import msgspec

from vault.clock import Micros

Which = Literal["last", "first", "all"]

DEFAULT_SHA256: Final = "sha256:google"  # what `sha256` alone means
_PLAIN: Final = frozenset({"reveal", "mask", "sha256:google", "sha256:meta", "pseudonym", "year"})
_COUNTED: Final = re.compile(r"(?:prefix|round):(?:0|[1-9][0-9]?)", re.ASCII)


def transform_named(text: str) -> str | None:
    """The full name of a transform, or None if there is none of that name: `sha256` is `sha256:google`."""
    if text == "sha256":
        return DEFAULT_SHA256
    if text in _PLAIN or (_COUNTED.fullmatch(text) and text != "prefix:0"):
        return text
    return None


class IdentifierTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of one identifier kind may be given."""

    which: Which  # of several values
    transforms: tuple[str, ...]  # acceptable ones, the preferred first


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One destination. The lists of transforms are in the recipient's order of preference; the gate takes the first that it allows."""

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
    delivery: Literal["pull", "webhook"]
    rate: int  # requests a minute
    keep: Micros | None = None  # how long the recipient may hold a value
    sale_or_share: bool = False  # CCPA
    gvl_id: int | None = None  # IAB Global Vendor List
    can_restrict: bool = False  # it can hold a profile without using it
    acknowledges: Literal["cursor", "report", "manual"]  # how it says that it deleted
    timeline: bool = False  # it may see the events of a profile
