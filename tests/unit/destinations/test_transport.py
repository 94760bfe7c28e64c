"""Claims about sending, against a real server on loopback that says what the test wants it to say."""

import asyncio
import datetime as dt
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vault.destinations.transport import Delivered, Failed, Transport

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


class Recipient:
    """What arrived, and what to answer with."""

    def __init__(self, answer: bytes, *, drip: float = 0.0) -> None:
        self.answer = answer
        self.drip = drip
        self.requests: list[tuple[bytes, bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
            self.requests.append((head, await reader.readexactly(length)))
            if self.drip:
                for byte in self.answer:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(self.drip)
            else:
                writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    recipient: Recipient, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Recipient]:
    server = await asyncio.start_server(recipient.serve, host, 0, ssl=tls)
    recipient.port = server.sockets[0].getsockname()[1]
    try:
        yield recipient
    finally:
        server.close()
        await server.wait_closed()


def answering(status: str, *headers: str, body: str = "") -> Recipient:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", body]
    return Recipient("\r\n".join(lines).encode())


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
async def test_any_2xx_is_delivered(status: str) -> None:
    async with listening(answering(status)) as there, Transport(LOOPBACK) as transport:
        outcome = await transport.post(f"http://127.0.0.1:{there.port}/in?k=v", {"webhook-id": "msg_1"}, b'{"a":1}')
    assert outcome == Delivered(int(status[:3]))
    head, body = there.requests[0]
    assert head.startswith(b"POST /in?k=v HTTP/1.1\r\n")
    assert b"webhook-id: msg_1\r\n" in head
    assert body == b'{"a":1}'


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answering("500 Oops"), Failed("refused", 500)),
        (answering("429 Slow", "retry-after: 120"), Failed("refused", 429, 120)),
        (answering("503 No", "retry-after: 99999999"), Failed("refused", 503)),
        (answering("503 No", "retry-after: 99999"), Failed("refused", 503, 86_400)),
        (answering("503 No", "retry-after: Wed, 21 Oct 2026 07:28:00 GMT"), Failed("refused", 503)),
        (answering("410 Gone"), Failed("gone", 410)),
        (answering("404 Not Found"), Failed("refused", 404)),
        (Recipient(b"nonsense\r\n\r\n"), Failed("unreachable")),
        (Recipient(b""), Failed("unreachable")),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Failed) else "",
)
async def test_anything_else_is_a_failure_with_its_reason(reply: Recipient, outcome: Failed) -> None:
    async with listening(reply) as there, Transport(LOOPBACK) as transport:
        assert await transport.post(f"http://127.0.0.1:{there.port}/", {}, b"{}") == outcome


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "304 Same", "307 There", "308 There"])
async def test_h1_no_redirect_is_followed(status: str) -> None:
    async with listening(answering("200 OK")) as inside:
        trap = answering(status, f"location: http://127.0.0.1:{inside.port}/")
        async with listening(trap) as there, Transport(LOOPBACK) as transport:
            outcome = await transport.post(f"http://127.0.0.1:{there.port}/", {}, b"{}")
        assert outcome == Failed("redirect", int(status[:3]))
        assert inside.requests == []


async def test_h1_what_is_not_opened_is_not_called() -> None:
    async with listening(answering("200 OK")) as inside, Transport() as transport:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
            assert await transport.post(f"https://{host}:{inside.port}/", {}, b"{}") == Failed("address")
        assert inside.requests == []


async def test_h1_a_rebinding_name_server_moves_nothing() -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    only_one = [ipaddress.ip_network("127.0.0.1/32")]
    async with (
        listening(answering("200 OK")) as public,
        Transport(only_one, resolve=rebinding) as transport,
    ):
        url = f"http://hooks.example.com:{public.port}/"
        assert await transport.post(url, {}, b"{}") == Delivered(200)
        assert await transport.post(url, {}, b"{}") == Failed("address")
    head, _ = public.requests[0]
    assert f"host: hooks.example.com:{public.port}\r\n".encode() in head.lower()


async def test_h2_a_huge_or_zipped_reply_body_is_never_read() -> None:
    bomb = Recipient(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99999999999\r\n\r\n" + b"\x1f\x8b" * 9
    )
    async with listening(bomb) as there, Transport(LOOPBACK) as transport:
        assert await transport.post(f"http://127.0.0.1:{there.port}/", {}, b"{}") == Delivered(200)


async def test_h2_a_dripping_reply_ends_at_the_deadline() -> None:
    dripping = Recipient(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200, drip=0.02)
    async with listening(dripping) as there, Transport(LOOPBACK, deadline=0.2) as transport:
        async with asyncio.timeout(2):
            assert await transport.post(f"http://127.0.0.1:{there.port}/", {}, b"{}") == Failed("timeout")


async def test_nobody_there_is_unreachable() -> None:
    async with listening(answering("200 OK")) as there:
        port = there.port
    async with Transport(LOOPBACK) as transport:
        assert await transport.post(f"http://127.0.0.1:{port}/", {}, b"{}") == Failed("unreachable")


async def test_h2_no_log_holds_the_url(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with listening(answering("200 OK")) as there, Transport(LOOPBACK) as transport:
            await transport.post(f"http://127.0.0.1:{there.port}/secret-path", {}, b"{}")
    assert "secret-path" not in caplog.text


async def test_h1_the_certificate_is_checked_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server_side, client_side = _certificate(tmp_path, "hooks.example.com")

    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with (
        listening(answering("200 OK"), tls=server_side) as there,
        Transport(LOOPBACK, resolve=here, tls=client_side) as transport,
    ):
        assert await transport.post(f"https://hooks.example.com:{there.port}/", {}, b"{}") == Delivered(200)
        # Right after, and at the same address: a kept connection would let this one through.
        assert await transport.post(f"https://other.example.com:{there.port}/", {}, b"{}") == Failed("unreachable")
        assert await transport.post(f"https://127.0.0.1:{there.port}/", {}, b"{}") == Failed("unreachable")
    assert len(there.requests) == 1


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pem)
    return server_side, ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
