"""The gate: may this destination get this object, for this purpose, in which form? And the only maker of permits.

`compile` asks Casbin for every cell that a contract could ever use and keeps the answers as a table; what runs is the
table. Our own reading of the rules explains the answers and must agree with Casbin on every cell, or nothing compiles.
An answer other than None means: the contract asks for it, the object is collected for the purpose, a rule allows it and
none denies it. Knows no person, no choice, no clock: those only take away from what stands here.
"""

from collections.abc import Iterable
from typing import Final, Literal
from uuid import UUID

import msgspec

from vault.catalogue.contracts import Contract
from vault.catalogue.load import GATE_RULES, Catalogue
from vault.catalogue.numbers import (
    RIGHTS,
    account_object,
    audience_object,
    bit,
    bits,
    computed_object,
    event_object,
    identifier_object,
)
from vault.catalogue.toml import Problems
from vault.errors import PolicyError, Withheld
from vault.policy.oracle import Oracle
from vault.policy.permit import Permit, _issue
from vault.policy.rules import GateRules, Rule, read_gate
from vault.policy.transforms import vocabulary

_REVEAL: Final = ("reveal",)  # memberships and events have one form

Verdict = Literal["given", "unknown", "not_in_contract", "not_collected", "no_rule", "denied"]
Terms = dict[int, tuple[str, ...]]  # object number -> acceptable transforms


class Explanation(msgspec.Struct, frozen=True):
    """Why an object is given or not, in the words of the policies folder."""

    verdict: Verdict
    transform: str | None  # the one that is used
    rules: tuple[str, ...]  # `gate/rules.csv:12`: the lines that decided
    remedy: str  # the smallest change that would flip it


