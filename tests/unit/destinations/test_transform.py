"""Claims about the forms in which recipients get values: what fits is changed as promised, what does not is withheld."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.destinations.normal import Form, form_of
from vault.destinations.transform import Kind, Transform, compile_transform, named, numbered
from vault.errors import Invalid

FORMS: tuple[Form, ...] = ("email", "phone", "name", "text")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["reveal", "mask", "sha256:google", "sha256:meta", "pseudonym", "year", "prefix:3", "round:10"]


def shown(name: str, value: Any, form: Form = "text") -> Any:
    raw = compile_transform(named(name), form)(json.dumps(value).encode())
    return None if raw is None else json.loads(raw)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_reveal_gives_the_very_bytes() -> None:
    raw = b'{"a": 1.10, "b": [1e2]}'
    assert compile_transform(named("reveal"), "text")(raw) is raw


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_out_of_null(name: str) -> None:
    for form in FORMS:
        assert compile_transform(named(name), form, lambda _: "p")(b"null") is None


@pytest.mark.parametrize(
    ("address", "google", "meta"),
    [
        (" Ada@Example.COM ", "ada@example.com", "ada@example.com"),
        ("a.d.a+shop@gmail.com", "ada+shop@gmail.com", "a.d.a+shop@gmail.com"),
        ("a.d.a@googlemail.com", "ada@googlemail.com", "a.d.a@googlemail.com"),
        ("a.d.a@notgmail.com", "a.d.a@notgmail.com", "a.d.a@notgmail.com"),
    ],
)
def test_an_email_is_hashed_in_the_receivers_own_normal_form(address: str, google: str, meta: str) -> None:
    assert shown("sha256:google", address, "email") == sha256(google)
    assert shown("sha256", address, "email") == sha256(google)
    assert shown("sha256:meta", address, "email") == sha256(meta)


@pytest.mark.parametrize("number", ["+49 (0)171 123-4567", "+491711234567", "0049 171 1234567"])
def test_a_phone_keeps_its_plus_for_google_and_loses_it_for_meta(number: str) -> None:
    assert shown("sha256:google", number, "phone") == sha256("+491711234567")
    assert shown("sha256:meta", number, "phone") == sha256("491711234567")


@pytest.mark.parametrize("number", ["0171 1234567", "171", "+", "+1", "call me", "+49" + "1" * 30, 491711234567])
def test_a_phone_without_its_country_is_withheld_and_never_guessed(number: object) -> None:
    assert shown("sha256:google", number, "phone") is None
    assert shown("sha256:meta", number, "phone") is None


def test_what_looks_like_a_hash_is_no_email_and_is_not_passed_through() -> None:
    assert shown("sha256:google", sha256("ada@example.com"), "email") is None
    assert shown("sha256:meta", sha256("ada@example.com"), "email") is None


@pytest.mark.parametrize(
    "bad", ["", " ", "@", "a@", "@b.com", "a@b", "a b@c.com", "a@b@c.com", "a@b..com", 5, True, [], {}]
)
def test_what_is_no_email_is_not_hashed_as_one(bad: object) -> None:
    assert shown("sha256:google", bad, "email") is None
    assert shown("sha256:meta", bad, "email") is None


def test_names_are_trimmed_and_lowered_before_hashing() -> None:
    assert shown("sha256:meta", " Åda ", "name") == sha256("åda")


@pytest.mark.parametrize(
    ("value", "form", "masked"),
    [
        ("Ada.Lovelace@Example.co.uk", "email", "a***@e***.uk"),
        ("x@y.zz", "email", "x***@y***.zz"),
        ("not an address", "email", "***"),
        ("+49 171 1234589", "phone", "***89"),
        ("12345", "phone", "***"),
        ("Ada", "name", "***"),
        (1815, "text", "***"),
        (True, "text", "***"),
    ],
)
def test_a_mask_lets_one_recognise_and_not_learn(value: object, form: Form, masked: str) -> None:
    assert shown("mask", value, form) == masked


@given(st.text(min_size=2), st.sampled_from(["name", "text"]))
def test_a_masked_text_tells_nothing_not_even_its_length(value: str, form: Form) -> None:
    assert shown("mask", value, form) == "***"


@pytest.mark.parametrize(
    ("value", "year"),
    [
        ("1815-12-10", 1815), ("2026-11-23T20:20:42.123Z", 2026), ("2026-11-23T20:20:42+02:00", 2026),
        ("1815", None), ("10.12.1815", None), (1815, None), ("2026-13-01", None), ("", None),
    ],
)  # fmt: skip
def test_year_takes_a_date_and_nothing_else(value: object, year: int | None) -> None:
    assert shown("year", value) == year


@pytest.mark.parametrize(
    ("value", "prefix"), [("20095", "200"), ("2009", "200"), ("200", None), ("", None), (20095, None)]
)
def test_a_prefix_is_never_the_whole(value: object, prefix: str | None) -> None:
    assert shown("prefix:3", value) == prefix


@pytest.mark.parametrize(
    ("raw", "rounded"),
    [
        (b"14", 10), (b"15", 20), (b"25", 20), (b"25.0000000000000000001", 30), (b"-14.9", -10), (b"0.1", 0),
        (b"true", None), (b'"14"', None), (b"1e400", None), (b"123456789012345678904", 123456789012345678900),
    ],
)  # fmt: skip
def test_round_gives_the_nearest_multiple_of_the_exact_number(raw: bytes, rounded: int | None) -> None:
    changed = compile_transform(named("round:10"), "text")(raw)
    assert (None if changed is None else json.loads(changed)) == rounded


def test_a_pseudonym_takes_the_place_of_the_value() -> None:
    apply = compile_transform(named("pseudonym"), "text", lambda raw: f"p{len(raw)}")
    assert apply(b'"ada"') == b'"p5"'
    assert compile_transform(named("pseudonym"), "text")(b'"ada"') is None


@given(JSON, st.sampled_from([n for n in NAMES if n != "reveal"]), st.sampled_from(FORMS))
def test_no_json_value_breaks_a_transform(value: object, name: str, form: Form) -> None:
    changed = compile_transform(named(name), form, lambda _: "p")(json.dumps(value).encode())
    assert changed is None or json.loads(changed) is not None


@given(st.binary(max_size=40), st.sampled_from([n for n in NAMES if n not in ("reveal", "pseudonym")]))
def test_bytes_that_are_no_json_are_withheld(raw: bytes, name: str) -> None:
    try:
        json.loads(raw)
    except ValueError:
        assert compile_transform(named(name), "text")(raw) is None


@pytest.mark.parametrize("name", NAMES)
def test_names_and_stored_numbers_are_one(name: str) -> None:
    assert named(name).name == name
    assert numbered(named(name).number) == named(name)


def test_stored_numbers_never_change() -> None:
    expected = {"reveal": 0x100, "mask": 0x200, "sha256:google": 0x300, "sha256:meta": 0x400, "pseudonym": 0x500,
                "year": 0x600, "prefix:3": 0x703, "round:10": 0x80A}  # fmt: skip
    assert {name: named(name).number for name in NAMES} == expected
    assert numbered(0x703) == Transform(Kind.PREFIX, 3)


@pytest.mark.parametrize(
    "word", ["", "hash", "prefix", "prefix:0", "prefix:256", "prefix:x", "round:-1", "reveal:1", "prefix:²"]
)
def test_another_word_is_no_transform(word: str) -> None:
    with pytest.raises(Invalid):
        named(word)


@pytest.mark.parametrize("number", [0, 0x101, 0x700, 0x900])
def test_another_number_is_no_transform(number: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        numbered(number)


def test_the_form_follows_from_the_data_category() -> None:
    assert form_of("user.contact.email") == "email"
    assert form_of("user.contact.phone_number") == "phone"
    assert form_of("user.name.first") == "name"
    assert form_of("user.behavior.purchase_history") == "text"
