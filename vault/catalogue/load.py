"""The catalogue as a whole: read from the policies folder, checked against itself, and looked up by everyone.

`load` raises one `PolicyError` that lists every problem as `file:line: what; remedy`. A catalogue that loads is
consistent: every name it uses is declared, every number is given once, nothing is used for a purpose that it is not
collected for. Knows no person, no database and no earlier version (`vault.policy.version` compares those).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from vault.canonical import framed
from vault.catalogue.audiences import Audience, read_audiences
from vault.catalogue.computed import Computed, read_computed
from vault.catalogue.contracts import Contract, read_contracts
from vault.catalogue.fields import Event, Property, Trait, account_traits, read_events, read_traits
from vault.catalogue.identifiers import IdentifierKind, read_identifiers
from vault.catalogue.numbers import (
    account_object,
    audience_object,
    bit,
    bits,
    computed_object,
    event_object,
    identifier_object,
)
from vault.catalogue.people import Role, read_roles
from vault.catalogue.purposes import Purpose, read_purposes
from vault.catalogue.toml import Problems, TomlFile
from vault.errors import PolicyError

GATE_MODEL: Final = "gate/model.conf"
GATE_RULES: Final = "gate/rules.csv"
STAFF_MODEL: Final = "staff/model.conf"
STAFF_RULES: Final = "staff/rules.csv"
_TOML: Final = (
    "purposes.toml",
    "traits.toml",
    "events.toml",
    "identities.toml",
    "computed.toml",
    "audiences.toml",
    "destinations.toml",
    "staff.toml",
)
_REQUIRED: Final = (*_TOML, GATE_MODEL, GATE_RULES, STAFF_MODEL, STAFF_RULES)
_SUFFIXES: Final = frozenset({".toml", ".csv", ".conf", ".md"})
_MAX_FILE_BYTES: Final = 1_000_000  # a policy that people review is far smaller; caps what a start has to read
_NOTICE: Final = re.compile(r"notices/([a-z][a-z0-9_-]*)/([0-9]+)\.([a-z]{2})\.md", re.ASCII)
_TEST: Final = re.compile(r"tests/[a-z0-9_-]+\.toml", re.ASCII)

Notice = tuple[str, str, str]  # name, version, language


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that may exist under one policy version."""

    digest: bytes  # SHA-256 over every file, by path
    files: dict[str, str]  # path within the folder -> text
    purposes: dict[str, Purpose]
    purpose_by_number: dict[int, Purpose]
    traits: dict[str, Trait]
    events: dict[tuple[str, str], Event]  # (type, name)
    events_by_number: dict[int, Event]
    identifiers: dict[str, IdentifierKind]
    account_kind: IdentifierKind | None  # what names an account; None: there are no accounts
    account_traits: dict[str, Property]
    computed: dict[str, Computed]
    computed_by_event: dict[int, tuple[Computed, ...]]
    audiences: dict[str, Audience]
    contracts: dict[str, Contract]
    contracts_by_number: dict[int, Contract]
    roles: dict[str, Role]
    notices: dict[Notice, bytes]  # SHA-256 of the text
    categories: dict[str, int]  # consent category -> mask of the purposes that it means
    objects: dict[int, str]  # object number -> name
    rule_objects: dict[str, int]  # as rules write it: `trait:email` -> object number
    collected: dict[int, int]  # object number -> mask of the purposes that it may be collected for
    mapped: int  # purposes in some category: what a stamp can deny
    consent_mask: int
    interest_mask: int  # legitimate interests and public task: until objected
    always_mask: int  # every other basis
    all_purposes: int

    def mask(self, names: Iterable[str]) -> int:
        """The mask of some purposes. Raises KeyError for an unknown name."""
        return _union(self.purposes[name].mask for name in names)

    def names(self, mask: int) -> tuple[str, ...]:
        """The names of the purposes in a mask, by number. A bit that no purpose has now is left out."""
        known = self.purpose_by_number
        return tuple(known[number].name for number in bits(mask) if number in known)

    def object_name(self, number: int) -> str:
        """The name of an object as a line or a page shows it. Raises KeyError for an unknown number."""
        return self.objects[number]

    def event(self, kind: str, name: str) -> Event | None:
        """The declaration of an event; for page, screen and group calls `*` covers every name."""
        return self.events.get((kind, name)) or self.events.get((kind, "*"))

    def __repr__(self) -> str:
        return f"Catalogue({self.digest.hex()[:12]})"


