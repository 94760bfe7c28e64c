"""What a JSON parser may see: claims about depth, encoding and bare NaN."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import Invalid
from vault.events.clean import MAX_DEPTH, scan, tolerate_nan


@pytest.mark.parametrize("body", [b"\xff", b'{"a":"\xc3\x28"}', b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b'"\xc0\xaf"'])
def test_g1_bytes_that_are_not_utf8_are_refused_and_the_error_does_not_carry_them(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        scan(body)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200_000, id="200,000 open brackets"),
        pytest.param(b'{"a":' * 5_000 + b"1" + b"}" * 5_000, id="5,000 objects"),
        pytest.param(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), id="one too many"),
        pytest.param(b'["]",' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]", id="bracket in a string"),
        pytest.param(b'["\\"]]]]",' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]", id="quote in a string"),
    ],
)
def test_g2_what_nests_too_deep_is_refused_before_a_parser_sees_it(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        scan(body)
    assert refused.value.reason == "too_deep"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, id="just deep enough"),
        pytest.param(json.dumps(["[[[[{{{{" * 20, '\\"[', {"]": "}" * 90}] * 50).encode(), id="brackets in strings"),
        pytest.param(json.dumps([{"a": [1, {}]}] * 1000).encode(), id="wide"),
        pytest.param(b'["a","b",' + b'["\\\\"],' * 50 + b"1]", id="escaped backslashes"),
    ],
)
def test_g2_what_is_flat_enough_passes_whatever_its_strings_hold(body: bytes) -> None:
    scan(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a,:ü'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[]{}"\\'), inner, max_size=4),
    max_leaves=80,
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(_JSON, st.integers(0, MAX_DEPTH + 4))
def test_g2_the_scan_agrees_with_a_parser_about_the_depth_of_any_json(value: object, wrapped: int) -> None:
    for _ in range(wrapped):
        value = [value, "[["]
    body = json.dumps(value, ensure_ascii=False).encode()
    try:
        scan(body)
        passed = True
    except Invalid:
        passed = False
    assert passed is (_depth(value) <= MAX_DEPTH)


def test_bare_nan_becomes_null_and_the_word_in_a_string_stays() -> None:
    body = b'{"a":NaN,"b":-Infinity,"c":Infinity,"d":"NaN \\" Infinity","NaN":1}'
    assert json.loads(tolerate_nan(body)) == {"a": None, "b": None, "c": None, "d": 'NaN " Infinity', "NaN": 1}


@pytest.mark.parametrize("piece", [b'\\"', b'"', b"\\", b"[", b'"[', b"NaN", b'{"a":'])
def test_g2_half_a_megabyte_of_anything_is_judged_in_no_time(piece: bytes) -> None:
    body = b'NaN"' + piece * (500_000 // len(piece))
    started = time.perf_counter()
    tolerate_nan(body)
    with contextlib.suppress(Invalid):
        scan(body)
    assert time.perf_counter() - started < 2  # seconds; in the square of the length it would be minutes
