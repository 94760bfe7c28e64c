"""Casbin, the authority: enforcers built from lines that were understood, asked in words that exist.

Promises: the model is our own text and the lines are handed over one by one, so that no file of Casbin's is parsed
(threats E3, E11); logging stays off (E14) and enforcing on (E15); a change is a new enforcer, never a reload (E10); a
question with an empty word is refused before Casbin sees it (E1); an error is "no" (E8). No person ever gets here: `g`
keeps every name that it sees. Must not know: contracts, catalogue numbers.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

import casbin
from casbin.model import Model

from vault.errors import ConfigError
from vault.policy.rules import GATE_MODEL_TEXT, STAFF_MODEL_TEXT, GateRules, StaffRule, every

# Below this, rule text can leave the sandbox of the evaluator (CVE-2026-32640, threats E16).
_SIMPLEEVAL: Final = (1, 0, 5)


class Oracle:
    """One immutable enforcer. `ask` is slow (linear in the rules): compile its answers, never call it per person."""

    def __init__(self, model_text: str, rules: Iterable[tuple[str, ...]], roles: Iterable[tuple[str, str]]) -> None:
        """`rules` are the cells of `p` lines, `roles` those of `g` lines."""
        check_evaluator(version("simpleeval"))
        model = Model()
        model.load_model_from_text(model_text)
        for cells in rules:
            model.add_policy("p", "p", list(cells))
        for cells in roles:
            model.add_policy("g", "g", list(cells))
        self._enforcer = casbin.Enforcer(model)
        if "g" in model.model:
            self._enforcer.build_role_links()  # only an adapter does it by itself; without, a role's deny is lost
        self._empty = not model.model["p"]["p"].policy

    @classmethod
    def of_gate(cls, gate: GateRules) -> "Oracle":
        """The enforcer for destinations."""
        roles = ((subject, role) for subject, held in gate.roles.items() for role in held)
        return cls(GATE_MODEL_TEXT, (rule[1:] for rule in gate.rules), roles)

    @classmethod
    def of_staff(cls, rules: Iterable[StaffRule]) -> "Oracle":
        """The enforcer for staff."""
        return cls(STAFF_MODEL_TEXT, ((f"r:{rule.role}", rule.right, rule.effect) for rule in rules), ())

    def ask(self, *words: str) -> bool:
        """Allowed? No rules, an empty word or any error is a no."""
        if self._empty or not all(words):
            return False
        try:
            return self._enforcer.enforce(*words) is True
        except Exception:  # noqa: BLE001 - whatever Casbin raises, the answer is no (threats E8)
            return False

    def gives(self, destination: str, object_: str, purpose: str, transform: str) -> bool:
        """May the destination get the object, in this form, for this purpose?"""
        return self.ask(f"d:{destination}", object_, every(object_), purpose, transform)


def check_evaluator(installed: str) -> None:
    """Raises `ConfigError` if the installed evaluator is older than 1.0.5."""
    try:
        found = tuple(int(part) for part in installed.split(".")[:3])
    except ValueError:
        found = ()
    if found < _SIMPLEEVAL:
        raise ConfigError("Install simpleeval 1.0.5 or newer: older ones let rule text leave its sandbox.")
