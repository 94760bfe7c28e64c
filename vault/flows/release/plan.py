"""What one destination may ever get under one policy version, compiled: purposes, objects, transforms. Holds no person.

The gate has already been asked, for every object and purpose; a person's choices only take purposes away from this.
"""

from typing import Final, Literal
from uuid import UUID

import msgspec

from vault.catalogue.computed import Computed
from vault.catalogue.contracts import Contract
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, audience_object, bits, computed_object, identifier_object
from vault.clock import Micros
from vault.destinations.normal import form_of
from vault.destinations.pseudonym import person_key, pseudonym, root_of, value_pseudonym
from vault.destinations.transform import Apply, compile_transform, named
from vault.disclosures.record import Basis
from vault.policy.gate import Gate
from vault.policy.permit import Permit

_TRAITS_END: Final = identifier_object(0)


class Item(msgspec.Struct, frozen=True):
    """One object that a purpose may release."""

    number: int  # object number
    name: str  # as it stands in the line
    apply: Apply
    transform: int  # stored number of the transform
    which: Literal["last", "first", "all"] = "all"  # of several identifiers


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

    def wants(self, field: int) -> bool:
        """True if a stored field is needed for this purpose."""
        if field < _TRAITS_END:
            return field in self.traits
        if field == ACCUMULATORS:
            return bool(self.computed)
        if field == MEMBERSHIPS:
            return bool(self.audiences)
        return field in self.identifiers

    @property
    def objects(self) -> frozenset[int]:
        """Every object number that it may release."""
        items = (*self.traits.values(), *self.identifiers.values(), *self.audiences.values())
        return frozenset(item.number for item in (*items, *(item for _, item in self.computed)))


class Plan(msgspec.Struct, frozen=True):
    """All that one destination may get."""

    contract: Contract
    mask: int
    purposes: tuple[PurposePlan, ...]
    key: bytes  # of this destination's pseudonyms
    objects: frozenset[int]  # every object number that any purpose may release

    def id_of(self, root: UUID) -> str:
        """The destination's own name for a profile."""
        return pseudonym(self.key, root)

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
    return Plan(contract, contract.purposes, purposes, person_key(key, contract.number), objects)


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
        return Item(object_number, name, apply, transform.number, which)

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
    return PurposePlan(
        number,
        purpose.name,
        Basis.named(purpose.legal_basis),
        gate.release(contract.number, number),
        traits,
        identifiers,
        tuple(computed),
        audiences,
    )
