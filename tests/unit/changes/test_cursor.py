"""Cursors: only the vault makes one, for one destination and one life of the database (threats G15, H20)."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.changes.cursor import Cursor, pack, unpack
from vault.errors import Gone, Invalid

KEY = bytes(range(32))
HERE = "0123456789abcdef0123456789abcdef"
ELSEWHERE = "f" * 32
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/cursor.json").read_text())

cursors = st.builds(
    Cursor,
    destination=st.integers(0, 2**32 - 1),
    incarnation=st.just(HERE),
    policy=st.binary(min_size=8, max_size=8),
    number=st.integers(0, 2**63 - 1),
    snapshot=st.booleans(),
)
ONE = Cursor(3, HERE, b"policyAB", 41, snapshot=True)


@given(cursors)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    text = pack(cursor, KEY)
    assert unpack(text, KEY, cursor.destination, HERE) == cursor
    assert len(text) == 94


@given(st.integers(0, 93), st.characters(codec="ascii"))
def test_g15_no_letter_of_a_cursor_can_be_changed(place: int, letter: str) -> None:
    text = pack(ONE, KEY)
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return
    with pytest.raises(Invalid) as refused:
        unpack(changed, KEY, 3, HERE)
    assert refused.value.reason == "cursor_invalid"
    assert changed not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "x", "=" * 94, pack(ONE, KEY) + "=", pack(ONE, KEY)[:-1], pack(ONE, KEY) + "\n", "é" * 94]
)
def test_what_is_not_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        unpack(text, KEY, 3, HERE)


def test_g15_another_destinations_cursor_is_refused_like_a_forged_one() -> None:
    with pytest.raises(Invalid):
        unpack(pack(ONE, KEY), KEY, 4, HERE)
    with pytest.raises(Invalid):
        unpack(pack(ONE, KEY), KEY, 4, ELSEWHERE)  # and never "gone": that would tell that it was once right


def test_a_cursor_under_another_key_is_refused() -> None:
    with pytest.raises(Invalid):
        unpack(pack(ONE, bytes(32)), KEY, 3, HERE)


def test_h20_a_cursor_of_an_earlier_life_of_the_database_is_gone() -> None:
    with pytest.raises(Gone) as refused:
        unpack(pack(ONE, KEY), KEY, 3, ELSEWHERE)
    assert refused.value.reason == "cursor_gone"


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_the_bytes_are_those_of_the_vectors(vector: dict[str, object]) -> None:
    key = bytes.fromhex(str(vector["key"]))
    cursor = Cursor(
        int(str(vector["destination"])),
        str(vector["incarnation"]),
        bytes.fromhex(str(vector["policy"])),
        int(str(vector["number"])),
        snapshot=bool(vector["snapshot"]),
    )
    assert pack(cursor, key) == vector["text"]
    assert unpack(str(vector["text"]), key, cursor.destination, cursor.incarnation) == cursor


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vectors_fail_in_the_way_they_say(vector: dict[str, object]) -> None:
    failure = {"cursor_invalid": Invalid, "cursor_gone": Gone}[str(vector["failure"])]
    with pytest.raises(failure):
        unpack(
            str(vector["text"]),
            bytes.fromhex(str(vector["key"])),
            int(str(vector["destination"])),
            str(vector["incarnation"]),
        )


def test_the_format_page_says_how_long_a_cursor_is() -> None:
    data = base64.urlsafe_b64decode(pack(ONE, KEY) + "==")
    assert len(data) == 70
    assert data[0] == 1
