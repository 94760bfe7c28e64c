"""What one destination may ever get under one policy version, compiled: purposes, objects, transforms. Holds no person.

The gate has already been asked, for every object and purpose; a person's choices only take purposes away from this.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
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
from vault.profile.sealing import Opening
from vault.profile.values import Form

K = TypeVar("K")
V = TypeVar("V")

MAX_KNOWN: Final = 4096  # sets of fields kept: a few hundred serve a shop; strange people must not fill the memory
FIRST_IDENTIFIER: Final = identifier_object(0)


class Item(msgspec.Struct, frozen=True):
    """One object that a purpose may release."""

    number: int  # object number
    name: str  # as it stands in the line
    key: bytes  # the name as a JSON member, with its colon
    apply: Apply
    reveals: bool  # the transform is `reveal`: the value leaves as it is
    transform: int  # stored number of the transform
    which: Literal["last", "first", "all"] = "all"  # of several identifiers


class Shape(NamedTuple):
    """A set of objects that left together: what a record says of it, and the line around their values."""

    items: tuple[tuple[int, int], ...]  # (object, transform), rising
    objects: frozenset[int]
    packed: bytes  # `items` as a record holds them
    line: bytes  # for `%`: the name of the profile, each trait, each kind of identifier, accounts, number


class Spot(NamedTuple):
    """Where a value stands."""

    compartment: int
    place: int  # in its directory
    field: int


class Layout(NamedTuple):
    """Where a purpose finds what it may release in compartments that hold certain fields."""

    openings: tuple[Opening | None, ...]  # for each compartment what is opened of it
    spots: tuple[Spot, ...]  # of each value that these give
    clash: bool  # a trait stands in several compartments: the newest must be found
    # Where nothing but traits is opened, and all leave as they are:
    items: tuple[Item, ...] = ()  # in the order of the line
    pick: Callable[[list[bytes]], Sequence[bytes]] = tuple  # puts the values into that order
    shape: Shape | None = None


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
    layouts: dict[tuple[int, tuple[Form, ...]], Layout] = msgspec.field(default_factory=dict)
    shapes: dict[tuple[int, ...], Shape] = msgspec.field(default_factory=dict)

    def wants(self, field: int) -> bool:
        """True if a stored field is needed for this purpose."""
        if field < FIRST_IDENTIFIER:
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

    def layout(self, of_root: int, forms: tuple[Form, ...]) -> Layout:
        """Where to look in compartments with these fields; the first `of_root` of them are the root's.

        Memberships are a value of the root: those of other members count for nothing.
        """
        found = self.layouts.get((of_root, forms))
        if found is None:
            spots = [
                Spot(number, place, field)
                for number, form in enumerate(forms)
                for place, field in enumerate(form.numbers)
                if self.wants(field) and (number < of_root or field != MEMBERSHIPS)
            ]
            found = self.arranged(forms, spots)
            _keep(self.layouts, (of_root, forms), found)
        return found

    def arranged(self, forms: tuple[Form, ...], spots: list[Spot]) -> Layout:
        """The layout that opens these spots, which come by compartment and place."""
        places: list[list[int]] = [[] for _ in forms]
        for compartment, place, _ in spots:
            places[compartment].append(place)
        openings = tuple(
            [Opening(form, some, self.permit) if some else None for form, some in zip(forms, places, strict=True)]
        )
        fields = [field for _, _, field in spots]
        numbers = [field for field in fields if field < FIRST_IDENTIFIER]
        plain = Layout(openings, tuple(spots), clash=len(set(numbers)) != len(numbers))
        if (
            plain.clash
            or not fields
            or not all(field in self.traits and self.traits[field].reveals for field in fields)
        ):
            return plain
        shown = [number for number in self.traits if number in fields]
        order = [fields.index(number) for number in shown]
        return plain._replace(
            items=tuple([self.traits[number] for number in shown]),
            pick=tuple if order == sorted(order) else itemgetter(*order),
            shape=self.shape(tuple(shown)),
        )

    def shape(self, objects: tuple[int, ...]) -> Shape:
        """The record of these objects, in whatever order they were shown."""
        found = self.shapes.get(objects)
        if found is None:
            items = tuple(sorted((number, self.transforms[number]) for number in objects))
            found = Shape(items, frozenset(objects), pack_items(items), self._line(frozenset(objects), objects))
            _keep(self.shapes, objects, found)
        return found

    def _line(self, objects: frozenset[int], order: tuple[int, ...]) -> bytes:
        """The line of a plan with this purpose alone: all of it but values, the name and the number."""
        items = {item.number: item for item in (*self.traits.values(), *(item for _, item in self.computed))}
        accounts = objects & {item.number for item in self.accounts.values()}
        audiences = {item.number: item for item in self.audiences.values()}
        names = sorted({audiences[number].name for number in objects & audiences.keys()})
        return (
            b'{"op":"upsert","id":"%%b","traits":{%b},"identifiers":{%b},"audiences":%b%b,"purposes":[%b],"version":%%d}'
            % (
                b",".join([_literal(items[number].key) + b"%b" for number in order if number in items]),
                b",".join([_literal(self.identifiers[n].key) + b"[%b]" for n in order if n in self.identifiers]),
                _literal(msgspec.json.encode(names)),
                b"%b" if accounts else b"",
                _literal(self.text),
            )
        )


def _literal(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


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
