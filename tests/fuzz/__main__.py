"""`make fuzz`: requests made from our own document, and bodies bent out of shape, against a real vault. Ends in one JSON line.

    python -m tests.fuzz --cases 100000 [--seed 7]

Half of the cases come from the document, half are bent. Ends with 1 if anything was found; a finding tells how to do it again,
and the same seed sends the same cases.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz import mutate, schema
from tests.fuzz.stage import stage
from vault.storage import embedded
from vault.storage.migrate import migrate
from vault.storage.session import Database

MAX_SEED = 2**32
ROUND = 2_000  # cases after which the seed moves on: a generator asked for everything at once repeats itself


async def _migrate(url: str) -> None:
    database = await Database.open(url)
    try:
        await migrate(database)
    finally:
        await database.close()


def main() -> int:
    asked = argparse.ArgumentParser(prog="fuzz")
    asked.add_argument("--cases", type=int, default=100_000)
    asked.add_argument("--seed", type=int, default=secrets.randbelow(MAX_SEED))
    given = asked.parse_args()
    print(f"seed {given.seed}", file=sys.stderr)  # noqa: T201 - before anything can go wrong
    warnings.simplefilter("ignore")  # what generators say about themselves
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pv-fuzz-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root, the database server's user may pass through, and no further
        held = embedded.start(folder / "server")
        try:
            asyncio.run(_migrate(held.url()))
            with stage(held.url(), folder) as door:
                seed = given.seed
                while door.cases < given.cases:
                    some = min(ROUND, given.cases - door.cases)
                    schema.fuzz(door, some // 2, seed)
                    mutate.fuzz(door, max(2, some - some // 2), seed)
                    seed += 2
                    print(f"{door.cases} cases, {door.count} findings", file=sys.stderr)  # noqa: T201
                door.settle()
        finally:
            held.release()
            embedded.remove(folder / "server")
    for finding in door.findings:
        print(json.dumps(finding), file=sys.stderr)  # noqa: T201
    told = {
        "bench": "fuzz",
        "cases": door.cases,
        "findings": door.count,
        "seed": given.seed,
        "statuses": {str(status): count for status, count in sorted(door.statuses.items())},
        "error_texts": len(door.error_texts),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(told))  # noqa: T201
    return 1 if door.count else 0


if __name__ == "__main__":
    sys.exit(main())
