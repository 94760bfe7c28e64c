"""Every boundary of every journey, struck in every way: `python -m tests.faults`. One JSON line at the end.

    python -m tests.faults --journeys ingest,erasure --how kill --sample 40 --seed 7

Trials are dealt to `--lanes` processes, each with a database server of its own. A `--sample` is chosen by a hash of the
seed and the trial's name, so that over several seeds every boundary is struck.
"""

import argparse
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tests.faults.boundary import KINDS
from tests.faults.journeys import JOURNEYS
from tests.faults.stage import Stage, stage
from tests.faults.trial import START_JOURNEY, Report, Strike, baseline, prepare, trial

ALL: Final = (*JOURNEYS, START_JOURNEY)


class Tally(msgspec.Struct):
    """What one lane found."""

    boundaries: dict[str, int] = {}
    struck: dict[str, dict[str, int]] = {}  # journey, how: trials that were struck
    missed: int = 0  # trials that ended before they came to their boundary
    findings: list[str] = []


def strikes(journey: str, how: Sequence[str], names: Sequence[str]) -> list[Strike]:
    """Every way in which the boundaries of a journey can be struck."""
    return [
        Strike(journey, kind, at)
        for kind in how
        for at, name in enumerate(names)
        if makes_sense(kind, name, names[at - 1] if at else "")
    ]


def makes_sense(how: str, name: str, before: str) -> bool:
    """Whether striking there shows what striking at the boundary before it does not."""
    match how:
        case "kill":  # between an answer and the next statement nothing changes that outlives the process
            return not (name.startswith("sql before") and before.startswith("sql after"))
        case "backend":
            return name.startswith("sql")
        case "cancel":
            return name.startswith(("sql", "http"))
        case _:  # half a write is left by a process that dies only
            return not name.startswith("file half")


def chosen(strikes_: Sequence[Strike], size: int | None, seed: str) -> list[Strike]:
    """`size` of them, by hash; all without a size."""
    if size is None:
        return list(strikes_)

    def rank(one: Strike) -> bytes:
        return hashlib.sha256(f"{seed} {one.journey} {one.how} {one.at}".encode()).digest()

    return sorted(strikes_, key=rank)[:size]


def shares(journeys: Sequence[str], pick: int | None, seed: str) -> dict[str, int | None]:
    """How many trials each journey gets of `pick`: as evenly as it goes, the odd ones by hash. Without it: as many as it has."""
    if pick is None:
        return dict.fromkeys(journeys)
    ranked = sorted(journeys, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return {name: pick // len(ranked) + (place < pick % len(ranked)) for place, name in enumerate(ranked)}


def run(made: Stage, options: Any, lane: int) -> Tally:
    """One lane's share of all trials."""
    tally = Tally()
    prepare(made)
    for journey, share in shares(options.journeys, options.pick, options.seed).items():
        if share == 0:
            continue
        whole: Report = baseline(made, journey)
        tally.boundaries[journey] = len(whole.names)
        every = chosen(
            strikes(journey, options.how, whole.names), options.sample if share is None else share, options.seed
        )
        for strike in every[lane :: options.lanes]:
            began = time.monotonic()
            verdict = trial(made, strike, whole)
            if options.verbose:
                spent = time.monotonic() - began
                print(
                    f"{journey} {strike.how} {strike.at} {spent:.1f}s {whole.names[strike.at or 0]}",
                    file=sys.stderr,
                    flush=True,
                )
            if verdict.struck:
                counts = tally.struck.setdefault(journey, {})
                counts[strike.how] = counts.get(strike.how, 0) + 1
            else:
                tally.missed += 1
            name = whole.names[strike.at or 0]
            tally.findings += [f"{journey} {strike.how} {strike.at} ({name}): {fault}" for fault in verdict.faults]
            for fault in verdict.faults:
                print(f"FINDING {journey} {strike.how} {strike.at} ({name}): {fault}", file=sys.stderr, flush=True)
        print(f"lane {lane}: {journey} done, {tally.struck.get(journey)}", file=sys.stderr, flush=True)
    return tally


def lanes(options: Any) -> Tally:
    """All lanes at once, each in a process of its own."""
    pipes = []
    for lane in range(options.lanes):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with stage() as made:
                    data = msgspec.json.encode(run(made, options, lane))
                while data:
                    data = data[os.write(writing, data) :]
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        pipes.append((child, reading))
    total = Tally()
    for child, reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        if not data:
            total.findings.append("a lane ended without a word")
            continue
        part = msgspec.json.decode(data, type=Tally)
        total.boundaries |= part.boundaries
        total.missed += part.missed
        total.findings += part.findings
        for journey, counts in part.struck.items():
            known = total.struck.setdefault(journey, {})
            for how, count in counts.items():
                known[how] = known.get(how, 0) + count
    return total


def main() -> int:
    """Ends with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--journeys", type=lambda text: text.split(","), default=list(ALL))
    parser.add_argument("--how", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--sample", type=int, help="trials a journey; without it, all")
    parser.add_argument("--pick", type=int, help="trials altogether")
    parser.add_argument("--seed", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", action="store_true", help="tell each trial")
    options = parser.parse_args()
    tally = lanes(options)
    answer = {
        "scenario": "boundaries",
        "faults": sum(sum(counts.values()) for counts in tally.struck.values()),
        "findings": len(tally.findings),
        "seed": options.seed,
        "boundaries": tally.boundaries,
        "struck": tally.struck,
        "missed": tally.missed,
    }
    print(json.dumps(answer))
    return 1 if tally.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
