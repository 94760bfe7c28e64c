"""One trial: a journey that is struck at one boundary, what is left of it, and how it ends when it is taken up again.

A process of its own runs the journey and is struck. One that died is followed by another on the same data, which first
reads everything again (`oracle.check`), then runs the journey from its start; one that lives, because its database died
or its client hung up, runs it again itself. At the end everything is read again, and the facts must be those of a run
that nobody disturbed.
"""

import asyncio
import json
import logging
import os
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from tests.fakes import START, FakeClock
from tests.faults import oracle
from tests.faults.boundary import Watch, install
from tests.faults.client import Client, Interrupted, Secrets, told
from tests.faults.journeys import JOURNEYS, furnish, open_doors
from tests.faults.stage import BASE, Place, Stage, connected
from vault.bootstrap import open_vault
from vault.clock import SECOND, Micros
from vault.errors import Unavailable, VaultError

PATIENCE: Final = 300.0  # seconds; a process that takes longer hangs, which is a finding
TRIES: Final = 6  # of one journey: it is struck once, so more than two are for what follows from a recovery
AFTER: Final = 60  # seconds on the clock until somebody takes it up: a dead holder's leases are over
START_JOURNEY: Final = "start"  # nothing is there: the first start itself is interrupted


class Strike(msgspec.Struct, frozen=True):
    """Where and how."""

    journey: str
    how: str = "count"
    at: int | None = None


class Report(msgspec.Struct):
    """What a process had to say."""

    names: list[str] = []
    struck: str | None = None
    tries: int = 0
    facts: dict[str, Any] = {}
    faults: list[str] = []


def baseline(stage: Stage, journey: str) -> Report:
    """A run that nobody disturbs: its boundaries, and its facts."""
    place = _place(stage, journey, f"t_{journey}_whole")
    try:
        report = _in_process(place, Strike(journey), again=False)
        if report is None or report.faults:
            raise AssertionError(f"{journey} does not even end undisturbed: {report and report.faults}")
        return report
    finally:
        stage.drop(place)


def prepare(stage: Stage) -> None:
    """The furnished vault that every trial begins with."""
    place = stage.empty(BASE)
    report = _forked(stage, lambda: _furnish(place))
    if report is None or report.faults:
        raise AssertionError(f"the people could not be made: {report and report.faults}")


class Verdict(msgspec.Struct, frozen=True):
    """What a trial found; no fault is what is hoped for. `struck` is false if the run never came to the boundary."""

    struck: bool
    faults: list[str]


def trial(stage: Stage, strike: Strike, whole: Report) -> Verdict:
    """Strike, take up again, judge."""
    place = _place(stage, strike.journey, f"t_{strike.journey}_{strike.how}_{strike.at}")
    try:
        report = _in_process(place, strike, again=False)
        struck = report is None or report.struck is not None
        if strike.how == "kill" and report is None:
            report = _in_process(place, Strike(strike.journey), again=True)
        if report is None:
            return Verdict(struck, ["the process died by itself"])
        return Verdict(struck, report.faults or oracle.differences(report.facts, whole.facts))
    finally:
        stage.revive()
        stage.drop(place)


def _place(stage: Stage, journey: str, name: str) -> Place:
    return stage.empty(name) if journey == START_JOURNEY else stage.copy(name)


# --- in a process of its own ------------------------------------------------------------------------------------------


def _in_process(place: Place, strike: Strike, *, again: bool) -> Report | None:
    return _forked(place.stage, lambda: _run(place, strike, again=again))


def _forked(stage: Stage, work: Callable[[], Awaitable[Report]]) -> Report | None:
    """What `work` reports from a child process; None if it was killed. A dead database server is started again meanwhile."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(work, writing)
    os.close(writing)
    deadline = time.monotonic() + PATIENCE
    chunks: list[bytes] = []
    os.set_blocking(reading, False)
    status = None
    while status is None:
        with suppress(BlockingIOError):
            chunks.append(os.read(reading, 1 << 20))
        pid, ended = os.waitpid(child, os.WNOHANG)
        if pid:
            status = ended
        elif time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            return Report(faults=[f"no end within {PATIENCE:.0f} seconds"])
        else:
            stage.revive()
            time.sleep(0.005)
    os.set_blocking(reading, True)
    while chunk := os.read(reading, 1 << 20):
        chunks.append(chunk)
    os.close(reading)
    if os.WIFSIGNALED(status):
        return None
    return msgspec.json.decode(b"".join(chunks), type=Report)


def _child(work: Callable[[], Awaitable[Report]], writing: int) -> None:
    """Never returns: what the parent registered for its own exit is none of the child's."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        report = asyncio.run(work())  # type: ignore[arg-type]
    except BaseException:
        report = Report(faults=[traceback.format_exc(limit=-6)])
    data = msgspec.json.encode(report)
    while data:
        data = data[os.write(writing, data) :]
    os._exit(0)


