"""How old what a reader sees is: from the moment an event is sent to the answer that has it, by lookup, feed and webhook.

One event at a time, with the worker running in this process. Lookup and feed (with its last cursor) are asked again a
hundredth of a second after an answer that has it not; the webhook is pushed to a receiver in this process.
"""

import asyncio
import json
import time
from contextlib import suppress
from ipaddress import ip_network
from typing import Final

import msgspec

from bench.ground import ground, settings
from bench.http import HOST
from bench.report import Options, Report, percentile
from bench.workload import Workload
from vault.bootstrap import open_vault
from vault.errors import NotFound
from vault.flows import hooks, lookup
from vault.flows.ingest.receive import receive
from vault.flows.release.page import page
from vault.flows.vault import Vault
from vault.sources import store as sources
from vault.worker import run as work

PAUSE: Final = 0.01
PATIENCE: Final = 60.0
FIELD: Final = {"bench": "account_1", "shop": "firstName"}


class Receiver:
    """Takes pushes and notes when each value came first."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.came = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = (await reader.readexactly(length)).decode()
                at = time.perf_counter()
                for word in body.split('"'):
                    if word.startswith("fresh-"):
                        self.seen.setdefault(word.rstrip("\\"), at)
                self.came.set()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        writer.close()

    async def wait(self, value: str) -> float:
        """When the value came."""
        while value not in self.seen:
            self.came.clear()
            await self.came.wait()
        return self.seen[value]


async def run(options: Options) -> Report:
    """`acts` events, each followed to the end."""
    report = Report("freshness", options)
    async with ground(options.database_url) as place:
        url = await place.create("bench_vault")
        chosen = msgspec.structs.replace(
            settings(place, url, options.policies), webhook_networks=(ip_network("127.0.0.0/8"),)
        )
        async with open_vault(chosen) as vault:
            receiver = Receiver()
            server = await asyncio.start_server(receiver.serve, HOST, 0)
            working = asyncio.create_task(work(vault))
            try:
                port = server.sockets[0].getsockname()[1]
                await _followed(report, vault, receiver, f"http://{HOST}:{port}/hook")
            finally:
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
                server.close()
    return report


async def _followed(report: Report, vault: Vault, receiver: Receiver, url: str) -> None:
    options = report.options
    hook = "bench-hook" if options.policies == "bench" else "email-tool"
    feed = "bench-feed" if options.policies == "bench" else "email-tool"
    field = FIELD.get(options.policies, "firstName")
    async with vault.database.begin() as connection:
        source, _ = await sources.add(connection, "bench", server=True, now=vault.clock.now(), key=vault.rows_key)
    await hooks.register(vault, hook, url)
    people = Workload(vault.catalogue, min(options.people, 200), options.seed)
    for body in people.preload():
        await receive(vault, source, body, "batch")
    times: dict[str, list[float]] = {"acknowledged": [], "lookup": [], "feed": [], "webhook": []}
    cursor = await _read_all(vault, feed)
    for act in range(options.acts + 1):
        user, value = f"user-{act % people.people}", f"fresh-{act}"
        body = json.dumps({"batch": [people.named("identify", user, traits={field: value})]}).encode()
        begun = time.perf_counter()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            looking = group.create_task(_lookup(vault, feed, user, field, value))
            feeding = group.create_task(_feed(vault, feed, cursor, value))
            pushing = group.create_task(receiver.wait(value))
            await receive(vault, source, body, "batch")
            acknowledged = time.perf_counter()
        looked, pushed = looking.result(), pushing.result()
        fed, cursor = feeding.result()
        if act:  # the first is there to warm up
            for name, at in zip(times, (acknowledged, looked, fed, pushed), strict=True):
                times[name].append(at - begun)
    for name, found in times.items():
        for which in (50, 99):
            report.figures[f"{name}_p{which}_ms"] = round(percentile(found, which) * 1e3, 1)
    report.figures["acts"] = options.acts


async def _read_all(vault: Vault, destination: str) -> str:
    cursor: str | None = None
    while True:
        last = json.loads((await page(vault, destination, cursor))[-1])
        cursor = str(last["cursor"])
        if not last["more"]:
            return cursor


async def _lookup(vault: Vault, destination: str, user: str, field: str, value: str) -> float:
    while True:
        with suppress(NotFound):
            answer = await lookup.traits(vault, destination, "user_id", user, [field])
            if msgspec.json.decode(msgspec.json.encode(answer))["traits"].get(field) == value:
                return time.perf_counter()
        await asyncio.sleep(PAUSE)


async def _feed(vault: Vault, destination: str, cursor: str, value: str) -> tuple[float, str]:
    while True:
        *lines, last = await page(vault, destination, cursor)
        cursor = str(json.loads(last)["cursor"])
        if any(value.encode() in line for line in lines):
            return time.perf_counter(), cursor
        if not lines:
            await asyncio.sleep(PAUSE)
