"""Claims about archives: escaped for each place, nothing told by names, sealed for one request."""

import csv
import io
import json
import re
import zipfile
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import Unreadable
from vault.rights.archive import (
    Table,
    csv_bytes,
    open_archive,
    pack,
    page,
    plain_cell,
    safe_cell,
    seal_archive,
)

KEY = bytes(range(32))
REQUEST = UUID("0192f0c0-0000-7000-8000-000000000001")
FORMULA_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(answer=st.dictionaries(st.text(), json_values, max_size=4))
def test_data_json_gives_the_answer_back(answer: dict[str, Any]) -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack("Your data", answer)))
    assert archive.namelist() == ["data.json", "index.html"]
    assert json.loads(archive.read("data.json")) == answer


def test_numbers_keep_their_decimals() -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack("Your data", {"sum": Decimal("1743351.930")})))
    assert b"1743351.930" in archive.read("data.json")


@given(text=st.text(alphabet="<>&\"'/=abc!-"), key=st.text(alphabet="<>&\"'ab"))
def test_g19_no_value_and_no_name_becomes_markup(text: str, key: str) -> None:
    html = page(
        text,
        {
            key: text,
            "rows": [{key: text}, {"other": [text]}],
            "deep": [{key: text, "more": [{"a": text, "b": 1, "c": 2, "d": [text]}]}],
            "map": {key: {key: text}},
        },
    )
    body = html.partition("<body>")[2]
    known = (
        "h1",
        "h2",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "p",
        "span",
        "div",
        "strong",
    )
    for part in body.split("<")[1:]:
        name = part.partition(">")[0].strip("/")
        assert name in (*known, "body", "html") or re.fullmatch(r'td class="more" colspan="\d+"', name), name


def test_a_page_says_none_yes_no_and_nothing_for_what_is_empty() -> None:
    html = page("x", {"a": [], "b": {}, "c": None, "d": True, "e": False, "f": 3, "g": ["one", "two"]})
    assert html.count("None.") == 2
    for shown in (
        "<span>-</span>",
        "<span>yes</span>",
        "<span>no</span>",
        "<span>3</span>",
        "<li><span>two</span></li>",
    ):
        assert shown in html


def test_a_table_within_a_table_stands_below_its_row_and_a_few_words_within_it() -> None:
    deep = {"at": "t", "purpose": "marketing", "basis": "consent", "fields": [{"kind": "trait", "name": "email"}]}
    html = page("x", {"recipients": [{"recipient": "Ads Inc.", "disclosures": [deep], "country": None}]})
    assert '<tr><td><span>Ads Inc.</span></td><td><span>-</span></td></tr><tr><td class="more" colspan="2">' in html
    assert "<td><ul><li>kind: trait, name: email</li></ul></td>" in html


@given(text=st.text())
def test_g25_a_cell_is_never_a_formula_and_gives_its_text_back(text: str) -> None:
    cell = safe_cell(text)
    assert plain_cell(cell) == text
    assert not cell.lstrip(' \u00a0\u3000"').startswith(FORMULA_FIRST)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", ' "=1', "'=1", "|calc"]
)
def test_g25_what_a_spreadsheet_would_run_stands_behind_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == "'" + text


@given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_a_table_reads_back_as_rfc_4180(rows: list[tuple[str, str]]) -> None:
    content = csv_bytes(Table("t", ("a", "b"), tuple(rows)))
    back = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert back[0] == ["a", "b"]
    assert [tuple(plain_cell(cell) for cell in row) for row in back[1:]] == rows


def test_a_sealed_archive_opens_with_its_key_for_its_request_only() -> None:
    content = pack("Your data", {"email": "ada@example.com"})
    sealed = seal_archive(KEY, REQUEST, content)
    assert open_archive(KEY, REQUEST, sealed) == content
    for key, request, blob in (
        (bytes(32), REQUEST, sealed), (KEY, UUID(int=1), sealed), (KEY, REQUEST, b""), (KEY, REQUEST, b"\x02" + sealed[1:]),
    ):  # fmt: skip
        with pytest.raises(Unreadable):
            open_archive(key, request, blob)


def test_a_table_shows_nothing_of_itself() -> None:
    assert "ada" not in repr(Table("traits", ("value",), (("ada@example.com",),)))