async def _furnish(place: Place) -> Report:
    clock = FakeClock()
    async with open_vault(place.settings, clock=clock) as vault:
        secrets = await open_doors(vault)
        (place.folder / "secrets").write_bytes(msgspec.json.encode(secrets))
        client = Client(vault, clock, secrets, place)
        await furnish(client)
        (place.folder / "cursors").write_text(json.dumps(client.cursors))
        await oracle.check(vault, told(place))
    return Report()


async def _run(place: Place, strike: Strike, *, again: bool) -> Report:
    """The journey, until it ends or this process does."""
    clock = FakeClock(Micros(START + (2 * AFTER if again else AFTER) * SECOND))
    watch = Watch(place.folder, at=strike.at, how=strike.how, server=lambda: place.stage.postmaster)
    report = Report()
    with install(watch):
        if strike.journey == START_JOURNEY:
            await _start(place, clock, watch, report)
        else:
            await _journey(place, clock, watch, report, strike.journey, again=again)
    report.names, report.struck = watch.names, watch.struck
    return report


async def _start(place: Place, clock: FakeClock, watch: Watch, report: Report) -> None:
    """The first start: database, keys, journal, policies. It is tried until it stands; then the vault must work."""
    watch.armed = True
    while report.tries < TRIES:
        report.tries += 1
        task = asyncio.ensure_future(_open_and_close(place, clock))
        try:
            await task
        except (VaultError, OSError, asyncio.CancelledError) as error:
            if report.tries == TRIES:
                raise
            del error
            await (await connected(str(place.stage.server.socket_folder))).close()
            continue
        break
    watch.armed = False
    async with open_vault(place.settings, clock=clock) as vault:
        report.facts = {
            "keys": {name: sorted(vault.keystore.read(name)) for name in vault.keystore.names()},
            "schema": await _schema(vault),
        }
        client = Client(vault, clock, await open_doors(vault), place)
        await furnish(client)
        await oracle.check(vault, told(place))
        report.facts |= await oracle.facts(client)


async def _open_and_close(place: Place, clock: FakeClock) -> None:
    async with open_vault(place.settings, clock=clock):
        pass


async def _schema(vault: Any) -> list[list[str]]:
    async with vault.database.hot() as connection:
        rows = await connection.fetch(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, ordinal_position"
        )
        indexes = await connection.fetch(
            "SELECT schemaname, tablename, indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog') ORDER BY 3"
        )
    return [list(row) for row in rows] + [list(row) for row in indexes]


async def _journey(place: Place, clock: FakeClock, watch: Watch, report: Report, name: str, *, again: bool) -> None:
    secrets = msgspec.json.decode((place.folder / "secrets").read_bytes(), type=Secrets)
    async with open_vault(place.settings, clock=clock) as vault:
        if again:
            await oracle.check(vault, told(place))
        client = Client(vault, clock, secrets, place, watch)
        watch.armed = True
        while report.tries < TRIES:
            report.tries += 1
            task = asyncio.ensure_future(JOURNEYS[name](client))
            try:
                await task
            except (Interrupted, VaultError, asyncio.CancelledError) as error:
                watch.armed = False
                if report.tries == TRIES:
                    raise
                await _read_again(vault, place)
                clock.advance(AFTER)
                client.cursors.clear()
                del error
                continue
            break
        watch.armed = False
        await oracle.check(vault, told(place))
        report.faults = oracle.kept(told(place)) + oracle.repeated(client.deliveries())
        report.facts = await oracle.facts(client)


async def _read_again(vault: Any, place: Place) -> None:
    """Everything, once the database is there for good: it may answer once more before it notices that a child of its died."""
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        await _answering(vault)
        try:
            await oracle.check(vault, told(place))
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            continue
        return


async def _answering(vault: Any) -> None:
    """Waits until the database answers again. What borrows next from the pool must find nothing of whoever was cut off."""
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        try:
            async with vault.database.hot() as connection:
                assert not connection.is_in_transaction(), "a connection came back in the middle of a transaction"
                await connection.fetchval("SELECT 1")
                return
        except VaultError:
            if time.monotonic() > deadline:
                raise
            ground = vault.database.ground
            if ground.replaced.is_set():
                # The server is the same one, started again. A served vault opens anew then; here what it has in memory is
                # judged, too, so it goes on.
                ground.place = None
                ground.replaced.clear()
            await asyncio.sleep(0.05)
