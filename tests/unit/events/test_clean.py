"""What a JSON parser may see: claims about depth, encoding and bare NaN."""

import contextlib
import json
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import Invalid
from vault.events.clean import MAX_DEPTH, MAX_NESTS, scan, tolerate_nan
from vault.events.decode import keys_in, mend, write_key_of


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


def _steps(work: Callable[[], object]) -> int:
    """How many functions are called, of Python's or of C's: what holds up everybody else is a step for each thing found."""
    count = 0

    def counted(_frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        with contextlib.suppress(Invalid):
            work()
    finally:
        sys.setprofile(None)
    return count


SIZE = 500_000
WORST: dict[str, bytes] = {
    "empty strings": b'NaN"' + b'"' * SIZE,
    "short strings": b"NaN" + b'"a",' * (SIZE // 4),
    "numbers that are none": b"[" + b"NaN," * (SIZE // 4) + b"1]",
    "escapes": b'[NaN,"' + rb"\a" * (SIZE // 2) + b'"]' + b"[]" * 40,
    "escaped quotes": b'[NaN,"' + rb"\"" * (SIZE // 2) + b'"]' + b"[]" * 40,
    "escaped backslashes": b'[NaN,"' + rb"\\" * (SIZE // 2) + b'"]' + b"[]" * 40,
    "a string without end": b'NaN"' + rb"\a" * (SIZE // 2),
    "halves": b'["' + rb"\ud83d" * (SIZE // 6) + b'"]',
    "halves and escapes": b'["' + rb"\ud83d\a\\" * (SIZE // 10) + b'"]',
    "whole surrogates": b'["' + rb"\ud83d\ude00" * (SIZE // 12) + b'"]',
    "31 levels": b"[" + (b"[" * 30 + b"]" * 30 + b",") * (SIZE // 61) + b"1]",
    "flat lists": b"[" + b"[]," * (SIZE // 3) + b"1]",
    "brackets in strings": b'["' + b'[","' * (SIZE // 4) + b'"]',
    "brackets that do not pair": b"[}" * (SIZE // 2),
    "keys": b"{" + b'"writeKey":"a",' * (SIZE // 15) + b'"b":1}',
}


@pytest.mark.parametrize("body", WORST.values(), ids=list(WORST))
def test_g7_half_a_megabyte_of_anything_is_judged_without_a_step_for_each_thing_in_it(body: bytes) -> None:
    """Who shows no key could have had the whole server stand still for half a second with two kilobytes of gzip."""
    for work in (scan, tolerate_nan, mend, keys_in, write_key_of):
        assert _steps(partial(work, body)) < 100, work.__name__


def test_g7_a_body_of_nothing_but_brackets_is_refused_unread() -> None:
    for body in (b"[" + b"[]," * MAX_NESTS + b"1]", b'{"a":' + b"[{}]," * (MAX_NESTS // 2) + b"1}"):
        with pytest.raises(Invalid) as refused:
            scan(body)
        assert refused.value.reason == "too_deep"
    scan(b"[" + b"[]," * (MAX_NESTS - 1) + b"1]")


@given(
    _JSON.map(json.dumps).flatmap(lambda text: st.tuples(st.just(text), st.sampled_from(["NaN", "-Infinity", "\\"])))
)
def test_what_stands_in_strings_is_left_as_it_is(case: tuple[str, str]) -> None:
    text, word = case
    value = [json.loads(text), word, {word: word}]
    body = json.dumps([*value, float("nan")], ensure_ascii=False).encode()
    assert json.loads(tolerate_nan(body)) == [*value, None]
