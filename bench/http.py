"""A door in processes of its own, and a client that costs the load generator little.

A door is an ASGI factory under uvicorn with uvloop and httptools, as `serve` starts it, with so many workers; the same for
the vault and for a twin. The client speaks just enough HTTP/1.1 for one answer at a time on a kept connection.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from vault.errors import Unavailable

HOST: Final = "127.0.0.1"
PATIENCE: Final = 60  # seconds until a door answers
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Client:
    """One connection."""

    def __init__(self, port: int, authorization: str) -> None:
        self.port = port
        self._fixed = f"Host: {HOST}\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self.port)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._fixed}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        return status, await reader.readexactly(length)

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            with suppress(OSError):
                await self._streams[1].wait_closed()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def door(factory: str, workers: int, environment: Mapping[str, str]) -> AsyncIterator[tuple[int, int]]:
    """(port, process id) of a door that answers."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--host", HOST, "--port", str(port)]
    command += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PROFILE_VAULT_")}
    process = subprocess.Popen([*command, "--log-level", "error"], env={**ours, **environment}, stdout=sys.stderr)  # noqa: ASYNC220
    try:
        await _ready(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def _ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        client = Client(port, "Bearer none")
        try:
            if (await client.ask("GET", "/livez"))[0] == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)
        finally:
            await client.close()
    raise Unavailable("A door of the benchmark did not open.")


def family_cpu(pid: int) -> float:
    """CPU seconds of a process and its living children."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(path.parent.name) == pid or int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS
