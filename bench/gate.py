"""The gate at 2,000 rules: its table against Casbin's enforcer, over the whole space, every decision compared."""

import statistics
import time
from itertools import product
from typing import Final

from bench.ground import OWN_POLICIES
from bench.report import Options, Report
from vault.bootstrap import policies_folder
from vault.catalogue.load import GATE_RULES, Catalogue, load, read_folder
from vault.catalogue.numbers import bits
from vault.catalogue.toml import Problems
from vault.config import load as load_settings
from vault.policy.gate import Gate
from vault.policy.oracle import Oracle
from vault.policy.rules import read_gate
from vault.policy.transforms import vocabulary

RULES: Final = 2000
DESTINATIONS: Final = 8
TABLE_SECONDS: Final = 0.2  # a round of the table goes over the space until this is over
_CONTRACT: Final = """
[bench-{number}]
number = {number}
recipient = "Benchmark Ltd, {number}"
role = "processor"
country = "DE"
contact = "privacy@bench.example"
agreement = "None: figures only"
purposes = [{purposes}]
delivery = "pull"
rate = 1000
acknowledges = "report"

[bench-{number}.traits]
"""

Cell = tuple[int, str, int, str, int, str]  # destination, name; object, name; purpose, name


def policies(rules: int, destinations: int) -> dict[str, str]:
    """A folder with so many rules: each contract asks for every trait, and a role denies a quarter of what is allowed."""
    files = {
        n: t for n, t in read_folder(policies_folder(load_settings(environ={}))).items() if not n.startswith("tests/")
    }
    files |= read_folder(OWN_POLICIES)
    catalogue = load(files)
    names = [purpose.name for purpose in catalogue.purposes.values()]
    contracts = []
    for number in range(1, destinations + 1):
        head = _CONTRACT.format(number=number, purposes=", ".join(f'"{name}"' for name in names))
        contracts.append(head + "".join(f'{trait} = ["reveal"]\n' for trait in catalogue.traits))
    cells = [
        (f"d:bench-{number}", f"trait:{trait.name}", catalogue.purpose_by_number[purpose].name)
        for number in range(1, destinations + 1)
        for trait in catalogue.traits.values()
        for purpose in bits(trait.purposes)
    ]
    lines = [f"g, d:bench-{number}, r:outside" for number in range(1, destinations + 1)]
    lines += [f"p, {', '.join(cell)}, reveal, allow" for cell in cells]
    lines += [
        f"p, r:outside, {thing}, {purpose}, reveal, deny"
        for _, thing, purpose in cells[: len(cells) // destinations : 4]
    ]
    unmet = [f"p, {', '.join(cell)}, {other}, deny" for other in ("mask", "pseudonym") for cell in cells]
    lines += unmet[: max(0, rules - len(lines) + destinations)]
    files["destinations.toml"] = "\n".join(contracts)
    files[GATE_RULES] = "\n".join(lines) + "\n"
    return files


def space(catalogue: Catalogue) -> list[Cell]:
    """Every question that can be asked about a trait in clear."""
    return [
        (contract.number, contract.name, trait.number, f"trait:{trait.name}", purpose.number, purpose.name)
        for contract, trait, purpose in product(
            catalogue.contracts.values(), catalogue.traits.values(), catalogue.purposes.values()
        )
    ]


async def run(options: Options) -> Report:
    """The enforcer is asked once about everything, the table again and again."""
    report = Report("gate", options)
    files = policies(options.rules, DESTINATIONS if options.rules >= RULES else 2)
    catalogue = load(files)
    started = time.perf_counter()
    gate = Gate.compile(catalogue, policy=1)
    report.figures["compile_seconds"] = round(time.perf_counter() - started, 2)
    problems = Problems()
    rules = read_gate(
        files, catalogue.contracts, catalogue.rule_objects, catalogue.purposes, vocabulary(catalogue), problems
    )
    oracle = Oracle.of_gate(rules)
    cells = space(catalogue)
    report.say(f"asking the enforcer {len(cells)} times at {len(rules.rules)} rules")
    started = time.process_time()
    asked = [oracle.gives(name, thing, purpose, "reveal") for _, name, _, thing, _, purpose in cells]
    enforcer = (time.process_time() - started) / len(cells)
    told = [gate.transform_for(one, number, purpose) == "reveal" for one, _, number, _, purpose, _ in cells]
    report.figures["rules"] = len(rules.rules)
    report.figures["decisions_compared"] = len(cells)
    report.figures["differences"] = sum(a != b for a, b in zip(asked, told, strict=True))
    report.figures["allowed"] = sum(asked)
    table = statistics.median(_table(gate, cells) for _ in range(max(1, options.rounds)))
    report.figures["enforcer_us"] = round(enforcer * 1e6, 1)
    report.figures["table_us"] = round(table * 1e6, 4)
    report.figures["ratio_enforcer"] = round(enforcer / table)
    return report


def _table(gate: Gate, cells: list[Cell]) -> float:
    """CPU seconds a decision, the loop's own cost included."""
    questions = [(one, number, purpose) for one, _, number, _, purpose, _ in cells]
    ask, count = gate.transform_for, 0
    started = time.process_time()
    while time.process_time() - started < TABLE_SECONDS:
        for one, number, purpose in questions:
            ask(one, number, purpose)
        count += len(questions)
    return (time.process_time() - started) / count
