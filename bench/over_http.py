"""The doors: batches and lookups over HTTP, the vault and the twins behind the same stack, one after the other."""

import asyncio
import base64
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from bench.feed import destination_of
from bench.ground import Ground, Meter, connect, ground, policies, vault_on
from bench.http import Client, door, family_cpu
from bench.ingest import Side, Stage, differences, each, figures_of, numbering, preload, staged
from bench.report import Options, Report, percentile
from bench.twin_lookup import MAKE
from vault.destinations import store as destinations
from vault.flows.vault import Vault
from vault.ids import random_token
from vault.sources import store as sources

BATCH: Final = 100
OK: Final = 200
UNLIMITED: Final = "1000000"


@dataclass
class Door:
    """Where one side listens."""

    port: int
    pid: int
    key: str

    @property
    def basic(self) -> str:
        """The header of a tracking client."""
        return "Basic " + base64.b64encode(f"{self.key}:".encode()).decode()

    @property
    def bearer(self) -> str:
        """The header of a destination."""
        return f"Bearer {self.key}"


def vault_environment(vault: Vault) -> dict[str, str]:
    """What another process needs to open the same vault."""
    places = ("data_dir", "keyring", "key_file", "journal", "policies", "database_url")
    found = {f"PROFILE_VAULT_{name.upper()}": str(getattr(vault.settings, name)) for name in places}
    # The twins keep no rates: what is measured is the work, not the limit of 100 lookups a second for a destination.
    return found | dict.fromkeys(("PROFILE_VAULT_LOOKUP_RATE", "PROFILE_VAULT_SOURCE_RATE"), UNLIMITED)


@asynccontextmanager
async def doors(place: Ground, stage: Stage, options: Options, vault_key: str) -> AsyncIterator[dict[str, Door]]:
    """All sides open at once: only one of them has work at a time."""
    environment = vault_environment(stage.vault)
    found: dict[str, Door] = {}
    async with AsyncExitStack() as stack:
        port, pid = await stack.enter_async_context(door("bench.vault_door:app", options.workers, environment))
        found["vault"] = Door(port, pid, vault_key)
        for name in ("twin_tuned", "twin_obvious"):
            key = random_token()
            theirs = {
                "BENCH_TWIN": name,
                "BENCH_TWIN_URL": place.database_url(name.replace("twin", "bench")),
                "BENCH_TWIN_KEY": key,
                "BENCH_TWIN_POLICIES": str(policies(place.folder, options.policies)),
            }
            port, pid = await stack.enter_async_context(door("bench.twin_door:app", options.workers, theirs))
            found[name] = Door(port, pid, key)
        yield found


async def ingest(options: Options) -> Report:
    """As `ingest`, through the door; numbering runs in the load generator on every side."""
    report = Report("ingest-http", options)
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        await preload(stage, options.connections)
        async with vault.database.begin() as connection:
            _, key = await sources.add(connection, "bench-http", server=True, now=vault.clock.now(), key=vault.rows_key)
        meters: dict[str, list[Meter]] = {side.name: [] for side in stage.sides}
        async with doors(place, stage, options, key) as opened:
            for number in range(options.rounds + 1):
                bodies = stage.work.batches(options.batches)
                for side in stage.sides:
                    meter = await _sent(place, side, opened[side.name], bodies, options.connections)
                    if number:
                        meters[side.name].append(meter)
                    report.say(f"round {number} {side.name}: {len(bodies) * BATCH / meter.wall:,.0f} events/s")
        figures_of(report, meters, options.batches * BATCH)
        report.figures["workers"] = options.workers
        report.figures["differences"] = await differences(stage)
    return report


async def _sent(place: Ground, side: Side, where: Door, bodies: list[bytes], connections: int) -> Meter:
    await place.checkpoint()
    clients = [Client(where.port, where.basic) for _ in range(connections)]
    free = list(clients)

    async def send(body: bytes) -> None:
        client = free.pop()
        status, answer = await client.ask("POST", "/v1/batch", body)
        free.append(client)
        if status != OK:
            raise AssertionError(f"{side.name} answered {status}: {answer[:200]!r}")

    meter = Meter()
    before = family_cpu(where.pid)
    async with meter.running(place):
        counting = asyncio.create_task(numbering(side))
        await each(connections, bodies, send)
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        while await side.sequence():
            pass
    meter.python = family_cpu(where.pid) - before  # of the door; the load generator's own is not of interest
    for client in clients:
        await client.close()
    return meter


