"""Bytes on a socket, against the real server: what is cut in two ways, what never ends, and what is no HTTP at all."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
import uvicorn
from litestar import Litestar

from api import connection
from api.app import create_app
from api.problems import MEDIA_TYPE
from tests.api.shop import Secrets
from vault.flows.vault import Vault

PLANTED = b"jane.planted"
PATIENCE = 30.0  # seconds until a test gives up; none asserts how long anything took
HEAD = b"POST /v1/track HTTP/1.1\r\nHost: vault.test\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: vault.test\r\n\r\n"  # would answer `ok`, if it were read as a request


class Impatient(connection.Connection):
    """The same with short seconds."""

    head_seconds = message_seconds = answer_seconds = 0.2


@asynccontextmanager
async def listening(
    vault: Vault, kind: type[connection.Connection] = connection.Connection, *, app: Litestar | None = None
) -> AsyncIterator[int]:
    """The application behind uvicorn as `serve` starts it, in this process; gives its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(
        app or create_app(vault),
        http=kind,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task


@pytest.fixture
async def port(vault: Vault) -> AsyncIterator[int]:
    async with listening(vault, connection.Connection) as port:
        yield port


@pytest.fixture
async def impatient(vault: Vault) -> AsyncIterator[int]:
    async with listening(vault, Impatient) as port:
        yield port


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


def _answers(received: bytes) -> list[Answer]:
    """Every answer on a connection, in order."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        found.append(Answer(int(first.split()[1]), headers, rest[:length]))
        received = rest[length:]
    return found


async def say(port: int, pieces: Iterable[bytes]) -> list[Answer]:
    """Send the pieces, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            with suppress(ConnectionError):
                while chunk := await reader.read(65_536):
                    received += chunk
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return _answers(received)


def _is_problem(answer: Answer, code: str) -> None:
    told = json.loads(answer.body)
    assert told["code"] == code
    assert told["status"] == answer.status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["request-id"]
    assert PLANTED not in answer.body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
SHAPES: dict[str, bytes] = {
    "length and chunked": HEAD + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "chunked and length": HEAD + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + HIDDEN,
    "two equal lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": HEAD + b"Content-Length: 0x2\r\n\r\n{}",
    "a length past 64 bits": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "chunked twice": HEAD + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked, then identity": HEAD + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked behind gzip": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a folded header": HEAD + b"X-A: b\r\n Content-Length: 4\r\n\r\n" + HIDDEN,
    "a NUL in a header": HEAD + b"X-A: b\0c\r\n\r\n",
    "a bare CR in a header": HEAD + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "bare line feeds": b"POST /v1/track HTTP/1.1\nHost: vault.test\nContent-Length: 2\n\n{}",
    "a chunk size past 64 bits": HEAD + CHUNKED + b"\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": HEAD + CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk that ends in a line feed": HEAD + CHUNKED + b"\r\n2\n{}\n0\n\n" + HIDDEN,
    "a chunk longer than it said": HEAD + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "no host": b"POST /v1/track HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "two hosts": HEAD + b"Host: other.test\r\n\r\n",
    "two credentials": HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "two content types": HEAD + b"Content-Type: text/plain\r\nContent-Type: application/json\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": b"POST /v1/track HTTP/3.7\r\nHost: vault.test\r\n\r\n",
    "an unknown method": b"JANE /v1/track HTTP/1.1\r\nHost: vault.test\r\n\r\n",
    "a method with a NUL": b"GE\0T /v1/track HTTP/1.1\r\nHost: vault.test\r\n\r\n",
    "a tunnel with a body": b"CONNECT vault.test:443 HTTP/1.1\r\nHost: vault.test\r\nContent-Length: %d\r\n\r\n"
    % len(HIDDEN)
    + HIDDEN,
    "no version": b"GET /livez\r\n\r\n",
    "version 0.9": b"GET /livez HTTP/0.9\r\nHost: vault.test\r\nConnection: close\r\n\r\n",
    "version 2 spelt as 1": b"GET /livez HTTP/2.0\r\nHost: vault.test\r\nConnection: close\r\n\r\n",
    "a tunnel": b"CONNECT vault.test:443 HTTP/1.1\r\nHost: vault.test\r\n\r\n",
    "raw bytes in the path": b"GET /v1/\xff HTTP/1.1\r\nHost: vault.test\r\n\r\n",
    "a space in the path": b"GET /v1/a b HTTP/1.1\r\nHost: vault.test\r\n\r\n",
    "dot segments": b"GET /v1/../livez HTTP/1.1\r\nHost: vault.test\r\nConnection: close\r\n\r\n",
}


async def test_g14_bytes_that_can_be_cut_in_two_ways_are_one_refusal_and_the_end_of_the_connection(port: int) -> None:
    for name, raw in SHAPES.items():
        answers = await say(port, [raw])
        assert len(answers) == 1, name
        assert 400 <= answers[0].status < 500, name
        _is_problem(answers[0], json.loads(answers[0].body)["code"])


async def test_g14_a_length_that_is_too_short_leaves_bytes_that_are_no_request(port: int) -> None:
    answers = await say(port, [HEAD + b'Content-Length: 1\r\n\r\n{"jane.planted":1}\r\n\r\n'])
    assert [answer.status for answer in answers] in (
        [],
        [400],
    )  # never a word that could be taken for another request's


async def test_g14_trailers_are_no_headers(port: int, secrets: Secrets) -> None:
    key = secrets.server.encode()
    body = b'{"userId":"u","event":"Order Completed"}'
    raw = HEAD + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\nContent-Encoding: gzip\r\n\r\n"
    answers = await say(port, [raw % (len(body), body, key) + b"GET /x HTTP/1.0\r\nHost: vault.test\r\n\r\n"])
    assert [answer.status for answer in answers] == [401, 404]


UPGRADES: dict[str, bytes] = {
    "h2c": b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
    "a websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "without saying so": b"Upgrade: foo\r\n",
}


@pytest.mark.parametrize("body", ["with a length", "in chunks", "apart from its head", "none"])
async def test_g14_an_upgrade_is_refused_and_no_body_behind_it_becomes_a_request(
    port: int, body: str, secrets: Secrets
) -> None:
    """The parser ends such a message at its headers: what a proxy passed on as a body was read as the next request."""
    key = b"Authorization: Bearer " + secrets.client.encode() + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
    for name, upgrade in UPGRADES.items():
        head = HEAD + key + upgrade
        pieces = {
            "with a length": [head + length + HIDDEN],
            "in chunks": [head + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)],
            "apart from its head": [head + length, HIDDEN],
            "none": [HIDDEN[:-2] + upgrade + b"\r\n"],
        }[body]
        answers = await say(port, pieces)
        assert [answer.status for answer in answers] == [400], name
        _is_problem(answers[0], "invalid_header")


