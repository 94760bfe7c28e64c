"""The examples of `tests/*.toml`: what the authors of a policy say must hold. Run on the compiled gate, never on a person.

Each table is one example; its title is the claim. Four kinds, told apart by their keys (docs/reference/policies.md):
a destination and an object, with what it `gives`; a destination and a data category, with forms it `never` gets; an object
with what it is `collected_for`; a role and a right. An example that names something unknown is a problem, not a pass.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from vault.catalogue.contracts import transform_named
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import bit, bits
from vault.catalogue.purposes import purpose_mask
from vault.catalogue.toml import Problems, Section, TomlFile
from vault.errors import PolicyError
from vault.policy.actors import Right
from vault.policy.gate import Gate
from vault.policy.staff import StaffGate

FOLDER: Final = "tests/"
NOTHING: Final = "nothing"


class Result(NamedTuple):
    """One example, run."""

    claim: str
    place: str  # `tests/destinations.toml:12`
    fault: str | None  # what is the case instead; None: it holds


class World(NamedTuple):
    """What examples are run on."""

    catalogue: Catalogue
    gate: Gate
    staff: StaffGate


def run_examples(catalogue: Catalogue, gate: Gate, staff: StaffGate) -> tuple[Result, ...]:
    """Every example with its outcome. Raises `PolicyError` for one that cannot be understood."""
    problems = Problems()
    world = World(catalogue, gate, staff)
    results: list[Result] = []
    for name, text in sorted(catalogue.files.items()):
        if name.startswith(FOLDER):
            file = TomlFile(name, text, problems)
            for section in file.tables():
                fault = _run(section, world)
                section.done()
                results.append(Result(section.name, f"{name}:{file.line(section.path)}", fault))
    if problems:
        raise PolicyError(problems.lines)
    return tuple(results)


def _run(section: Section, world: World) -> str | None:
    for key, run in KINDS.items():
        if section.has(key):
            return run(section, world)
    section.problem(None, "claims nothing", "write one of `gives`, `never`, `collected_for`, `right`")
    return None


def _right(section: Section, world: World) -> str | None:
    role = section.choice("role", world.catalogue.roles)
    right = section.choice("right", [right.value for right in Right])
    wanted = section.flag("allowed", required=True)
    if not right or world.staff.allows(role, Right(right)) is wanted:
        return None
    return f"`{role}` {'may not' if wanted else 'may'}"


def _collected(section: Section, world: World) -> str | None:
    catalogue = world.catalogue
    number = _object(section, catalogue)
    wanted = purpose_mask(section, "collected_for", catalogue.purposes)
    mask = catalogue.collected.get(number, 0)
    if section.has("property"):
        rule_name, name = section.text("object"), section.text("property")
        event = next((e for e in catalogue.events.values() if f"event:{e.type}:{e.name}" == rule_name), None)
        found = None if event is None else event.properties.get(name)
        if found is None:
            section.problem("property", "is not one of the object", "name a property of the event")
            return None
        mask = found.purposes
    return None if mask == wanted else f"collected for {', '.join(catalogue.names(mask)) or NOTHING}"


def _gives(section: Section, world: World) -> str | None:
    catalogue = world.catalogue
    contract = catalogue.contracts.get(section.choice("destination", catalogue.contracts))
    number = _object(section, catalogue)
    purpose = catalogue.purposes.get(section.choice("purpose", catalogue.purposes))
    wanted = section.text("gives")
    form = None if wanted == NOTHING else transform_named(wanted)
    if form is None and wanted != NOTHING:
        section.problem("gives", f"is `{wanted}`", "write a transform, or nothing")
    if contract is None or purpose is None:
        return None
    given = world.gate.transform_for(contract.number, number, purpose.number)
    return None if given == form else f"it gives {given or NOTHING}"


def _never(section: Section, world: World) -> str | None:
    catalogue = world.catalogue
    contract = catalogue.contracts.get(section.choice("destination", catalogue.contracts))
    category = section.text("category")
    forms = _forms(section)
    objects = _of_category(catalogue, category)
    if not objects:
        section.problem("category", f"is `{category}`, which no field has", "name a category that is in use")
    if contract is None:
        return None
    for purpose in bits(contract.purposes):
        for number, given in world.gate.objects(contract.number, purpose):
            if objects.get(number, 0) & bit(purpose) and (forms is None or given in forms):
                return f"`{catalogue.object_name(number)}` is given as {given}"
    return None


def _forms(section: Section) -> frozenset[str] | None:
    """The forbidden transforms; None for `*`, all of them."""
    if section.raw("never") == "*":
        return None
    names = {text: transform_named(text) for text in section.texts("never", required=True)}
    for text, name in names.items():
        if name is None:
            section.problem("never", f"names `{text}`, which is no transform", 'write transforms, or "*" for all')
    return frozenset(name for name in names.values() if name is not None)


def _of_category(catalogue: Catalogue, category: str) -> dict[int, int]:
    """Objects that hold data of the category or one below it, each with the purposes for which it does."""
    found: dict[int, int] = {}

    def add(rule_name: str, own: str, mask: int) -> None:
        if own == category or own.startswith(f"{category}."):
            number = catalogue.rule_objects[rule_name]
            found[number] = found.get(number, 0) | mask

    for trait in catalogue.traits.values():
        add(f"trait:{trait.name}", trait.category, trait.purposes)
    for computed in catalogue.computed.values():
        add(f"trait:{computed.name}", computed.category, computed.purposes)
    for kind in catalogue.identifiers.values():
        add(f"identifier:{kind.name}", kind.category, kind.purposes)
    for account in catalogue.account_traits.values():
        add(f"account:{account.name}", account.category, account.purposes)
    for event in catalogue.events.values():
        for one in event.properties.values():
            add(f"event:{event.type}:{event.name}", one.category, one.purposes)
    return found


def _object(section: Section, catalogue: Catalogue) -> int:
    return catalogue.rule_objects.get(section.choice("object", catalogue.rule_objects), 0)


# The key that tells a kind of example -> how it is run.
KINDS: Final[dict[str, Callable[[Section, World], str | None]]] = {
    "right": _right,
    "collected_for": _collected,
    "never": _never,
    "gives": _gives,
}
