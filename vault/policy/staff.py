"""What staff may do, by role: `staff/rules.csv` compiled to a table of (role, right). Casbin is the authority here too."""

from vault.catalogue.load import Catalogue
from vault.catalogue.toml import Problems
from vault.errors import PolicyError
from vault.policy.actors import Right
from vault.policy.oracle import Oracle
from vault.policy.rules import read_staff


class StaffGate:
    """One policy version's answers for staff. Immutable."""

    def __init__(self, allowed: frozenset[tuple[str, Right]], second: frozenset[tuple[str, Right]]) -> None:
        """Use `compile`."""
        self._allowed = allowed
        self._second = second

    @classmethod
    def compile(cls, catalogue: Catalogue) -> "StaffGate":
        """The staff gate of a catalogue. Raises `PolicyError` with every problem found."""
        problems = Problems()
        rights = {right.value: right for right in Right}
        rules = read_staff(catalogue.files, catalogue.roles, rights, problems)
        second: set[tuple[str, Right]] = set()
        for role in catalogue.roles.values():
            for name in sorted(role.second_person):
                if name in rights:
                    second.add((role.name, rights[name]))
                else:
                    problems.add(
                        "staff.toml", 1, f"[{role.name}] names no right `{name}`", "see docs/reference/policies.md"
                    )
        if problems:
            raise PolicyError(problems.lines)
        oracle = Oracle.of_staff(rules)
        allowed = {(role, right) for role in catalogue.roles for right in Right if oracle.ask(f"r:{role}", right.value)}
        return cls(frozenset(allowed), frozenset(second))

    def allows(self, role: str, right: Right) -> bool:
        """May this role do this? Unknown roles may nothing."""
        return (role, right) in self._allowed

    def needs_second_person(self, role: str, right: Right) -> bool:
        """Does it also need the word of another person?"""
        return (role, right) in self._second
