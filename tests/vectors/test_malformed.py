"""Sealed envelopes that look nearly right, through the parsers that read them in earnest: one error for all (A12, A19).

The corpus was written by a second implementation, tests/vectors/generate_malformed.py; rows of wraps, states, journals and
disclosures have corpora of their own beside it.
"""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vault.changes.cursor import unpack
from vault.errors import Invalid, Unreadable, VaultError
from vault.keys.compartments import Compartment, Wrapped
from vault.policy.permit import _issue
from vault.profile.sealing import open_event, open_fields
from vault.profile.values import parse_fields
from vault.rights.archive import open_archive
from vault.rights.casefile import open_case

HERE = Path(__file__).parent
CORPUS: dict[str, Any] = json.loads((HERE / "malformed.json").read_text())
KEY = bytes.fromhex(CORPUS["key"])
REQUEST = UUID(CORPUS["request"])
PERMIT = _issue(actor="test", purpose=6, objects=None, policy=1, reason="test")


def cases(expected: str) -> list[Any]:
    return [
        pytest.param(one, id=f"{one['format']}-{one['name']}")
        for one in CORPUS["envelopes"]
        if one["expected"] == expected
    ]


def read(one: dict[str, Any]) -> object:
    """As the vault reads it."""
    data = bytes.fromhex(one["bytes"])
    place = Wrapped(bytes.fromhex(CORPUS["compartment_id"]), CORPUS["purposes"], CORPUS["generation"], bytes(32), ())
    compartment = Compartment(UUID(CORPUS["subject"]), place, KEY)
    match one["format"]:
        case "fields":
            return open_fields(compartment, list(zip(*parse_fields(data), strict=True)), PERMIT)
        case "event":
            return open_event(compartment, bytes.fromhex(CORPUS["event_key"]), CORPUS["kind"], data, PERMIT)
        case "casefile":
            return open_case(KEY, REQUEST, data)
        case "archive":
            return open_archive(KEY, REQUEST, data)
        case _:
            return unpack(data.decode(), KEY, CORPUS["destination"], CORPUS["incarnation"])


def outward(error: VaultError) -> tuple[object, ...]:
    """All that a door, a log or a traceback could show of it."""
    return (
        type(error),
        str(error),
        error.reason,
        error.hint,
        error.__cause__,
        error.__suppress_context__ or error.__context__,
    )


def test_the_committed_corpus_is_that_of_the_generator() -> None:
    spec = importlib.util.spec_from_file_location("generate_malformed", HERE / "generate_malformed.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert json.loads(json.dumps(generator.malformed())) == CORPUS


def test_a12_the_corpus_has_far_more_than_sixty_envelopes_and_each_once() -> None:
    bad = [one for one in CORPUS["envelopes"] if one["expected"] == "unreadable"]
    assert len(bad) >= 100
    assert all(count >= 14 for count in Counter(one["format"] for one in bad).values())
    assert len({(one["format"], one["bytes"]) for one in bad}) == len(bad)


@pytest.mark.parametrize("one", cases("valid"))
def test_the_well_formed_ones_open(one: dict[str, Any]) -> None:
    """Else the rest would show nothing."""
    assert read(one)


@pytest.mark.parametrize("one", cases("unreadable"))
def test_a12_a_malformed_envelope_does_not_open(one: dict[str, Any]) -> None:
    with pytest.raises(Invalid if one["format"] == "cursor" else Unreadable):
        read(one)


@pytest.mark.parametrize("form", ["fields", "event", "casefile", "archive", "cursor"])
def test_a19_whatever_is_wrong_with_an_envelope_its_error_is_the_same(form: str) -> None:
    told = set()
    for case in cases("unreadable"):
        one = case.values[0]
        if one["format"] == form:
            with pytest.raises(VaultError) as caught:
                read(one)
            told.add(outward(caught.value)[:5])
    assert len(told) == 1
