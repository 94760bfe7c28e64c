"""`make faults`: boundaries, storm, import and writers, one after the other. Ends with one JSON line; 1 if anything was found."""

import json
import subprocess
import sys
from typing import Any, Final

RUNS: Final = (
    ("boundaries", ("tests.faults",)),
    ("storm", ("tests.faults.storm", "--kills", "500")),
    ("import", ("tests.faults.storm", "--scenario", "import")),
    ("writers", ("tests.faults.writers",)),
)


def main() -> int:
    """Every part, whatever an earlier one found."""
    total: dict[str, Any] = {"findings": 0}
    for name, (module, *arguments) in RUNS:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=False
        )
        try:
            answer = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            answer = {"findings": 1, "fault": f"{name} ended with {done.returncode} and without a word"}
        print(name, json.dumps(answer), file=sys.stderr, flush=True)
        total[name] = answer
        total["findings"] += answer["findings"]
    print(json.dumps(total))
    return 1 if total["findings"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
