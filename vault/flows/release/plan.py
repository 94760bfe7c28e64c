"""What one destination may ever get under one policy version, compiled: purposes, objects, transforms. Holds no person.

The gate has already been asked, for every object and purpose; a person's choices only take purposes away from this.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from vault.catalogue.computed import Computed
from vault.catalogue.contracts import Contract
from vault.catalogue.fields import Property
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import (
    ACCOUNTS,
    ACCUMULATORS,
    MEMBERSHIPS,
    account_object,
    audience_object,
    bits,
    computed_object,
    identifier_object,
)
from vault.clock import Micros
from vault.destinations.normal import form_of
from vault.destinations.pseudonym import person_key, pseudonym, pseudonyms, root_of, value_pseudonym
from vault.destinations.transform import Apply, Kind, compile_transform, named
from vault.disclosures.record import Basis, pack_items
from vault.policy.gate import Gate
from vault.policy.permit import Permit

K = TypeVar("K")
V = TypeVar("V")

MAX_KNOWN: Final = 4096  # sets of fields kept: a few hundred serve a shop; strange people must not fill the memory
_TRAITS_END: Final = identifier_object(0)


class Item(msgspec.Struct, frozen=True):
    """One object that a purpose may release."""

    number: int  # object number
    name: str  # as it stands in the line
    key: bytes  # the name as a JSON member, with its colon
    apply: Apply
    reveals: bool  # the transform is `reveal`: the value leaves as it is
    transform: int  # stored number of the transform
    which: Literal["last", "first", "all"] = "all"  # of several identifiers


class Layout(NamedTuple):
    """Where a purpose finds what it may release in compartments that hold certain fields."""

    places: tuple[tuple[int, ...], ...]  # for each compartment, of its directory: traits in front
    traits: tuple[tuple[int, ...], ...]  # for each compartment, the numbers of those traits
    clash: bool  # a trait stands in several compartments: the newest must be found


class Shape(NamedTuple):
    """A set of objects that left together: what a record says of it."""

    items: tuple[tuple[int, int], ...]  # (object, transform), rising
    objects: frozenset[int]
    packed: bytes  # `items` as a record holds them


class PurposePlan(msgspec.Struct, frozen=True):
    """What one purpose may release to the destination."""

    number: int
    name: str
    basis: int
    permit: Permit
    traits: dict[int, Item]
    identifiers: dict[int, Item]
    computed: tuple[tuple[Computed, Item], ...]
    audiences: dict[int, Item]  # by audience number
    text: bytes  # its name as JSON
    transforms: dict[int, int]  # of every object that it may release
    accounts: dict[int, Item] = msgspec.field(default_factory=dict)  # by number of the account trait
    # Few sets of fields serve everyone, so what follows from a set alone is worked out once. Numbers only.
    layouts: dict[tuple[int, tuple[tuple[int, ...], ...]], Layout] = msgspec.field(default_factory=dict)
    shapes: dict[tuple[int, ...], Shape] = msgspec.field(default_factory=dict)

    def wants(self, field: int) -> bool:
        """True if a stored field is needed for this purpose."""
        if field < _TRAITS_END:
            return field in self.traits
        if field == ACCUMULATORS:
            return bool(self.computed)
        if field == MEMBERSHIPS:
            return bool(self.audiences)
        if field == ACCOUNTS:
            return bool(self.accounts)
        return field in self.identifiers

    @property
    def objects(self) -> frozenset[int]:
        """Every object number that it may release."""
        return frozenset(self.transforms)

    def layout(self, of_root: int, numbers: tuple[tuple[int, ...], ...]) -> Layout:
        """Where to look in compartments with these fields; the first `of_root` of them are the root's.

        Memberships are a value of the root: those of other members count for nothing.
        """
        found = self.layouts.get((of_root, numbers))
        if found is None:
            found = self._layout(of_root, numbers)
            _keep(self.layouts, (of_root, numbers), found)
        return found

    def shape(self, objects: tuple[int, ...]) -> Shape:
        """The record of these objects, in whatever order they were shown."""
        found = self.shapes.get(objects)
        if found is None:
            items = tuple(sorted((number, self.transforms[number]) for number in objects))
            found = Shape(items, frozenset(objects), pack_items(items))
            _keep(self.shapes, objects, found)
        return found

    def _layout(self, of_root: int, numbers: tuple[tuple[int, ...], ...]) -> Layout:
        places, traits = [], []
        for shelf, fields in enumerate(numbers):
            wanted = [
                place
                for place, field in enumerate(fields)
                if self.wants(field) and (shelf < of_root or field != MEMBERSHIPS)
            ]
            places.append(tuple(wanted))  # numbers rise, and those of traits are the lowest
            traits.append(tuple(fields[place] for place in wanted if fields[place] < _TRAITS_END))
        everyone = [number for some in traits for number in some]
        return Layout(tuple(places), tuple(traits), len(set(everyone)) != len(everyone))


def _keep(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= MAX_KNOWN:
        known.clear()
    known[key] = value


class Plan(msgspec.Struct, frozen=True):
    """All that one destination may get."""

    contract: Contract
    mask: int
    purposes: tuple[PurposePlan, ...]
    key: bytes  # of this destination's pseudonyms
    objects: frozenset[int]  # every object number that any purpose may release
    account_key: bytes = b""  # of this destination's names for accounts
    accounts: bool = False  # some purpose may release account traits

    def id_of(self, root: UUID) -> str:
        """The destination's own name for a profile."""
        return pseudonym(self.key, root)

    def account_id(self, tag: str) -> str:
        """The destination's own name for an account, by the account's tag in hex."""
        return value_pseudonym(self.account_key, self.contract.number, ACCOUNTS, bytes.fromhex(tag))

    def ids_of(self, roots: Sequence[UUID]) -> list[str]:
        """As `id_of`, for many at once."""
        return pseudonyms(self.key, roots)

    def root_of(self, name: str) -> UUID | None:
        """The profile that the destination calls so; None for what is no name."""
        return root_of(self.key, name)

    def ended(self, now: Micros) -> bool:
        """True once the contract is over: nothing is released any more."""
        return self.contract.ends is not None and now >= self.contract.ends

    def __repr__(self) -> str:
        return f"Plan({self.contract.name})"


