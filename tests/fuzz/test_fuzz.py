"""The fuzzers, for as many cases as CI has time for; `make fuzz` goes on from here. Each run has a seed of its own."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import build
from api.openapi import complete
from tests.fuzz import mutate, schema
from tests.fuzz.naughty import TEXTS
from tests.fuzz.places import places
from tests.fuzz.stage import Stage, stage
from vault.ids import random_bytes
from vault.storage import embedded

CASES = 2_000
BENT = 600
SEED = int(os.environ.get("FUZZ_SEED") or int.from_bytes(random_bytes(4)))


@pytest.fixture
def door(database_url: str, tmp_path: Path, server: embedded.Server) -> Iterator[Stage]:
    with stage(database_url, tmp_path) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what generators say about themselves
        yield made


def _nothing_found(door: Stage) -> None:
    door.settle()
    assert door.findings == [], f"FUZZ_SEED={SEED}"


@pytest.mark.slow
def test_g1_g16_requests_made_from_our_own_document_are_answered_as_it_says(door: Stage) -> None:
    schema.fuzz(door, CASES, SEED)
    _nothing_found(door)
    assert door.cases > CASES * 0.8  # some operations have nothing that could be wrong about them
    assert {200, 400, 401, 403, 404} <= set(door.statuses)
    assert len(door.error_texts) > 10


@pytest.mark.slow
def test_g1_g16_bodies_bent_out_of_shape_and_texts_that_broke_others_break_nothing_here(door: Stage) -> None:
    mutate.fuzz(door, BENT, SEED)
    _nothing_found(door)
    assert door.cases == BENT
    assert {200, 400, 401} <= set(door.statuses)


def test_a_finding_is_found(door: Stage) -> None:
    """What would be found if an answer held what was sent, or was no answer of ours."""
    door.ask("GET", "/v1/purposes", [], b"", who="server", label="fine")
    assert door.count == 0
    door.app.state.vault = object()  # no handler can run
    door.ask("GET", "/v1/purposes", [], b"", who="server", label="broken")
    assert [one["what"] for one in door.findings] == ["status 500"]


def test_texts_and_places_are_many_and_every_door_has_one() -> None:
    assert len(TEXTS) >= 100
    covered = {target.split("?")[0] for _, _, target, _, _ in places()}
    doors = complete(build().openapi_schema.to_schema())["paths"]
    for path in doors:
        if "{" in path:
            start, end = path.split("{")[0], path.rpartition("}")[2]
            assert any(one.startswith(start) and one.endswith(end) for one in covered), path
