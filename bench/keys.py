"""Keys: everybody re-wrapped, beside the plain update that it cannot do without; erasure by history; cold and warm keys.

People of the re-wrap are rows of wraps and states, made by the vault's own code and copied in, since a rotation reads nothing else:
three compartments of 4, 3 and 2 purposes, as the benchmark makes them, twelve wraps. The plain update reads the same rows
by the same ranges and writes back as many bytes under the same comparison, and opens nothing. "Cold" are keys that the process must
fetch from the key store, as after its start; "warm" those that it holds.
"""

import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import msgspec

from bench.ground import Ground, Meter, connect, ground, vault_on
from bench.ingest import VaultSide
from bench.report import Options, Report
from bench.rights import EACH, Desk, histories
from bench.workload import Workload
from vault.cli.memory import settle
from vault.flows.lookup import traits
from vault.flows.rotate import CHUNK, rotate
from vault.flows.vault import Vault
from vault.ids import new_subject
from vault.keys.compartments import Opener, holdings_of, pack_wraps
from vault.keys.keyring import ALL
from vault.keys.names import STATE, epochs, purpose_of
from vault.sources import store as sources
from vault.state.record import Writer, fresh, holdings
from vault.worker import run as work_off

FACTOR: Final = 5  # rows for each of `--people`: a hundred thousand untold
SETS: Final = (
    ("support", "analytics", "marketing", "advertising"),
    ("service", "support", "marketing"),
    ("analytics", "personalisation"),
)
DESTINATION: Final = "bench-feed"
LOOKUPS: Final = 100

_RANGE: Final = """
SELECT subject_id, wraps FROM keys.subject_key WHERE subject_id > $1 ORDER BY subject_id LIMIT $2
"""
_PLAIN: Final = """
UPDATE keys.subject_key k SET wraps = n.wraps FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n(subject_id, digest, wraps)
WHERE k.subject_id = n.subject_id AND sha256(k.wraps) = n.digest
"""


async def run(options: Options) -> Report:
    """Erasures and reads first, on people who came through ingest; then the rotations, among a hundred thousand."""
    report = Report("keys", options)
    async with ground(options.database_url) as place, vault_on(place, options.policies) as vault:
        async with vault.database.begin() as connection:
            source, _ = await sources.add(connection, "bench", server=True, now=vault.clock.now(), key=vault.rows_key)
        work = Workload(vault.catalogue, LOOKUPS, options.seed)
        side = VaultSide(vault, source)
        for body in work.preload():
            await side.receive(body)
        sizes = [size for size in (10, 10_000) if size <= options.events]
        await histories(side, work, sizes)
        await work_off(vault, once=True)
        settle()
        await _reads(report, vault)
        await _erasures(report, Desk(vault, source), sizes)
        await _rotations(report, place, vault, options)
    return report


# --- reads and erasures -----------------------------------------------------------------------------------------------


async def _reads(report: Report, vault: Vault) -> None:
    """One lookup of each of a hundred people, in turns with keys fetched before it and with keys that are held."""

    async def looked_up(number: int) -> None:
        await traits(vault, DESTINATION, "user_id", f"user-{number}")

    await looked_up(0)
    cold, warm, fetched = [], [], []
    for number in range(LOOKUPS):
        begun = time.perf_counter()
        vault.keyring.open(ALL)
        fetched.append(time.perf_counter() - begun)
        cold.append(fetched[-1] + await _timed(lambda number=number: looked_up(number)))  # type: ignore[misc]
        warm.append(await _timed(lambda number=number: looked_up(number)))  # type: ignore[misc]
    for name, times in (("cold", cold), ("warm", warm)):
        report.figures[f"lookup_p50_ms_keys_{name}"] = round(statistics.median(times) * 1e3, 2)
    report.figures["fetching_all_keys_p50_ms"] = round(statistics.median(fetched) * 1e3, 2)
    report.figures["cold_to_warm"] = round(statistics.median(cold) / statistics.median(warm), 2)


