"""One normal form: strict, written down, and never wider than what people mean."""

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shop import SHOP
from vault.catalogue.identifiers import IdentifierKind
from vault.clock import Micros
from vault.events.decode import decode
from vault.identity.identifiers import MAX_LENGTH, normalise

USER, EMAIL, PHONE, ANONYMOUS = (SHOP.identifiers[name] for name in ("user_id", "email", "phone", "anonymous_id"))
UUID = msgspec.structs.replace(ANONYMOUS, normal_form="uuid")
KINDS = (USER, EMAIL, PHONE, ANONYMOUS, UUID)


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        (USER, "cdnow-00001", b"cdnow-00001"),
        (USER, "  Ada \n", b"Ada"),
        (USER, "José", "José".encode()),
        (USER, "a b", b"a b"),
        (EMAIL, " Ada.Lovelace+shop@Example.COM\t", b"Ada.Lovelace+shop@example.com"),
        (EMAIL, "ADA@example.com", b"ADA@example.com"),
        (EMAIL, "Ä@EXAMPLE.COM", "Ä@example.com".encode()),
        (EMAIL, "a@BÜCHER.example", "a@bÜcher.example".encode()),
        (PHONE, "+49 (30) 1234-5678", b"+493012345678"),
        (PHONE, "+1.202.555.0123", b"+12025550123"),
        (UUID, "507F191E-810C-4297-90DF-A1B2C3D4E5F6", b"507f191e-810c-4297-90df-a1b2c3d4e5f6"),
    ],
)
def test_the_written_forms(kind: IdentifierKind, value: str, form: bytes) -> None:
    assert normalise(kind, value) == form


@pytest.mark.parametrize("kind", [USER, ANONYMOUS])
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "0",
        "0000",
        "-",
        "00000000-0000-0000-0000-000000000000",
        "-1",
        "null",
        "NULL",
        " Null ",
        "undefined",
        "anonymous",
        "unknown",
        "Unknown",
        "void",
    ],
)
def test_b4_filler_identifies_nobody(kind: IdentifierKind, value: str) -> None:
    assert normalise(kind, value) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("ada\u200b", id="zero width space"),
        pytest.param("a\u200dda", id="zero width joiner"),
        pytest.param("\u202eada", id="right-to-left override"),
        pytest.param("\u2066ada\u2069", id="isolate"),
        pytest.param("ada\u00ad", id="soft hyphen"),
        pytest.param("a\u034fda", id="grapheme joiner"),
        pytest.param("ada\ufe0f", id="variation selector"),
        pytest.param("ada\U000e0041", id="tag letter"),
        pytest.param("ada\u3164", id="filler"),
        pytest.param("ada\u00a0b", id="no-break space"),
        pytest.param("ada\u3000", id="ideographic space"),
        pytest.param("ada\u2028", id="line separator"),
        pytest.param("a\x00b", id="null"),
        pytest.param("a\nb", id="line feed within"),
        pytest.param("ada\x7f", id="delete"),
        pytest.param("ada\ue000", id="private use"),
        pytest.param("ada\U000e0fff", id="unassigned"),
        pytest.param("ada\ud800", id="half a surrogate pair"),
    ],
)
@pytest.mark.parametrize("kind", [USER, EMAIL])
def test_b9_text_that_hides_or_reorders_is_no_identifier(kind: IdentifierKind, value: str) -> None:
    assert normalise(kind, value if kind is USER else f"{value}@example.com") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("paypal", "p\u0430ypal", id="Cyrillic a"),
        pytest.param("fiona", "\ufb01ona", id="ligature"),
        pytest.param("strasse", "straße", id="sharp s"),
        pytest.param("s", "\u017f", id="long s"),
        pytest.param("istanbul", "\u0130stanbul", id="dotted capital I"),
        pytest.param("ada", "\uff41\uff44\uff41", id="fullwidth"),
        pytest.param(unicodedata.normalize("NFC", "josé"), unicodedata.normalize("NFD", "josé"), id="NFC and NFD"),
        pytest.param("Ada", "ada", id="case"),
    ],
)
@pytest.mark.parametrize("kind", [USER, EMAIL])
def test_b9_what_looks_alike_is_not_the_same(kind: IdentifierKind, one: str, other: str) -> None:
    tail = "" if kind is USER else "@example.com"
    forms = {normalise(kind, one + tail), normalise(kind, other + tail)}
    assert len(forms) == 2
    assert None not in forms


