"""Names that may be counted."""

import pytest

from vault.events.message import UNFIT, fit_name


@pytest.mark.parametrize("name", ["Order Completed", "a", "A.b_c:d-e", "x" * 80, "Viewed 12345 times", "v2"])
def test_what_looks_like_a_name_is_counted_by_it(name: str) -> None:
    assert fit_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        " a",
        "1a",
        "x" * 81,
        "ada@example.com",
        "order 123456",
        "a1234567",
        "Ändern",
        "a\n",
        "a\tb",
        "a/b",
        "a\u202eb",
        "a١٢٣٤٥٦",
        "Hello, Ada",
        "a\x00",
    ],
)
def test_what_could_be_a_value_in_the_wrong_place_is_not_shown(name: str | None) -> None:
    assert fit_name(name) == UNFIT
