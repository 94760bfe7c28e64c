"""What an Authorization header says."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auth import basic_username, bearer, bearer_or_basic


def _basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER   abc ", " Bearer abc"])
def test_a_bearer_token_is_read(header: str) -> None:
    assert bearer(header) == "abc"
    assert bearer_or_basic(header) == "abc"


@pytest.mark.parametrize("text", ["key:", "key", "key:password", "key:a:b"])
def test_the_user_name_of_basic_is_the_secret_with_or_without_colon(text: str) -> None:
    assert basic_username(_basic(text)) == "key"
    assert bearer_or_basic(_basic(text)) == "key"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic !!!",
        _basic(""),
        _basic(":secret"),
        _basic("kä:"),
        "abc",
        "Token abc",
    ],
)
def test_anything_else_is_no_credential(header: str | None) -> None:
    assert bearer_or_basic(header) is None


def test_a_header_of_a_megabyte_is_no_credential() -> None:
    assert bearer("Bearer " + "a" * 1_000_000) is None


def test_the_forms_are_not_mixed_up() -> None:
    assert bearer(_basic("key:")) is None
    assert basic_username("Bearer key") is None


@given(st.text())
def test_no_header_raises(header: str) -> None:
    for text in (header, f"Basic {header}", f"Bearer {header}"):
        bearer_or_basic(text)
