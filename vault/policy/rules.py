"""The lines of `rules.csv`, read strictly before Casbin sees one (threats E1 to E9, E11 to E13).

Promises: a line that is not fully understood is a problem, never skipped; subjects carry their namespace (`d:` a
destination, `r:` a role), so that a destination named like a role is not that role; roles do not nest, so that no depth
limit can lose a deny; nothing is matched by pattern. Must not know: Casbin, contracts, persons.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from vault.catalogue.load import GATE_MODEL, GATE_RULES, STAFF_MODEL, STAFF_RULES
from vault.catalogue.toml import Problems

Effect = Literal["allow", "deny"]
EVERY: Final = "*"
OBJECT_KINDS: Final = ("trait", "identifier", "account", "audience", "event")
_ALLOWED_STARS: Final = frozenset({"event:*"})  # a timeline is all or nothing; everything else is allowed by name
_MAX_RULES: Final = 10_000  # one evaluation of Casbin is linear in the rules
_GATE_COLUMNS: Final = 5
_STAFF_COLUMNS: Final = 3

GATE_MODEL_TEXT: Final = """\
[request_definition]
r = sub, obj, every, purpose, transform
[policy_definition]
p = sub, obj, purpose, transform, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && (r.obj == p.obj || r.every == p.obj) && (r.purpose == p.purpose || p.purpose == "*") \
&& (r.transform == p.transform || p.transform == "*")
"""
STAFF_MODEL_TEXT: Final = """\
[request_definition]
r = sub, right
[policy_definition]
p = sub, right, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub && r.right == p.right
"""


class Rule(NamedTuple):
    """One `p` line of the gate."""

    line: int
    subject: str  # `d:NAME` or `r:NAME`
    object: str  # `trait:email`; `trait:*`
    purpose: str  # a name or `*`
    transform: str  # a full name or `*`
    effect: Effect

    def touches(self, object_: str, purpose: str, transform: str) -> bool:
        """Does the line speak of this? The subject is the caller's."""
        return (
            self.object in (object_, every(object_))
            and self.purpose in (purpose, EVERY)
            and self.transform in (transform, EVERY)
        )


class GateRules(NamedTuple):
    """All lines of the gate; `roles` maps a destination to the roles it has."""

    rules: tuple[Rule, ...]
    roles: dict[str, tuple[str, ...]]


class StaffRule(NamedTuple):
    """One `p` line of the staff rules."""

    line: int
    role: str
    right: str
    effect: Effect


def every(object_: str) -> str:
    """The star that covers an object: `trait:*` for `trait:email`."""
    return f"{object_.split(':', 1)[0]}:*"


def read_gate(
    files: Mapping[str, str],
    destinations: Collection[str],
    objects: Collection[str],
    purposes: Collection[str],
    transforms: Collection[str],
    problems: Problems,
) -> GateRules:
    """The gate's rules. The collections are all the names that a line may use."""
    check_model(GATE_MODEL, files.get(GATE_MODEL, ""), GATE_MODEL_TEXT, problems)
    rules: list[Rule] = []
    roles: dict[str, tuple[str, ...]] = {}
    reader = _GateReader(destinations, objects, purposes, transforms, problems)
    for number, kind, cells in _lines(GATE_RULES, files.get(GATE_RULES, ""), problems):
        if kind == "g":
            reader.membership(number, cells, roles)
        elif kind == "p":
            rule = reader.rule(number, cells)
            if rule is not None:
                rules.append(rule)
        else:
            problems.add(GATE_RULES, number, f"a line of kind `{kind}`", "begin it with `p` or `g`")
    given = {role for held in roles.values() for role in held}
    for rule in rules:
        if rule.subject.startswith("r:") and rule.subject not in given:
            problems.add(GATE_RULES, rule.line, f"no destination has the role `{rule.subject}`", "add a `g` line")
    _check_repeats(GATE_RULES, [(rule.line, rule[1:-1]) for rule in rules], problems)
    return GateRules(tuple(rules), roles)


def read_staff(
    files: Mapping[str, str], roles: Collection[str], rights: Collection[str], problems: Problems
) -> tuple[StaffRule, ...]:
    """The rules for staff."""
    check_model(STAFF_MODEL, files.get(STAFF_MODEL, ""), STAFF_MODEL_TEXT, problems)
    rules: list[StaffRule] = []
    known = {f"r:{role}" for role in roles}
    for number, kind, cells in _lines(STAFF_RULES, files.get(STAFF_RULES, ""), problems):
        if kind != "p" or len(cells) != _STAFF_COLUMNS:
            problems.add(STAFF_RULES, number, "no rule for staff", "write p, r:ROLE, right, allow or deny")
            continue
        subject, right, effect = cells
        good = [
            _known(STAFF_RULES, number, "role", subject, known, problems),
            _known(STAFF_RULES, number, "right", right, rights, problems),
            _known(STAFF_RULES, number, "effect", effect, ("allow", "deny"), problems),
        ]
        if all(good):
            rules.append(StaffRule(number, subject[2:], right, "allow" if effect == "allow" else "deny"))
    _check_repeats(STAFF_RULES, [(rule.line, rule[1:-1]) for rule in rules], problems)
    return tuple(rules)