def compile_plan(catalogue: Catalogue, gate: Gate, contract: Contract, key: bytes) -> Plan:
    """The plan of a contract. `key` is the vault's pseudonym key."""
    asked = (_purpose(catalogue, gate, contract, number, key) for number in bits(contract.purposes))
    purposes = tuple(purpose for purpose in asked if purpose is not None)
    objects = frozenset().union(*(purpose.objects for purpose in purposes))
    own = person_key(key, contract.number)
    return Plan(contract, contract.purposes, purposes, own, objects, key, any(one.accounts for one in purposes))


def _purpose(catalogue: Catalogue, gate: Gate, contract: Contract, number: int, key: bytes) -> PurposePlan | None:
    purpose = catalogue.purpose_by_number[number]
    allowed = dict(gate.objects(contract.number, number))
    if not allowed:
        return None
    traits: dict[int, Item] = {}
    identifiers: dict[int, Item] = {}
    computed: list[tuple[Computed, Item]] = []
    audiences: dict[int, Item] = {}

    def item(object_number: int, name: str, category: str, which: Literal["last", "first", "all"] = "all") -> Item:
        transform = named(allowed[object_number])
        apply = compile_transform(
            transform,
            form_of(category),
            lambda raw: value_pseudonym(key, contract.number, object_number, raw),
        )
        member = msgspec.json.encode(name) + b":"
        return Item(object_number, name, member, apply, transform.kind is Kind.REVEAL, transform.number, which)

    for trait in catalogue.traits.values():
        if trait.number in allowed:
            traits[trait.number] = item(trait.number, trait.name, trait.category)
    for kind in catalogue.identifiers.values():
        object_number = identifier_object(kind.number)
        if object_number in allowed:
            terms = contract.identifiers[kind.name]
            identifiers[object_number] = item(object_number, kind.name, kind.category, terms.which)
    for one in catalogue.computed.values():
        object_number = computed_object(one.number)
        if object_number in allowed:
            computed.append((one, item(object_number, one.name, one.category)))
    for audience in catalogue.audiences.values():
        object_number = audience_object(audience.number)
        if object_number in allowed:
            audiences[audience.number] = item(object_number, audience.name, "")
    accounts = {
        one.number: item(account_object(one.number), one.name, one.category) for one in _accounts(catalogue, allowed)
    }
    return PurposePlan(
        number,
        purpose.name,
        Basis.named(purpose.legal_basis),
        gate.release(contract.number, number),
        traits,
        identifiers,
        tuple(computed),
        audiences,
        msgspec.json.encode(purpose.name),
        {
            one.number: one.transform
            for one in (
                *traits.values(),
                *identifiers.values(),
                *(shown for _, shown in computed),
                *audiences.values(),
                *accounts.values(),
            )
        },
        accounts,
    )


def _accounts(catalogue: Catalogue, allowed: Mapping[int, str]) -> list[Property]:
    """The account traits among these objects."""
    return [one for one in catalogue.account_traits.values() if account_object(one.number) in allowed]
