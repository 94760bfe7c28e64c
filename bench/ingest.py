"""Ingest in process: batches of 100 through the whole pipeline, with computed traits, an audience and change numbering."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench import twin_obvious, twin_tuned
from bench.ground import Ground, Meter, ground, profiled, vault_on
from bench.report import Options, Report
from bench.same import held_by_vault
from bench.twin import Profile, Shape
from bench.workload import BATCH, Workload
from vault.changes.sequencer import sequence
from vault.cli.memory import settle
from vault.flows.ingest.receive import receive
from vault.flows.vault import Vault
from vault.sources.store import Source, add

CONNECTIONS: Final = 4
IDLE: Final = 0.05  # as the worker's loop


class Side(Protocol):
    """One of those who are compared."""

    name: str

    async def receive(self, body: bytes) -> Any:
        """A batch, durable when it returns."""
        ...

    async def sequence(self) -> int:
        """Number what changed; how many."""
        ...

    async def profiles(self) -> dict[str, Profile]:
        """What it holds."""
        ...


class VaultSide:
    """The vault through the function that its HTTP door calls."""

    name = "vault"

    def __init__(self, vault: Vault, source: Source) -> None:
        self.vault = vault
        self.source = source

    async def receive(self, body: bytes) -> Any:
        """A batch."""
        return await receive(self.vault, self.source, body, "batch")

    async def sequence(self) -> int:
        """The worker's step."""
        return await sequence(self.vault.database, self.vault.clock)

    async def profiles(self) -> dict[str, Profile]:
        """Everyone."""
        return await held_by_vault(self.vault)


@dataclass
class Stage:
    """All sides, on one server, with the same people."""

    place: Ground
    vault: Vault
    sides: list[Side]
    work: Workload


async def each(count: int, bodies: list[bytes], send: Callable[[bytes], Awaitable[Any]]) -> None:
    """Send all bodies over `count` connections."""
    waiting = iter(bodies)

    async def one() -> None:
        for body in waiting:
            await send(body)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


async def preload(stage: Stage, connections: int) -> None:
    """Everyone into every side, before anything is measured."""
    part: list[bytes] = []
    for body in stage.work.preload():
        part.append(body)
        if len(part) == connections * 8:
            await _spread(stage, part, connections)
            part = []
    await _spread(stage, part, connections)
    for side in stage.sides:
        while await side.sequence():
            pass
    await stage.place.settle()
    settle()  # as the server's processes do: the collector's pauses would be most of what is measured


async def _spread(stage: Stage, part: list[bytes], connections: int) -> None:
    for side in stage.sides:
        await each(connections, part, side.receive)


async def numbering(side: Side) -> None:
    """As the worker does it: what is there, again and again."""
    while True:
        if not await side.sequence():
            await asyncio.sleep(IDLE)


async def measured(stage: Stage, side: Side, bodies: list[bytes], connections: int, profile: str | None) -> Meter:
    """One round of one side. What is left to be numbered at the end is part of it."""
    await stage.place.checkpoint()
    meter = Meter()
    async with meter.running(stage.place):
        with profiled(profile):
            counting = asyncio.create_task(numbering(side))
            await each(connections, bodies, side.receive)
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting
            while await side.sequence():
                pass
    return meter


@asynccontextmanager
async def staged(place: Ground, vault: Vault, options: Options) -> AsyncIterator[Stage]:
    """The vault and both twins, empty; the twins are closed at the end."""
    shape = Shape.of(vault.catalogue)
    async with vault.database.begin() as connection:
        source, _ = await add(connection, "bench", server=True, now=vault.clock.now(), key=vault.rows_key)
    tuned = await twin_tuned.Twin.on(await place.create("bench_tuned"), shape, options.connections)
    obvious = await twin_obvious.Twin.on(await place.create("bench_obvious"), shape, options.connections)
    work = Workload(vault.catalogue, options.people, options.seed)
    try:
        yield Stage(place, vault, [VaultSide(vault, source), tuned, obvious], work)
    finally:
        tuned.pool.terminate()
        obvious.pool.terminate()


async def differences(stage: Stage) -> int:
    """In how many people a twin ended otherwise than the vault."""
    mine, *theirs = [await side.profiles() for side in stage.sides]
    return sum(mine.get(name) != other.get(name) for other in theirs for name in mine.keys() | other.keys())


async def run(options: Options) -> Report:
    """Interleaved rounds; the first is dropped."""
    report = Report("ingest", options)
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        await preload(stage, options.connections)
        meters: dict[str, list[Meter]] = {side.name: [] for side in stage.sides}
        for number in range(options.rounds + 1):
            bodies = stage.work.batches(options.batches)
            for side in stage.sides:
                look = options.look(number, side.name)
                meter = await measured(stage, side, bodies, options.connections, look)
                if number and look is None:
                    meters[side.name].append(meter)
                report.say(f"round {number} {side.name}: {options.batches * BATCH / meter.wall:,.0f} events/s")
        figures_of(report, meters, options.batches * BATCH)
        report.figures["differences"] = await differences(stage)
    return report


def figures_of(report: Report, meters: dict[str, list[Meter]], events: int) -> None:
    """Medians of the rounds, and of the ratios of each."""
    rates = {name: statistics.median(events / m.wall for m in found) for name, found in meters.items()}
    cpu = {name: statistics.median(m.python / events for m in found) * 1e6 for name, found in meters.items()}
    server = {name: statistics.median(m.server / events for m in found) * 1e6 for name, found in meters.items()}
    for name, rate in rates.items():
        report.figures[f"events_per_second_{name}"] = round(rate)
        report.figures[f"python_us_per_event_{name}"] = round(cpu[name], 1)
        report.figures[f"server_us_per_event_{name}"] = round(server[name], 1)
    for twin in ("tuned", "obvious"):
        both = zip(meters["vault"], meters[f"twin_{twin}"], strict=False)
        report.figures[f"ratio_{twin}"] = round(statistics.median(t.wall / v.wall for v, t in both), 3)
        total = (cpu[f"twin_{twin}"] + server[f"twin_{twin}"]) / (cpu["vault"] + server["vault"])
        report.figures[f"cpu_ratio_{twin}"] = round(total, 3)
