"""Identifier kinds: what may find a person, and what may join two subjects. Holds rules, never a value of a person."""

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from vault.catalogue.fields import read_category
from vault.catalogue.numbers import MAX_KIND
from vault.catalogue.purposes import Purpose, purpose_mask
from vault.catalogue.toml import Section, TomlFile

NormalForm = Literal["exact", "email", "phone", "uuid"]

# Filler that devices send for "no id", in any length: Segment blocks the same (standards section 2.2).
_FILLER: Final = re.compile(r"[0-]*", re.ASCII)


class IdentifierKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of identifier. Its values are sealed in the compartment of `purposes`; its tag exists while any of them holds."""

    number: int
    name: str
    category: str  # Fideslang data category
    purposes: int
    normal_form: NormalForm = "exact"
    limit: int  # values per profile within the window
    window: Literal["ever"] = "ever"
    priority: int  # 1 is the strongest; the weakest is dropped first
    blocked: frozenset[str] = frozenset()  # values that never identify, in lower case
    verifiable: bool = False  # the person can prove it: a link sent there
    device_access: bool = False  # read from the person's device (ePrivacy Art. 5(3))
    opaque: bool = False  # tells nothing about the person, so it may stand in a path
    joins: bool = True  # False: finds a person, never joins two
    account: bool = False  # names a company or household: finds its members, and is nobody's own
    take_from: tuple[str, ...]  # places in a message, first match wins: `userId`, `traits.email`, `properties.order_id`

    def blocks(self, value: str) -> bool:
        """True if the value never identifies: empty, only zeros and dashes, or one of the blocked ones in any case."""
        text = value.strip()
        return _FILLER.fullmatch(text) is not None or text.lower() in self.blocked


PLACE: Final = re.compile(
    r"userId|anonymousId|groupId|(?:traits|context\.traits|properties)\.[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII
)
ACCOUNT_PLACE: Final = "groupId"
MAX_ACCOUNTS: Final = 200  # of one profile: what was said of all of them lies in one sealed value of 64 KB
_MAX_LIMIT: Final = 1_000_000  # bounds the rows of one person; order numbers are the largest in use
_MAX_PRIORITY: Final = 1000


def read_identifiers(file: TomlFile, purposes: Mapping[str, Purpose]) -> dict[str, IdentifierKind]:
    """The identifier kinds of `identities.toml`."""
    taken: dict[int, str] = {}
    ranks: dict[int, str] = {}
    kinds: dict[str, IdentifierKind] = {}
    for section in file.tables():
        kind = kinds[section.name] = _read(section, taken, purposes)
        if kind.priority in ranks:
            section.problem("priority", f"is that of `{ranks[kind.priority]}`", "rank every kind differently")
        ranks.setdefault(kind.priority, kind.name)
        if kind.account and sum(one.account for one in kinds.values()) > 1:
            section.problem("account", "is true of a second kind", "an account has one kind of identifier")
    return kinds


def _read(section: Section, taken: dict[int, str], purposes: Mapping[str, Purpose]) -> IdentifierKind:
    section.check_name()
    kind = IdentifierKind(
        number=section.number(1, MAX_KIND, taken),
        name=section.name,
        category=read_category(section),
        purposes=purpose_mask(section, "purposes", purposes),
        normal_form=section.choice("normal_form", get_args(NormalForm), "exact"),
        limit=section.integer("limit", 1, _MAX_LIMIT),
        window=section.choice("window", ("ever",), "ever"),
        priority=section.integer("priority", 1, _MAX_PRIORITY),
        blocked=frozenset(text.strip().lower() for text in section.texts("blocked")),
        verifiable=section.flag("verifiable"),
        device_access=section.flag("device_access"),
        opaque=section.flag("opaque"),
        joins=section.flag("joins", required=True),
        account=section.flag("account"),
        take_from=section.texts("take_from", required=True),
    )
    section.done()
    _check_account(section, kind)
    for place in kind.take_from:
        if PLACE.fullmatch(place) is None:
            section.problem("take_from", f"names `{place}`", "see docs/reference/policies.md for the places")
    return kind


def _check_account(section: Section, kind: IdentifierKind) -> None:
    """What names an account names no person, and the other way round."""
    if not kind.account:
        if ACCOUNT_PLACE in kind.take_from:
            section.problem("take_from", f"names `{ACCOUNT_PLACE}`", "write account = true: it names no person")
        return
    if kind.take_from != (ACCOUNT_PLACE,):
        section.problem("take_from", "is that of a person", f'write take_from = ["{ACCOUNT_PLACE}"] for an account')
    if kind.joins:
        section.problem("joins", "is true of an account", "write joins = false: members are not one person")
    if kind.device_access:
        section.problem("device_access", "is true of an account", "take it out: no device tells it")
    if kind.limit > MAX_ACCOUNTS:
        section.problem("limit", f"is {kind.limit}", f"a profile belongs to at most {MAX_ACCOUNTS} accounts")