def check_model(file: str, text: str, accepted: str, problems: Problems) -> None:
    """Only one model is accepted: another matcher or effect may fail open (threats E1, E4 to E9)."""
    if _bare(text) != _bare(accepted):
        problems.add(file, 1, "not the model that the vault accepts", "docs/reference/policies.md shows it")


class _GateReader:
    """Reads one line against the names that exist."""

    def __init__(
        self,
        destinations: Collection[str],
        objects: Collection[str],
        purposes: Collection[str],
        transforms: Collection[str],
        problems: Problems,
    ) -> None:
        self.destinations = {f"d:{name}" for name in destinations}
        self.objects = {*objects, *(f"{kind}:*" for kind in OBJECT_KINDS)}
        self.purposes = {*purposes, EVERY}
        self.transforms = {*transforms, EVERY}
        self.problems = problems

    def membership(self, number: int, cells: list[str], roles: dict[str, tuple[str, ...]]) -> None:
        """A `g` line: a destination has a role. Roles have no roles (threats E12)."""
        if len(cells) != 2 or not cells[1].startswith("r:") or len(cells[1]) <= len("r:"):
            self.problems.add(GATE_RULES, number, "no membership", "write g, d:DESTINATION, r:ROLE")
            return
        if self._is(number, "destination", cells[0], self.destinations):
            if cells[1] in roles.get(cells[0], ()):
                self.problems.add(GATE_RULES, number, "the same line again", "take it out")
            roles[cells[0]] = (*roles.get(cells[0], ()), cells[1])

    def rule(self, number: int, cells: list[str]) -> Rule | None:
        """A `p` line; None once a problem is noted."""
        if len(cells) != _GATE_COLUMNS:
            remedy = "write p, d:DESTINATION or r:ROLE, object, purpose, transform, allow or deny"
            self.problems.add(GATE_RULES, number, f"{len(cells)} columns after `p`", remedy)
            return None
        subject, object_, purpose, transform, effect = cells
        good = [
            subject.startswith("r:") or self._is(number, "destination", subject, self.destinations),
            self._is(number, "object", object_, self.objects),
            self._is(number, "purpose", purpose, self.purposes),
            self._is(number, "transform", transform, self.transforms),
            self._is(number, "effect", effect, ("allow", "deny")),
        ]
        if not all(good):
            return None
        starred = EVERY in (purpose, transform) or (object_.endswith(":*") and object_ not in _ALLOWED_STARS)
        if effect == "allow" and starred:
            self.problems.add(GATE_RULES, number, "a star that allows", "name what is allowed; a star may only deny")
            return None
        return Rule(number, subject, object_, purpose, transform, "allow" if effect == "allow" else "deny")

    def _is(self, number: int, what: str, word: str, known: Collection[str]) -> bool:
        return _known(GATE_RULES, number, what, word, known, self.problems)


def _lines(file: str, text: str, problems: Problems) -> Iterator[tuple[int, str, list[str]]]:
    """Number, kind and cells of each line that is not empty or a comment. No quoting: names hold no comma (threats E11)."""
    count = 0
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r").strip(" ")
        if not line or line.startswith("#"):
            continue
        count += 1
        if count > _MAX_RULES:
            problems.add(file, number, f"over {_MAX_RULES} rules", "use roles")
            return
        if '"' in line or not line.isascii() or not line.isprintable():
            problems.add(file, number, "a quote, or a character that is not plain ASCII", "take it out")
            continue
        cells = [cell.strip(" ") for cell in line.split(",")]
        if not all(cells):
            problems.add(file, number, "an empty cell", "fill it or take the comma out")  # threats E1
            continue
        yield number, cells[0], cells[1:]


def _known(file: str, number: int, what: str, word: str, known: Collection[str], problems: Problems) -> bool:
    if word in known:
        return True
    near = difflib.get_close_matches(word, known, n=1)
    problems.add(file, number, f"no {what} `{word}`", f"did you mean `{near[0]}`?" if near else "see the other files")
    return False


def _check_repeats(file: str, rules: list[tuple[int, tuple[object, ...]]], problems: Problems) -> None:
    """The same words twice, with the same effect or the other, are a mistake."""
    seen: dict[tuple[object, ...], int] = {}
    for line, words in rules:
        if words in seen:
            problems.add(file, line, f"line {seen[words]} says this already, or the contrary", "keep one of them")
        seen.setdefault(words, line)


def _bare(text: str) -> list[str]:
    """The lines that count, with single spaces."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