def read_folder(folder: Path) -> dict[str, str]:
    """The files of a policies folder by path within it. Raises `PolicyError`. Hidden files are left out; links are refused."""
    if not folder.is_dir():
        raise PolicyError([f"{folder.name}:1: there is no such folder; name the policies folder"])
    files: dict[str, str] = {}
    problems: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            problems.append(f"{name}:1: a link; put the file itself there")
        elif path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            if path.suffix not in _SUFFIXES or path.stat().st_size > _MAX_FILE_BYTES:
                problems.append(f"{name}:1: not a policy file; take it out, or keep it under 1 MB")
                continue
            try:
                files[name] = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                problems.append(f"{name}:1: not UTF-8; save it as UTF-8")
    if problems:
        raise PolicyError(problems)
    return files


def digest_of(files: Mapping[str, str]) -> bytes:
    """SHA-256 over every path and text, in the order of paths: the name of a policy version."""
    parts = [part.encode() for path in sorted(files) for part in (path, files[path])]
    return hashlib.sha256(framed(b"profile-vault/policy/1", *parts)).digest()


def load(files: Mapping[str, str]) -> Catalogue:
    """The catalogue of a policies folder. Raises `PolicyError` with every problem found."""
    problems = Problems()
    notices = _read_files(files, problems)
    tables = {name: TomlFile(name, files.get(name, ""), problems) for name in _TOML}
    if problems.unreadable:  # nothing in it is known, so whoever names it would be told wrong things
        raise PolicyError(problems.lines)
    declared = _read_tables(tables, {name for name, _, _ in notices}, problems)
    if problems:
        raise PolicyError(problems.lines)
    return _assemble(files, notices, declared)


