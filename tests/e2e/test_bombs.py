"""What is small on the wire and large in memory, against a real server: its process grows by less than 64 MB (threats G7, G8)."""

import gzip
import json
import re
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.house import PATIENCE, Door, House, bearer
from vault.cli.demo_stage import Secrets

MOST = 64 * 1024 * 1024  # bytes; the bar of the threat catalogue
MEGABYTE = b" " * 1_000_000


def _peak(door: Door) -> int:
    """The most that the server process ever held, in bytes."""
    status = Path(f"/proc/{door.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(size // len(MEGABYTE))), packer.flush()])


def _bodies() -> Iterator[tuple[str, bytes, bool]]:
    """(name, body, whether it is gzip)."""
    small = _zeros(150_000_000)
    assert len(small) < 512_000
    yield "150 MB that fit the wire", small, True
    yield "as many members that do not", small * 4, True
    yield "nested", gzip.compress(small), True
    yield "nested twice", gzip.compress(gzip.compress(small)), True
    yield "many members", gzip.compress(MEGABYTE) * 400, True
    yield "members of nothing", gzip.compress(b"") * 20_000, True
    yield "a header that never ends", b"\x1f\x8b\x08\x08" + bytes(4) + b"\0\xff" + b"a" * 500_000, True
    yield "tiny numbers", b'{"batch":[' + b",".join([b"1"] * 240_000) + b"]}", False
    yield "tiny objects", b'{"batch":[' + b",".join([b"{}"] * 160_000) + b"]}", False
    yield "as many as are listed", b'{"batch":[' + b",".join([b"{}"] * 10_000) + b"]}", False
    yield "properties", _event({f"p{number}": number for number in range(30_000)}), False
    yield "a long key", _event({"k" * 480_000: 1}), False
    yield "a long value", _event({"k": "v" * 480_000}), False
    yield "members that nobody knows", json.dumps({"batch": [], **{f"k{n}": 1 for n in range(30_000)}}).encode(), False
    yield "a number", _event({"k": 0}).replace(b": 0}", b": " + b"9" * 480_000 + b"}"), False
    yield "depth", b'{"batch":' + b"[" * 500_000, False
    yield "depth in strings", b'{"batch":[' + b'"[",' * 120_000 + b"1]}", False
    yield "quotes", b'{"batch":["' + b'\\"' * 240_000 + b'"]}', False
    yield "halves of characters", b'{"batch":["' + rb"\ud800" * 80_000 + b'"]}', False
    yield "NaN", b'{"batch":[' + b"NaN," * 120_000 + b"1]}", False
    yield "50 MB", b" " * 50_000_000, False


def _event(properties: dict[str, object]) -> bytes:
    event = {"type": "track", "userId": "u", "event": "Order Completed", "properties": properties}
    return json.dumps({"batch": [event]}).encode()


@pytest.fixture(scope="module")
def secrets(shared_house: House) -> Secrets:
    return shared_house.furnish()


@pytest.mark.slow
def test_g7_g8_no_body_address_or_crowd_of_connections_makes_the_server_large(
    shared_house: House, secrets: Secrets
) -> None:
    with shared_house.serving("--no-worker") as door:
        headers = bearer(secrets.write_key)
        door.http.post("/v1/batch", headers=headers, content=_event({"k": "v" * 20_000}))  # everything is loaded
        before = _peak(door)
        for name, body, packed in _bodies():
            answer = door.http.post(
                "/v1/batch", headers=headers | ({"content-encoding": "gzip"} if packed else {}), content=body
            )
            assert answer.status_code in {200, 400, 413}, name
            assert _peak(door) - before < MOST, name
        _addresses(door, secrets.tokens["warehouse"])
        assert _peak(door) - before < MOST, "addresses"
        _crowd(door)
        assert _peak(door) - before < MOST, "a crowd"
        assert door.http.get("/v1/purposes", headers=headers).status_code == 200


def _addresses(door: Door, token: str) -> None:
    """The framework keeps a thousand addresses that it has seen, and queries of those who may: as long ones as are taken."""
    for number in range(1_100):
        assert door.http.get(f"/v1/destinations/{number}{'a' * 8_000}/profiles").status_code in {401, 429}
    for number in range(200):
        query = "&".join(f"p{place}={'b' * 520}" for place in range(15)) + f"&cursor={number}"
        answer = door.http.get(f"/v1/destinations/warehouse/profiles?{query}", headers=bearer(token))
        assert answer.status_code in {400, 429}


def _crowd(door: Door) -> None:
    """200 that say almost enough, and wait."""
    url = urlsplit(door.url)
    assert url.hostname is not None
    with ExitStack() as stack:
        for number in range(200):
            peer = stack.enter_context(socket.create_connection((url.hostname, url.port or 80), PATIENCE))
            peer.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"b" * 30_000)
            if number % 2:
                with suppress(OSError):
                    peer.sendall(b"\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"c" * 0x8000 + b"\r\n")
        assert door.http.get("/livez").status_code == 200
