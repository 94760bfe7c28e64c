"""Sends bodies to a door until it is stopped, from a process of its own: the load must not hold the loop that is measured.

`python -m bench.load PORT FILE CONNECTIONS`, with the header of a tracking client in `BENCH_LOAD_KEY`. FILE has one body a
line. Ends with 0 when all are sent, which whoever measures takes for too few.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from bench.http import Client

KEY: Final = "BENCH_LOAD_KEY"
OK: Final = 200
_ROOT: Final = Path(__file__).resolve().parents[1]


async def send(port: int, bodies: Sequence[bytes], connections: int) -> None:
    """Each body once, over so many connections."""
    waiting = iter(bodies)

    async def one() -> None:
        client = Client(port, os.environ[KEY])
        for body in waiting:
            status, _ = await client.ask("POST", "/v1/batch", body)
            if status != OK:
                raise AssertionError(f"ingest answered {status}")
        await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())


@asynccontextmanager
async def loading(port: int, key: str, file: Path, connections: int) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """The process, at work until the end of the block."""
    command = [sys.executable, "-m", "bench.load", str(port), str(file), str(connections)]
    process = subprocess.Popen(command, env={**os.environ, KEY: key}, cwd=_ROOT, stdout=sys.stderr)  # noqa: ASYNC220
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def main() -> None:
    """As the command line says."""
    port, file, connections = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send(int(port), bodies, int(connections)))


if __name__ == "__main__":
    main()