async def lookup(options: Options) -> Report:
    """One profile at a time, by user id, over `connections` connections."""
    report = Report("lookup", options)
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        await preload(stage, options.connections)
        connection = await connect(place.database_url("bench_tuned"))
        for statement in MAKE.format(kind=vault.catalogue.identifiers["user_id"].number).split(";\n"):
            if statement.strip():
                await connection.execute(statement)
        await connection.close()
        destination = destination_of(options.policies)
        token = await _token(vault, destination)
        async with doors(place, stage, options, token) as opened:
            await _lookups(report, place, opened)
    return report


async def _token(vault: Vault, destination: str) -> str:
    async with vault.database.begin() as connection:
        number = vault.catalogue.contracts[destination].number
        return await destinations.add_token(connection, number, vault.clock.now(), vault.rows_key)


async def _lookups(report: Report, place: Ground, opened: dict[str, Door]) -> None:
    options = report.options
    count = options.batches * 10
    paths = {
        "vault": ("vault", "/v1/spaces/default/collections/users/profiles/user_id:user-{}/traits?limit=50"),
        "twin_tuned": ("twin_tuned", "/v1/lookup/user-{}"),
        "by_key": ("twin_tuned", "/v1/key/user-{}"),
    }
    rates: dict[str, list[float]] = {name: [] for name in paths}
    waits: dict[str, list[float]] = {name: [] for name in paths}
    spent: dict[str, list[float]] = {name: [0.0, 0.0] for name in paths}  # CPU seconds of the doors, of the server
    said: dict[str, list[object]] = {}
    for number in range(options.rounds + 1):
        people = [(number * count + i) * 7919 % options.people for i in range(count)]
        for name, (side, path) in paths.items():
            await place.checkpoint()
            python, server = family_cpu(opened[side].pid), await place.server_cpu()
            wall, times, answers = await _looked(opened[side], path, people, options.connections)
            said[name] = answers
            report.say(f"round {number} {name}: {count / wall:,.0f} lookups/s")
            if number:
                rates[name].append(count / wall)
                waits[name] += times
                spent[name][0] += family_cpu(opened[side].pid) - python
                spent[name][1] += await place.server_cpu() - server
    for name in paths:
        report.figures[f"lookups_per_second_{name}"] = round(statistics.median(rates[name]))
        report.figures[f"p50_ms_{name}"] = round(percentile(waits[name], 50) * 1e3, 2)
        report.figures[f"p99_ms_{name}"] = round(percentile(waits[name], 99) * 1e3, 2)
        for what, seconds in zip(("python", "server"), spent[name], strict=True):
            report.figures[f"{what}_us_per_lookup_{name}"] = round(seconds / count / options.rounds * 1e6)
    for name in ("twin_tuned", "by_key"):
        both = zip(rates["vault"], rates[name], strict=True)
        report.figures[f"ratio_{name}"] = round(statistics.median(mine / other for mine, other in both), 3)
        report.figures[f"cpu_ratio_{name}"] = round(sum(spent[name]) / sum(spent["vault"]), 3)
    report.figures["workers"] = options.workers
    report.figures["differences"] = sum(a != b for a, b in zip(said["vault"], said["twin_tuned"], strict=True))


async def _looked(
    where: Door, path: str, people: list[int], connections: int
) -> tuple[float, list[float], list[object]]:
    times: list[float] = []
    answers: dict[int, object] = {}
    waiting = iter(enumerate(people))

    async def one() -> None:
        client = Client(where.port, where.bearer if "spaces" in path else where.basic)
        for place, person in waiting:
            begun = time.perf_counter()
            status, body = await client.ask("GET", path.format(person))
            times.append(time.perf_counter() - begun)
            if status != OK:
                raise AssertionError(f"a lookup was answered {status}")
            answers[place] = json.loads(body)["traits"]
        await client.close()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
    return time.perf_counter() - started, times, [answers[place] for place in sorted(answers)]
