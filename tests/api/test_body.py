"""The front layer for bodies: what it refuses, and that a refusal never holds a byte of the body."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.exceptions import InternalServerException

from api.body import decode_own, inflate, read, require_type
from vault.errors import Invalid, TooLarge


class Form(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    value: str = ""


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_body_of_many_chunks_is_read_whole() -> None:
    assert await read(_stream(b'{"a"', b":1}"), None, limit=7) == b'{"a":1}'


async def test_g7_a_body_is_refused_as_soon_as_it_passes_the_limit_whatever_its_length_header_said() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        await read(endless(), None, limit=5000)
    assert taken == 6


async def test_g7_a_body_that_stops_coming_is_given_up() -> None:
    async def halting() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    with pytest.raises(Invalid) as refused:
        await read(halting(), None, limit=100, seconds=0.01)
    assert refused.value.reason == "too_slow"


async def test_a_client_that_hangs_up_is_no_fault_of_ours() -> None:
    async def broken_off() -> AsyncIterator[bytes]:
        yield b"{"
        raise InternalServerException  # what the framework makes of a disconnect

    with pytest.raises(Invalid) as refused:
        await read(broken_off(), None, limit=100)
    assert refused.value.reason == "incomplete_body"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
async def test_gzip_is_inflated(encoding: str) -> None:
    assert await read(_stream(gzip.compress(b"{}")), encoding, limit=100) == b"{}"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(Invalid) as refused:
        await read(_stream(b"{}"), encoding, limit=100)
    assert refused.value.reason == "unsupported_encoding"


def test_g7_a_zip_bomb_stops_at_the_limit_and_memory_stays_small() -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)  # some 200 KB that would be 200 MB
    tracemalloc.start()
    with pytest.raises(TooLarge):
        inflate(bomb, limit=512_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 500_000])
def test_what_fits_is_inflated_to_the_last_byte(size: int) -> None:
    plain = bytes(size)
    assert inflate(gzip.compress(plain), limit=500_000) == plain


def test_one_byte_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        inflate(gzip.compress(bytes(1001)), limit=1000)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not gzip", id="not gzip"),
        pytest.param(gzip.compress(b"{}")[:-1], id="cut short"),
        pytest.param(gzip.compress(b"{}")[:12], id="cut in the middle"),
        pytest.param(gzip.compress(b"{") + gzip.compress(b"}"), id="two members"),
        pytest.param(gzip.compress(b"{}") + b"tail", id="rubbish behind"),
        pytest.param(zlib.compress(b"{}"), id="zlib framing"),
        pytest.param(gzip.compress(b"{}")[:-8] + bytes(8), id="wrong checksum"),
    ],
)
def test_g7_what_is_not_one_whole_gzip_member_is_refused(broken: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        inflate(broken, limit=1000)
    assert refused.value.reason == "invalid_gzip"


@pytest.mark.parametrize("content_type", ["application/json", "application/JSON; charset=utf-8"])
def test_own_doors_take_json(content_type: str) -> None:
    require_type(content_type)


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_g5_own_doors_take_nothing_else(content_type: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        require_type(content_type)
    assert refused.value.reason == "unsupported_media_type"


def test_an_own_body_becomes_its_struct() -> None:
    assert decode_own(b'{"kind":"email","value":"x"}', Form) == Form("email", "x")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"kind":"a","kind":"b"}', id="G3 a member twice"),
        pytest.param(b'{"kind":"a","value":NaN}', id="G4 NaN"),
        pytest.param(b'{"kind":"a","value":1e999}', id="G4 infinite"),
        pytest.param(b'{"kind":"a","value":123456789012345678901234567890}', id="G4 30 digits"),
        pytest.param(b'{"kind":"a\\u0000"}', id="G4 NUL"),
        pytest.param(b'{"kind":"\\ud800"}', id="G4 lone surrogate"),
        pytest.param(b'{"kind":"a","role":"officer"}', id="G13 a member more"),
        pytest.param(b'{"kind":1}', id="wrong type"),
        pytest.param(b"{}", id="a member less"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"kind":"a"} {}', id="two values"),
        pytest.param(b'\xef\xbb\xbf{"kind":"a"}', id="byte order mark"),
        pytest.param(b'{"kind":' + b"9" * 60_000 + b"}", id="a number of 60,000 digits"),
    ],
)
def test_what_an_own_door_cannot_take_is_one_error(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        decode_own(body, Form)
    assert refused.value.reason == "invalid_json"
    assert refused.value.__suppress_context__


@given(st.binary(max_size=200))
def test_g6_no_bytes_at_all_make_anything_but_a_refusal_that_does_not_repeat_them(body: bytes) -> None:
    planted = b'{"kind":"jane@example.com","' + body + b'":1}'
    with pytest.raises(Invalid) as refused:
        decode_own(planted, Form)
    assert "jane" not in str(refused.value)