class _Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the TOML files declare."""

    purposes: dict[str, Purpose]
    traits: dict[str, Trait]
    events: dict[tuple[str, str], Event]
    identifiers: dict[str, IdentifierKind]
    computed: dict[str, Computed]
    audiences: dict[str, Audience]
    contracts: dict[str, Contract]
    roles: dict[str, Role]


def _read_tables(tables: Mapping[str, TomlFile], notices: set[str], problems: Problems) -> _Declared:
    """Each file in the order in which they name each other."""
    purposes = read_purposes(tables["purposes.toml"], notices)
    traits = read_traits(tables["traits.toml"], purposes)
    events = read_events(tables["events.toml"], purposes)
    identifiers = read_identifiers(tables["identities.toml"], purposes)
    computed = read_computed(tables["computed.toml"], purposes, events)
    for name in computed.keys() & traits.keys():
        problems.add("computed.toml", tables["computed.toml"].line((name,)), f"`{name}` is a trait too", "rename it")
    readable = {name: trait.purposes for name, trait in traits.items()}
    readable |= {name: one.purposes for name, one in computed.items()}
    audiences = read_audiences(tables["audiences.toml"], purposes, readable)
    contracts = read_contracts(
        tables["destinations.toml"],
        purposes,
        readable,
        {kind.name: kind.purposes for kind in identifiers.values()},
        {audience.name: bit(audience.purpose) for audience in audiences.values()},
        {name: one.purposes for name, one in account_traits(events.values()).items()},
    )
    return _Declared(
        purposes=purposes,
        traits=traits,
        events=events,
        identifiers=identifiers,
        computed=computed,
        audiences=audiences,
        contracts=contracts,
        roles=read_roles(tables["staff.toml"], purposes),
    )


def _assemble(files: Mapping[str, str], notices: dict[Notice, bytes], declared: _Declared) -> Catalogue:
    """The declared things with every way of looking them up."""
    purposes = declared.purposes.values()
    objects = _objects(declared)
    by_event: dict[int, tuple[Computed, ...]] = {}
    for one in declared.computed.values():
        by_event[one.event] = (*by_event.get(one.event, ()), one)
    every = _union(purpose.mask for purpose in purposes)
    consent = _union(p.mask for p in purposes if p.legal_basis == "consent")
    interest = _union(p.mask for p in purposes if p.legal_basis in ("legitimate_interests", "public_task"))
    return Catalogue(
        digest=digest_of(files),
        files=dict(files),
        purposes=declared.purposes,
        purpose_by_number={purpose.number: purpose for purpose in purposes},
        traits=declared.traits,
        events=declared.events,
        events_by_number={event.number: event for event in declared.events.values()},
        identifiers=declared.identifiers,
        account_kind=next((kind for kind in declared.identifiers.values() if kind.account), None),
        account_traits=account_traits(declared.events.values()),
        computed=declared.computed,
        computed_by_event=by_event,
        audiences=declared.audiences,
        contracts=declared.contracts,
        contracts_by_number={contract.number: contract for contract in declared.contracts.values()},
        roles=declared.roles,
        notices=notices,
        categories=_categories(purposes),
        objects={one.number: one.name for one in objects},
        rule_objects={f"{one.kind}:{one.name}": one.number for one in objects},
        collected={one.number: one.purposes for one in objects},
        mapped=_union(purpose.mask for purpose in purposes if purpose.categories),
        consent_mask=consent,
        interest_mask=interest,
        always_mask=every & ~consent & ~interest,
        all_purposes=every,
    )


def _read_files(files: Mapping[str, str], problems: Problems) -> dict[Notice, bytes]:
    """Note missing and unknown files; the notices and the digests of their texts."""
    notices: dict[Notice, bytes] = {}
    for name in _REQUIRED:
        if name not in files:
            problems.add(name, 1, "the file is missing", "see docs/reference/policies.md")
    for name, text in sorted(files.items()):
        notice = _NOTICE.fullmatch(name)
        if notice:
            notices[notice[1], notice[2], notice[3]] = hashlib.sha256(text.encode()).digest()
            if not text.strip():
                problems.add(name, 1, "the notice is empty", "write the text that people are shown")
        elif name not in _REQUIRED and _TEST.fullmatch(name) is None:
            problems.add(name, 1, "no file of this name is known", "see docs/reference/policies.md")
    return notices


class _Object(NamedTuple):
    """Something that a rule can name, as `kind:name`."""

    kind: str
    name: str
    number: int
    purposes: int


def _objects(declared: _Declared) -> list[_Object]:
    """Everything that a rule can name. An event is `event:track:Order Completed`: its name alone is not unique."""
    return [
        *(_Object("trait", t.name, t.number, t.purposes) for t in declared.traits.values()),
        *(_Object("trait", c.name, computed_object(c.number), c.purposes) for c in declared.computed.values()),
        *(
            _Object("identifier", k.name, identifier_object(k.number), k.purposes)
            for k in declared.identifiers.values()
        ),
        *(
            _Object("account", a.name, account_object(a.number), a.purposes)
            for a in account_traits(declared.events.values()).values()
        ),
        *(_Object("audience", a.name, audience_object(a.number), bit(a.purpose)) for a in declared.audiences.values()),
        *(_Object("event", f"{e.type}:{e.name}", event_object(e.number), e.purposes) for e in declared.events.values()),
    ]


def _categories(purposes: Iterable[Purpose]) -> dict[str, int]:
    categories: dict[str, int] = {}
    for purpose in purposes:
        for category in purpose.categories:
            categories[category] = categories.get(category, 0) | purpose.mask
    return categories


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
