"""A fair sample of what `make faults` does to all: another one every day, the same all day (threats D7, H9, H10, B8, D1)."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import ALL, chosen, makes_sense, shares, strikes
from tests.faults.boundary import KINDS
from tests.faults.oracle import without_replays
from vault.clock import Micros
from vault.consent.ledger import Authority, Choice, Decision, How

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "sql before A",
    "sql after A",
    "sql before B",
    "sql after B",
    "file before pwrite",
    "file half pwrite",
    "http before",
)


def run(module: str, *arguments: str) -> dict[str, Any]:
    """The harness forks, so it runs in a process without threads of anybody else."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{module} {' '.join(arguments)}: {done.stderr[-6000:]}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_d7_h9_h10_a_journey_struck_anywhere_ends_as_one_that_was_not() -> None:
    seed = time.strftime("%Y-%m-%d")
    answer = run("tests.faults", "--pick", "12", "--lanes", "1", "--seed", seed)
    print(answer)
    assert answer["findings"] == 0
    assert answer["faults"] + answer["missed"] == 12
    assert answer["faults"] >= 10, "the boundaries of a journey are not where they were a moment ago"


@pytest.mark.slow
def test_b8_d1_g10_sixteen_writers_of_the_same_people_end_as_one_writer_does() -> None:
    answer = run("tests.faults.writers", "--orders", "240", "--seed", time.strftime("%j"))
    assert answer["findings"] == 0


def test_over_all_seeds_every_boundary_is_struck_in_every_way_that_shows_something() -> None:
    every = strikes("ingest", KINDS, NAMES)
    struck = {one for seed in range(200) for one in chosen(every, 3, str(seed))}
    assert struck == set(every)
    assert chosen(every, 3, "a") == chosen(every, 3, "a")
    assert chosen(every, None, "a") == every


def test_a_pick_is_shared_out_evenly_and_whole() -> None:
    given = shares(ALL, 12, "a")
    assert sum(share or 0 for share in given.values()) == 12
    assert set(given.values()) <= {1, 2}
    assert set(shares(ALL, None, "a").values()) == {None}


def said(purpose: int, decision: Decision, how: How = How.API) -> Choice:
    at = Micros(how)
    return Choice(purpose=purpose, decision=decision, how=how, authority=Authority.SERVER, said_at=at, received_at=at)


def test_a_replay_is_folded_into_the_act_that_follows_it_and_one_that_none_follows_shows() -> None:
    undisturbed, none = without_replays([said(6, Decision.WITHDRAWN), said(6, Decision.GRANTED)])
    replayed = said(6, Decision.WITHDRAWN, How.REPLAYED)
    found, times = without_replays([replayed, said(6, Decision.DENIED), said(6, Decision.GRANTED)])
    assert (found, len(times), len(none)) == (undisturbed, 1, 0)
    assert without_replays([replayed])[0] == [[6, Decision.WITHDRAWN, How.REPLAYED]]
    assert len(without_replays([replayed, said(7, Decision.DENIED)])[0]) == 2  # another purpose is another act
    assert len(without_replays([replayed, replayed, said(6, Decision.DENIED)])[0]) == 2  # and twice is not once


def test_what_shows_nothing_new_is_not_struck() -> None:
    assert not makes_sense("kill", "sql before B", "sql after A")
    assert makes_sense("kill", "sql before A", "file after fsync")
    assert makes_sense("kill", "file half pwrite", "")
    assert not makes_sense("postmaster", "file half pwrite", "")
    assert not makes_sense("cancel", "file before fsync", "")
    assert not makes_sense("backend", "http before", "")