@pytest.mark.parametrize(
    "value",
    [
        "ada",
        "@example.com",
        "ada@",
        "ada@example",
        "ada@@example.com",
        "a@b@example.com",
        "ada@example.c",
        "a da@example.com",
        "ada@exam ple.com",
        "<ada@example.com>",
        "Ada <ada@example.com>",
        "ada@example.com,b@example.com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "ada@example..com",
        "ada@.example.com",
        '"a b"@example.com',
        "mailto:ada@example.com",
        "ada@[127.0.0.1]",
        "a" * 65 + "@example.com",
        "ada\uff20example.com",
        f"ada@{'e' * 250}.com",
    ],
)
def test_what_is_no_address(value: str) -> None:
    assert normalise(EMAIL, value) is None


@pytest.mark.parametrize(
    "value",
    [
        "030 12345678",
        "0049 30 12345678",
        "+0301234567",
        "+49",
        "+123456",
        "+1234567890123456",
        "+49/30/12345678",
        "tel:+493012345678",
        "+49 30 1234567x8",
        "+\u0664\u0669\u0663\u0660\u0661\u0662\u0663\u0664",
        "+\uff14\uff19301234567",
        "+49_3012345678",
        "++493012345678",
    ],
)
def test_b10_only_e164_in_ascii_digits_is_a_number(value: str) -> None:
    assert normalise(PHONE, value) is None


@pytest.mark.parametrize(
    "value", ["507f191e810c429790dfa1b2c3d4e5f6", "{507f191e-810c-4297-90df-a1b2c3d4e5f6}", "urn:uuid:507f"]
)
def test_a_uuid_has_one_spelling_but_for_case(value: str) -> None:
    assert normalise(UUID, value) is None


def test_a_blocked_value_is_blocked_in_its_normal_form_too() -> None:
    assert normalise(PHONE, "+1 (000) 000-0000") is None
    assert normalise(EMAIL, "Test@TEST.com") is None


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("a" * MAX_LENGTH, True),
        ("a" * (MAX_LENGTH + 1), False),
        ("ä" * (MAX_LENGTH // 2), True),
        ("ä" * MAX_LENGTH, False),
    ],
)
def test_a_limit_counts_bytes(value: str, fits: bool) -> None:
    assert (normalise(USER, value) is not None) is fits


@given(
    st.sampled_from(KINDS),
    st.text(max_size=40) | st.emails() | st.uuids().map(str) | st.from_regex(r"\+[0-9 ()-]{5,20}"),
)
def test_the_normal_form_of_a_normal_form_is_itself(kind: IdentifierKind, value: str) -> None:
    form = normalise(kind, value)
    if form is not None:
        assert normalise(kind, form.decode()) == form


@given(st.text(max_size=20), st.text(max_size=20))
def test_b9_two_exact_forms_are_equal_only_if_the_texts_are_but_for_outer_space(one: str, other: str) -> None:
    first, second = normalise(USER, one), normalise(USER, other)
    if first is not None and first == second:
        assert one.strip(" \t\r\n\f\v") == other.strip(" \t\r\n\f\v")


def test_g4_two_halves_of_a_character_are_not_one_person() -> None:
    sent = [rb'{"userId": "yy\ud800"}', rb'{"userId": "yy\ud801"}']
    for body in sent:
        decoded = decode(body[:-1] + rb', "event": "Order Completed", "messageId": "m"}', "track", Micros(1))
        assert decoded.messages[0].user_id == "yy\N{REPLACEMENT CHARACTER}"
        assert normalise(USER, decoded.messages[0].user_id) is None