async def _timed(act: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await act()
    return time.perf_counter() - begun


async def _erasures(report: Report, desk: Desk, sizes: list[int]) -> None:
    """In turns, a person of each size; until the keys are destroyed and that is durable."""
    await desk.erase("user-0")  # statements are prepared once
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(EACH):
        for size in sizes:
            times[size].append(await desk.erase(f"long-{size}-{number}"))
    for size, found in times.items():
        report.figures[f"erasure_p50_ms_{size}_events"] = round(statistics.median(found) * 1e3, 2)
    report.figures["erasure_growth"] = round(
        statistics.median(times[sizes[-1]]) / statistics.median(times[sizes[0]]), 2
    )


# --- rotations --------------------------------------------------------------------------------------------------------


async def _rotations(report: Report, place: Ground, vault: Vault, options: Options) -> None:
    people = options.people * FACTOR
    await _fill(vault, place, people)
    report.figures["rewrapped_people"] = people
    everything = [name for name in vault.keystore.names() if purpose_of(name) is not None]
    one = [epochs(vault.catalogue.purposes["marketing"].number)]
    rates: dict[str, list[float]] = {"plain": [], "every_purpose": [], "one_purpose": []}
    meters: dict[str, list[Meter]] = {name: [] for name in rates}
    for number in range(options.rounds + 1):
        for name, chosen in (("plain", None), ("every_purpose", everything), ("one_purpose", one)):
            await place.settle(names=("bench_vault",))
            await place.checkpoint()
            meter = Meter()
            async with meter.running(place):
                if chosen is None:
                    await _plainly(vault)
                else:
                    told = await rotate(vault, chosen)
                    report.figures[f"wraps_{name}"] = told.wraps
            rate = people / meter.wall
            if number:  # the first is dropped
                rates[name].append(rate)
                meters[name].append(meter)
            report.say(f"round {number} {name}: {rate:,.0f} people/s")
    for name, found in rates.items():
        report.figures[f"people_per_minute_{name}"] = round(statistics.median(found) * 60)
        for whose in ("python", "server"):  # CPU, which other work on the machine touches least
            spent = statistics.median(getattr(meter, whose) for meter in meters[name])
            report.figures[f"{whose}_us_per_person_{name}"] = round(spent / people * 1e6, 1)
    for name in ("every_purpose", "one_purpose"):
        both = zip(rates[name], rates["plain"], strict=True)
        report.figures[f"ratio_{name}"] = round(statistics.median(mine / plain for mine, plain in both), 3)


async def _fill(vault: Vault, place: Ground, people: int) -> None:
    masks = [vault.catalogue.mask(names) for names in SETS]
    writer = Writer(vault.keyring.key(STATE))
    connection = await connect(place.database_url("bench_vault"))
    try:
        for first in range(0, people, 5_000):
            rows, states = [], []
            for _ in range(first, min(people, first + 5_000)):
                subject = new_subject(vault.clock.now())
                opener = Opener(vault.keyring, subject)
                wrapped = [opener.create(mask, 1)[0] for mask in masks]
                rows.append((subject, 1, pack_wraps(wrapped)))
                state = msgspec.structs.replace(
                    fresh(subject), version=1, keys_version=1, holdings=holdings(holdings_of(wrapped))
                )
                states.append((subject, subject, 1, writer.pack(state)))
            await connection.copy_records_to_table(
                "subject_key", schema_name="keys", columns=("subject_id", "version", "wraps"), records=rows
            )
            await connection.copy_records_to_table(
                "subject", columns=("subject_id", "root", "version", "state"), records=states
            )
    finally:
        await connection.close()


async def _plainly(vault: Vault) -> None:
    """Once over the rows."""
    position = UUID(int=0)
    while True:
        async with vault.database.hot() as connection:
            rows = await connection.fetch(_RANGE, position, CHUNK)
            if not rows:
                return
            digests = [hashlib.sha256(row[1]).digest() for row in rows]
            await connection.execute(_PLAIN, [row[0] for row in rows], digests, [row[1] for row in rows])
            position = rows[-1][0]