class Gate:
    """One policy version, compiled. Immutable; a new version is a new gate, and its reference is swapped (threats E10)."""

    def __init__(self, catalogue: Catalogue, rules: GateRules, oracle: Oracle, policy: int) -> None:
        """Use `compile`."""
        self._catalogue = catalogue
        self._rules = rules
        self._policy = policy
        self._names = {number: name for name, number in catalogue.rule_objects.items()}
        self._terms: dict[int, Terms] = {
            contract.number: terms_of(catalogue, contract) for contract in catalogue.contracts.values()
        }
        self._table: dict[tuple[int, int], dict[int, str]] = {}
        for contract in catalogue.contracts.values():
            for purpose in bits(contract.purposes):
                row = self._row(contract, purpose, oracle)
                if row:
                    self._table[contract.number, purpose] = row

    @classmethod
    def compile(cls, catalogue: Catalogue, *, policy: int = 0) -> "Gate":
        """The gate of a catalogue; `policy` is the number of its version. Raises `PolicyError` with every problem found."""
        problems = Problems()
        rules = read_gate(
            catalogue.files,
            catalogue.contracts,
            catalogue.rule_objects,
            catalogue.purposes,
            vocabulary(catalogue),
            problems,
        )
        if problems:
            raise PolicyError(problems.lines)
        gate = cls(catalogue, rules, Oracle.of_gate(rules), policy)
        gate._check_idle(problems)
        if problems:
            raise PolicyError(problems.lines)
        return gate

    @property
    def policy(self) -> int:
        """Number of the policy version; 0 before it is applied."""
        return self._policy

    def transform_for(self, destination: int, object_number: int, purpose: int) -> str | None:
        """The form in which the destination gets the object for the purpose; None: it does not."""
        return self._table.get((destination, purpose), {}).get(object_number)

    def objects(self, destination: int, purpose: int) -> tuple[tuple[int, str], ...]:
        """Everything that the destination may get for the purpose, with its form, by object number."""
        return tuple(sorted(self._table.get((destination, purpose), {}).items()))

    def explain(self, destination: int, object_number: int, purpose: int) -> Explanation:
        """Why, and what would change it. Names of the policies folder only."""
        contract = self._catalogue.contracts_by_number.get(destination)
        name = self._names.get(object_number)
        if contract is None or name is None or purpose not in self._catalogue.purpose_by_number:
            return Explanation("unknown", None, (), "declare it in the policies folder")
        wanted = self._terms[destination].get(object_number)
        if wanted is None or not contract.purposes & bit(purpose):
            return Explanation("not_in_contract", None, (), f"add it to [{contract.name}] in destinations.toml")
        if not self._catalogue.collected[object_number] & bit(purpose):
            return Explanation("not_collected", None, (), f"collect `{name}` for this purpose: a new tag, for new data")
        return self._explain_rules(contract.name, name, self._catalogue.purpose_by_number[purpose].name, wanted)

    # --- permits ----------------------------------------------------------------------------------------------------

    def release(self, destination: int, purpose: int) -> Permit:
        """For a door that releases: the objects of the table and no other. Raises `Withheld` if there are none."""
        row = self._table.get((destination, purpose))
        if not row:
            raise Withheld(code="not_permitted")
        name = self._catalogue.contracts_by_number[destination].name
        return self._permit(f"destination:{name}", purpose, frozenset(row), "release")

    def compute(self, purpose: int) -> Permit:
        """For writers and computed traits inside the vault: every object of a purpose. Raises `Withheld` for no purpose."""
        self._known(purpose)
        return self._permit("vault", purpose, None, "compute")

    def rights(self, actor: str, request: UUID) -> Permit:
        """For the rights desk, within one request: everything. Raises `Withheld` without an actor."""
        if not actor:
            raise Withheld(code="not_permitted")
        return self._permit(actor, RIGHTS, None, f"request:{request}")

    def staff(self, actor: str, role: str, purpose: int, objects: Iterable[int]) -> Permit:
        """For a person at work: named objects, for a purpose that the role may see. Raises `Withheld`."""
        self._known(purpose)
        found = self._catalogue.roles.get(role)
        wanted = frozenset(objects)
        if not actor or found is None or not found.purposes & bit(purpose) or not wanted:
            raise Withheld(code="not_permitted")
        if any(not self._catalogue.collected.get(number, 0) & bit(purpose) for number in wanted):
            raise Withheld(code="not_permitted")
        return self._permit(actor, purpose, wanted, f"staff:{role}")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _permit(self, actor: str, purpose: int, objects: frozenset[int] | None, reason: str) -> Permit:
        return _issue(actor=actor, purpose=purpose, objects=objects, policy=self._policy, reason=reason)

    def _known(self, purpose: int) -> None:
        if purpose not in self._catalogue.purpose_by_number:
            raise Withheld(code="not_permitted")

    def _row(self, contract: Contract, purpose: int, oracle: Oracle) -> dict[int, str]:
        """The first acceptable and allowed form of every object."""
        row: dict[int, str] = {}
        purpose_name = self._catalogue.purpose_by_number[purpose].name
        for number, wanted in self._terms[contract.number].items():
            if not self._catalogue.collected[number] & bit(purpose):
                continue
            for transform in wanted:
                given = oracle.gives(contract.name, self._names[number], purpose_name, transform)
                if given != self._reads(contract.name, self._names[number], purpose_name, transform):
                    raise PolicyError([f"{GATE_RULES}:1: Casbin and the vault read the rules differently; report this"])
                if given and number not in row:
                    row[number] = transform
        return row

    def _touching(self, destination: str, name: str, purpose: str, transform: str) -> list[Rule]:
        subjects = (f"d:{destination}", *self._rules.roles.get(f"d:{destination}", ()))
        rules = (rule for rule in self._rules.rules if rule.subject in subjects)
        return [rule for rule in rules if rule.touches(name, purpose, transform)]

    def _reads(self, destination: str, name: str, purpose: str, transform: str) -> bool:
        """Our own reading of the rules: some allow, none denies."""
        effects = {rule.effect for rule in self._touching(destination, name, purpose, transform)}
        return effects == {"allow"}

    def _explain_rules(self, destination: str, name: str, purpose: str, wanted: tuple[str, ...]) -> Explanation:
        denying: list[Rule] = []
        for transform in wanted:
            touching = self._touching(destination, name, purpose, transform)
            denials = [rule for rule in touching if rule.effect == "deny"]
            if touching and not denials:
                return Explanation(
                    "given", transform, _places(touching), f"take out the rule at {_places(touching)[0]}"
                )
            denying.extend(rule for rule in denials if rule not in denying)
        if denying:
            return Explanation("denied", None, _places(denying), f"take out {' and '.join(_places(denying))}")
        line = f"p, d:{destination}, {name}, {purpose}, {wanted[0]}, allow"
        return Explanation("no_rule", None, (), f"add to {GATE_RULES}: {line}")

    def _check_idle(self, problems: Problems) -> None:
        """An allow line that gives no contract anything is a promise nobody made, or a word mistaken for another."""
        used: set[int] = set()
        for contract in self._catalogue.contracts.values():
            for number, wanted in self._terms[contract.number].items():
                for purpose in self._catalogue.names(contract.purposes & self._catalogue.collected[number]):
                    for transform in wanted:
                        touching = self._touching(contract.name, self._names[number], purpose, transform)
                        used.update(rule.line for rule in touching)
        for rule in self._rules.rules:
            if rule.effect == "allow" and rule.line not in used:
                remedy = "add it to destinations.toml or take the line out"
                problems.add(GATE_RULES, rule.line, "allows what no contract asks for", remedy)

    def __repr__(self) -> str:
        return f"Gate(policy={self._policy})"


def terms_of(catalogue: Catalogue, contract: Contract) -> Terms:
    """What a contract asks for: object number -> acceptable transforms, the preferred first."""
    terms: Terms = {}
    for name, transforms in contract.traits.items():
        trait = catalogue.traits.get(name)
        terms[computed_object(catalogue.computed[name].number) if trait is None else trait.number] = transforms
    for name, identifier in contract.identifiers.items():
        terms[identifier_object(catalogue.identifiers[name].number)] = identifier.transforms
    for name, transforms in contract.accounts.items():
        terms[account_object(catalogue.account_traits[name].number)] = transforms
    for name in contract.audiences:
        terms[audience_object(catalogue.audiences[name].number)] = _REVEAL
    if contract.timeline:
        terms |= {event_object(event.number): _REVEAL for event in catalogue.events.values()}
    return terms


def _places(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(f"{GATE_RULES}:{rule.line}" for rule in rules)
