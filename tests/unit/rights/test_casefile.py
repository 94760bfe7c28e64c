"""Claims about the case file: it opens with its own key for its own request, and shows nothing of itself."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.canonical import framed
from vault.clock import Micros
from vault.crypto.aead import seal
from vault.errors import Unreadable
from vault.rights.casefile import ANSWER_WITHIN, CaseFile, Recipient, new_salt, open_case, seal_case

KEY = bytes(range(32))
REQUEST = UUID("0192f0c0-0000-7000-8000-000000000001")
CASE = CaseFile(
    request_id=REQUEST,
    made_at=Micros(1),
    members=(UUID(int=7),),
    tags=(b"t" * 16,),
    recipients=(Recipient(2, "email-tool", ("abc",), {"email": ("ada@example.com",)}, Micros(ANSWER_WITHIN)),),
    salt=b"s" * 32,
)


def test_what_was_sealed_opens_as_it_was() -> None:
    assert open_case(KEY, REQUEST, seal_case(KEY, CASE)) == CASE


def test_it_opens_for_no_other_request_and_with_no_other_key() -> None:
    sealed = seal_case(KEY, CASE)
    with pytest.raises(Unreadable):
        open_case(KEY, UUID(int=1), sealed)
    with pytest.raises(Unreadable):
        open_case(bytes(32), REQUEST, sealed)


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_opens_nothing(place: int, bit: int) -> None:
    sealed = bytearray(seal_case(KEY, CASE))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(Unreadable):
        open_case(KEY, REQUEST, bytes(sealed))


def test_bytes_that_are_no_case_are_unreadable() -> None:
    context = framed(b"casefile/1", REQUEST.bytes)
    for plain in (b"", b"{}", b"\xff"):
        with pytest.raises(Unreadable):
            open_case(KEY, REQUEST, b"\x01" + seal(KEY, plain, context))
    other = seal(KEY, seal_case(KEY, CASE), context)
    for bad in (b"", b"\x01", b"\x02" + other, other):
        with pytest.raises(Unreadable):
            open_case(KEY, REQUEST, bad)


def test_a_case_of_another_request_inside_the_right_seal_is_unreadable() -> None:
    plain = msgspec.json.encode(msgspec.structs.replace(CASE, request_id=UUID(int=9)))
    with pytest.raises(Unreadable):
        open_case(KEY, REQUEST, b"\x01" + seal(KEY, plain, framed(b"casefile/1", REQUEST.bytes)))


def test_nothing_of_it_prints() -> None:
    assert "ada" not in repr(CASE)
    assert "ada" not in repr(CASE.recipients[0])
    assert len(new_salt()) == 32