# --- what never ends ----------------------------------------------------------------------------------------------------


async def _flood(port: int, first: bytes, piece: bytes, *, pause: float = 0) -> tuple[list[Answer], int]:
    """Send `piece` until the server has enough; (its answers, bytes it let us send)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    received = b""

    async def listen() -> None:
        nonlocal received
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                received += chunk

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                writer.write(first)
                while not listening.done():
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)  # lets the server have its turn
                    sent += len(piece)
            await listening
    finally:
        listening.cancel()
        writer.transport.abort()
    return _answers(received), sent


async def test_g7_a_head_without_end_is_cut(port: int) -> None:
    for first, piece, status, code in (
        (b"GET /", b"a" * 5_000, 414, "url_too_long"),
        (HEAD + b"X-A: ", b"a" * 5_000, 431, "headers_too_large"),
        (HEAD, b"a" * 5_000, 431, "headers_too_large"),
        (HEAD, b"X-A: b\r\n" * 20, 431, "headers_too_large"),
    ):
        (answer,), sent = await _flood(port, first, piece)
        assert answer.status == status
        _is_problem(answer, code)
        assert sent < 8_000_000  # what the buffers of both sides hold


async def test_g7_trailers_without_end_are_cut(port: int) -> None:
    answers, _ = await _flood(port, HEAD + CHUNKED + b"\r\n0\r\n", b"X-A: b\r\n" * 1000)
    assert len(answers) <= 1


async def test_g7_a_body_without_end_is_answered_and_the_connection_ends(port: int, secrets: Secrets) -> None:
    key = b"Authorization: Bearer " + secrets.server.encode() + b"\r\n"
    answers, _ = await _flood(port, HEAD + key + CHUNKED + b"\r\n", b"2710\r\n" + b"a" * 10_000 + b"\r\n")
    assert [answer.status for answer in answers] == [413]


async def test_g7_requests_are_not_queued_without_end(port: int) -> None:
    answers = await say(port, [HIDDEN * 5_000])
    assert len(answers) <= connection.MAX_PIPELINED + 2  # the last says why there are no more
    assert {answer.status for answer in answers} <= {200, 400}


async def test_g7_who_sends_too_many_at_once_gets_every_answer_that_it_may_have_and_a_reason_for_the_rest(
    port: int,
) -> None:
    """One is answered while 16 wait; without their answers a client could not tell what took effect."""
    answers = await say(port, [HIDDEN * (connection.MAX_PIPELINED + 2)])
    assert [answer.status for answer in answers] == [200] * (connection.MAX_PIPELINED + 1) + [400]
    _is_problem(answers[-1], "invalid_http")


async def test_g7_a_peer_that_says_no_more_is_given_up(impatient: int) -> None:
    for name, raw, code in (
        ("nothing at all", b"", None),
        ("empty lines", b"\r\n\r\n", None),
        ("half a line", b"GET /v1/", "too_slow"),
        ("headers without end", HEAD, "too_slow"),
        ("half a body", HEAD + b"Content-Length: 10\r\n\r\n{", "too_slow"),
        ("chunks without end", HEAD + CHUNKED + b"\r\n1\r\n{\r\n", "too_slow"),
        ("half a chunk", HEAD + CHUNKED + b"\r\n1;", "too_slow"),
    ):
        answers = await say(impatient, [raw])
        assert len(answers) == (0 if code is None else 1), name
        for answer in answers:
            _is_problem(answer, str(code))


async def test_g7_a_body_that_drips_is_given_up(impatient: int, secrets: Secrets) -> None:
    key = b"Authorization: Bearer " + secrets.server.encode() + b"\r\n"
    answers, _ = await _flood(impatient, HEAD + key + CHUNKED + b"\r\n", b"1\r\n \r\n", pause=0.01)
    assert [answer.status for answer in answers] == [408]


async def test_g7_a_head_that_drips_is_given_up(impatient: int) -> None:
    answers, _ = await _flood(impatient, HEAD, b"x", pause=0.01)
    assert [answer.status for answer in answers] == [408]


async def test_g7_a_body_that_nobody_waits_for_is_given_up_without_a_second_answer(impatient: int) -> None:
    key = b"Authorization: Bearer nobody\r\n"
    answers, _ = await _flood(impatient, HEAD + key + CHUNKED + b"\r\n", b"1\r\n \r\n", pause=0.01)
    assert [answer.status for answer in answers] == [401]


async def test_a_connection_that_is_used_properly_stays_open_past_every_deadline(impatient: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    for _ in range(5):
        writer.write(HIDDEN)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        await reader.readexactly(2)
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()


async def test_bodies_in_many_pieces_and_gzip_pass(port: int, secrets: Secrets) -> None:
    event: dict[str, Any] = {"userId": "u-1", "event": "Order Completed", "messageId": "m-1"}
    packed = gzip.compress(json.dumps(event).encode())
    chunks = b"".join(b"1\r\n%b\r\n" % bytes([byte]) for byte in packed) + b"0\r\n\r\n"
    head = HEAD + b"Authorization: Bearer %b\r\nContent-Encoding: gzip\r\nConnection: close\r\n" + CHUNKED + b"\r\n"
    (answer,) = await say(port, [head % secrets.server.encode(), chunks])
    assert answer.status == 200


@pytest.mark.parametrize("size", [1_000, 60_000, 65_000, 200_000, 480_000])
async def test_a_body_that_comes_with_its_head_is_no_head_however_large(port: int, size: int) -> None:
    """The event loop reads up to 256 KB at once: a whole batch of an SDK is often one piece, and so is the next one."""
    body = b'{"batch":[' + b" " * size + b"]}"
    request = b"POST /v1/batch HTTP/1.1\r\nHost: vault.test\r\nContent-Length: %d\r\n" % len(body)
    answers = await say(port, [request + b"\r\n" + body, request + b"Connection: close\r\n\r\n" + body])
    assert [answer.status for answer in answers] == [401, 401]


# --- an answer before the request is whole ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (b"POST /v1/batch HTTP/1.1\r\nHost: vault.test\r\nContent-Length: 3000000\r\n\r\n", "too_large"),
        (b"POST /v1/batch HTTP/1.1\r\nHost: vault.test\r\n" + CHUNKED + b"\r\n2dc6c0\r\n", "too_large"),
        (b"POST /v1/batch HTTP/1.1\r\nHost: vault.test\r\nX: ", "headers_too_large"),
    ],
    ids=["by the length of its body", "by what came of it", "by its head"],
)
async def test_g7_whoever_is_refused_while_still_sending_reads_why(
    port: int, refused: bytes, code: str, secrets: Secrets
) -> None:
    """A connection closed over unread bytes is reset, and a client that is reset sends the same again for ever."""
    token = b"Authorization: Bearer " + secrets.server.encode() + b"\r\n"
    head = refused.replace(b"Host:", token + b"Host:")

    def speak() -> bytes:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
            peer.sendall(head)
            for _ in range(30):
                peer.sendall(b"x" * 100_000)  # raises where the other end has reset the connection
            peer.shutdown(socket.SHUT_WR)
            received = b""
            while piece := peer.recv(65_536):
                received += piece
            return received

    (answer,) = _answers(await asyncio.to_thread(speak))
    _is_problem(answer, code)


async def test_g7_who_goes_on_sending_after_the_answer_is_not_listened_to_for_ever(vault: Vault) -> None:
    class Curt(connection.Connection):
        linger_seconds = 0.2

    async with listening(vault, Curt) as port:
        endless = (b"x" * 100_000 for _ in range(1_000_000))
        head = b"POST /v1/batch HTTP/1.1\r\nHost: vault.test\r\nContent-Length: 3000000\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionError):
                await _pour(writer, endless)
        writer.close()


async def _pour(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
