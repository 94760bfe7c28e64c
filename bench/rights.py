"""Withdrawal and erasure: how long until they are acknowledged, under ingest, and how that grows with a person's history.

Ingest runs through a door of its own, in other processes, as `compose.yaml` separates desk and ingest; the choice and the
request are made in this one; a third makes the load. In turns with each act the least that a durable answer costs (a flush, then
a commit) is measured beside it. A withdrawal is acknowledged when its commit is durable: nothing leaves any more. An erasure is
acknowledged when the keys are destroyed and the journal has it; rows follow in the worker, whose time is told apart.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from bench.ground import ground, vault_on
from bench.http import Client, door
from bench.ingest import VaultSide, preload, staged
from bench.load import loading
from bench.over_http import OK, Door, vault_environment
from bench.report import Options, Report, percentile
from bench.workload import BATCH, Workload
from vault.flows.choose import ChoiceAct, ConsentAct, choose
from vault.flows.find import find
from vault.flows.honour.intake import open_request
from vault.flows.vault import Vault
from vault.ids import random_token, uuid7
from vault.policy.actors import Actor
from vault.sources import store as sources
from vault.sources.store import Source

SIZES: Final = (10, 100, 1_000, 10_000)  # events of a person
CONNECTIONS: Final = 2  # of the load
LEAST: Final = 60  # batches of it, so that it outlasts a few acts
EACH: Final = 5  # people of each size
PURPOSES: Final = ("analytics", "personalisation", "marketing", "advertising")


class Desk:
    """Does one act and says how long it took."""

    def __init__(self, vault: Vault, source: Source) -> None:
        self.vault = vault
        self.source = source
        self.officer = Actor("staff", str(uuid7(vault.clock.now())), "officer")

    async def withdraw(self, user: str, purpose: str) -> float:
        """A withdrawal of one purpose."""
        act = ConsentAct(
            user_id=user,
            anonymous_id=None,
            message_id=random_token()[:40],
            choices=(ChoiceAct(purpose=purpose, decision="withdrawn"),),
        )
        begun = time.perf_counter()
        await choose(self.vault, self.source, act)
        return time.perf_counter() - begun

    async def erase(self, user: str) -> float:
        """An erasure, until it is acknowledged."""
        reference = await find(self.vault, self.officer, "user_id", user)
        begun = time.perf_counter()
        await open_request(self.vault, self.officer, reference, "erasure")
        return time.perf_counter() - begun


async def withdrawal(options: Options) -> Report:
    """Every purpose of the people of each size; then `acts` others, under ingest."""

    async def grown(desk: Desk, user: str) -> list[float]:
        return [await desk.withdraw(user, purpose) for purpose in PURPOSES]

    async def one(desk: Desk, user: str) -> float:
        return await desk.withdraw(user, "advertising")

    return await _measured(Report("withdrawal", options), grown, one, _said)


async def _said(client: Client, user: str) -> float:
    """A withdrawal through the door that ingest comes in by, as an app says it."""
    choices = [{"purpose": "marketing", "decision": "withdrawn"}]
    body = json.dumps({"userId": user, "messageId": random_token()[:40], "choices": choices}).encode()
    begun = time.perf_counter()
    status, answer = await client.ask("POST", "/v1/consents", body)
    if status != OK:
        raise AssertionError(f"a choice was answered {status}: {answer[:200]!r}")
    return time.perf_counter() - begun


async def erasure(options: Options) -> Report:
    """The people of each size; then `acts` others, under ingest."""

    async def grown(desk: Desk, user: str) -> list[float]:
        return [await desk.erase(user)]

    return await _measured(Report("erasure", options), grown, Desk.erase)


async def _measured(
    report: Report,
    grown: Callable[[Desk, str], Awaitable[list[float]]],
    one: Callable[[Desk, str], Awaitable[float]],
    through: Callable[[Client, str], Awaitable[float]] | None = None,
) -> Report:
    options = report.options
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        stage.sides = stage.sides[:1]
        side = stage.sides[0]
        assert isinstance(side, VaultSide)  # noqa: S101 - the first side is
        await preload(stage, options.connections)
        sizes = [size for size in SIZES if size <= options.events]
        await histories(side, stage.work, sizes)
        await stage.place.settle()
        desk = Desk(vault, side.source)
        await one(desk, "user-0")  # statements are prepared once
        busy = time.process_time()
        alone = {size: [t for i in range(EACH) for t in await grown(desk, f"long-{size}-{i}")] for size in sizes}
        done = sum(len(times) for times in alone.values())
        report.figures["python_ms_per_act"] = round((time.process_time() - busy) / done * 1e3, 2)
        for size, times in alone.items():
            report.figures[f"p50_ms_{size}_events"] = round(statistics.median(times) * 1e3, 2)
            report.figures[f"max_ms_{size}_events"] = round(max(times) * 1e3, 2)
        report.figures["growth"] = round(statistics.median(alone[sizes[-1]]) / statistics.median(alone[sizes[0]]), 2)
        acts = min(options.acts, options.people - 1)
        floor = Floor(vault)
        await floor.begin()
        lowest = [await floor.once() for _ in range(acts)]
        async with _ingesting(vault, stage.work, options) as (where, more):
            before, begun = await _taken(vault), time.perf_counter()
            times, floors = [], []
            for number in range(1, acts + 1):
                times.append(await one(desk, f"user-{number}"))
                floors.append(await floor.once())
                await asyncio.sleep(options.pause)
            seconds, after = time.perf_counter() - begun, await _taken(vault)
            at_door = []
            client = Client(where.port, where.basic)
            for number in range(1, acts + 1 if through else 1):
                assert through is not None  # noqa: S101 - the range says so
                at_door.append(await through(client, f"user-{number}"))
                await asyncio.sleep(options.pause)
            await client.close()
            if not more():
                raise AssertionError("the load ran out before the acts; raise --batches")
            report.figures["ingest_events_per_second"] = round((after - before) / seconds)
        report.figures["acts"] = acts
        for which in (50, 99):
            report.figures[f"p{which}_ms_under_ingest"] = round(percentile(times, which) * 1e3, 2)
            if at_door:
                report.figures[f"p{which}_ms_at_the_door_of_ingest"] = round(percentile(at_door, which) * 1e3, 2)
            report.figures[f"floor_p{which}_ms_under_ingest"] = round(percentile(floors, which) * 1e3, 2)
            report.figures[f"floor_p{which}_ms_alone"] = round(percentile(lowest, which) * 1e3, 2)
    return report


async def histories(side: VaultSide, work: Workload, sizes: list[int]) -> None:
    """People with so many events each."""
    for size in sizes:
        for i in range(EACH):
            user = f"long-{size}-{i}"
            messages = [work.named("identify", user, traits={"email": f"{user}@example.com"})]
            messages += [work.named("track", user, **work.viewed()) for _ in range(size)]
            waiting = iter(messages)
            while part := list(islice(waiting, BATCH)):
                await side.receive(json.dumps({"batch": part}).encode())


@asynccontextmanager
async def _ingesting(vault: Vault, work: Workload, options: Options) -> AsyncIterator[tuple[Door, Callable[[], bool]]]:
    """Ingest through a door until the end: that door, and whether there still is something to send."""
    async with vault.database.begin() as connection:
        _, key = await sources.add(connection, "bench-load", server=True, now=vault.clock.now(), key=vault.rows_key)
    work.restrict(options.acts + 1)  # nobody whom the desk is busy with: their late events would be dropped
    file = vault.settings.journal_folder.parent / "load.ndjson"
    await asyncio.to_thread(file.write_bytes, b"\n".join(work.batches(max(options.batches, 6 * options.acts, LEAST))))
    async with (
        door("bench.vault_door:app", 1, vault_environment(vault)) as (port, pid),
        loading(port, Door(port, pid, key).basic, file, CONNECTIONS) as process,
    ):
        before = await _taken(vault)
        while await _taken(vault) == before:
            if process.poll() is not None:
                raise AssertionError("the load did not begin")
        yield Door(port, pid, key), lambda: process.poll() is None


async def _taken(vault: Vault) -> int:
    async with vault.database.hot() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM dedup"))


class Floor:
    """The least that a durable answer costs here: one flush of a file in a thread, then one commit of one small row.

    Measured in turns with the acts, in the same process and under the same load: what it takes is the machine's.
    """

    def __init__(self, vault: Vault) -> None:
        """`begin` makes what it writes to."""
        self._vault = vault
        self._file = vault.settings.journal_folder.parent / "floor"

    async def begin(self) -> None:
        """A table of its own."""
        async with self._vault.database.hot() as connection:
            await connection.execute("CREATE TABLE bench_floor (at bigint)")

    async def once(self) -> float:
        """Seconds."""
        begun = time.perf_counter()
        await asyncio.to_thread(self._flush)
        async with self._vault.database.hot() as connection:
            await connection.execute("INSERT INTO bench_floor VALUES ($1)", self._vault.clock.now())
        return time.perf_counter() - begun

    def _flush(self) -> None:
        with self._file.open("ab") as file:
            file.write(bytes(200))
            file.flush()
            os.fsync(file.fileno())
