"""Feed: a whole first read in pages of 1,000, eight of thirty-one traits, disclosures and audit durable before each page."""

import json
import statistics
from collections.abc import Awaitable, Callable
from typing import Final

from bench.ground import Meter, ground, profiled, vault_on
from bench.ingest import Stage, preload, staged
from bench.report import Options, Report
from bench.twin_feed import ObviousFeed, TunedFeed, Wanted
from vault.catalogue.load import Catalogue
from vault.flows.release.page import page
from vault.flows.vault import Vault

LIMIT: Final = 1000
Read = Callable[[], Awaitable[list[bytes]]]


def destination_of(policies: str) -> str:
    """Whose feed is read: eight traits of our own policies, or the shop's e-mail tool."""
    return "bench-feed" if policies == "bench" else "email-tool"


def wanted_of(catalogue: Catalogue, destination: str) -> Wanted:
    """What its contract gives, for a twin."""
    contract = catalogue.contracts[destination]
    (name,) = catalogue.names(contract.purposes)
    traits = tuple((trait, catalogue.traits[trait].number) for trait in contract.traits)
    return Wanted(traits, contract.purposes, name)


async def read_vault(vault: Vault, destination: str) -> list[bytes]:
    """Every page of the vault."""
    lines: list[bytes] = []
    cursor = None
    while True:
        found = await page(vault, destination, cursor, LIMIT)
        lines += found[:-1]
        last = json.loads(found[-1])
        cursor = last["cursor"]
        if not last["more"]:
            return [line for line in lines if line.startswith(b'{"op":"upsert"')]


async def read_twin(feed: TunedFeed | ObviousFeed) -> list[bytes]:
    """Every page of a twin."""
    lines: list[bytes] = []
    after, more = 0, True
    while more:
        found = await feed.page(after, LIMIT)
        lines += found.lines
        after, more = found.after, found.more
    return lines


def readers(stage: Stage, options: Options) -> dict[str, Read]:
    """Who reads, by name."""
    destination = destination_of(options.policies)
    wanted = wanted_of(stage.vault.catalogue, destination)
    tuned, obvious = TunedFeed(stage.sides[1], wanted), ObviousFeed(stage.sides[2], wanted)  # type: ignore[arg-type]
    return {
        "vault": lambda: read_vault(stage.vault, destination),
        "twin_tuned": lambda: read_twin(tuned),
        "twin_obvious": lambda: read_twin(obvious),
    }


async def run(options: Options) -> Report:
    """Interleaved whole reads; the first of each, which also writes the states, is told apart."""
    report = Report("feed", options)
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        await preload(stage, options.connections)
        meters: dict[str, list[Meter]] = {}
        said: dict[str, list[str]] = {}
        for number in range(options.rounds + 1):
            for name, read in readers(stage, options).items():
                look = options.look(number, name)
                meter, lines = await _read(stage, read, look)
                said[name] = sorted(json.dumps(json.loads(line)["traits"], sort_keys=True) for line in lines)
                report.say(f"round {number} {name}: {len(lines) / meter.wall:,.0f} profiles/s")
                if look is None:
                    meters.setdefault(name, []).append(meter)
        report.figures["profiles"] = len(said["vault"])
        _figures(report, meters, len(said["vault"]))
        report.figures["differences"] = sum(lines != said["vault"] for lines in said.values())
    return report


async def _read(stage: Stage, read: Read, look: str | None) -> tuple[Meter, list[bytes]]:
    await stage.place.checkpoint()
    meter = Meter()
    async with meter.running(stage.place):
        with profiled(look):
            lines = await read()
    return meter, lines


def _figures(report: Report, meters: dict[str, list[Meter]], lines: int) -> None:
    cpu: dict[str, float] = {}
    for name, (first, *more) in meters.items():
        rounds = more or [first]
        report.figures[f"profiles_per_second_{name}"] = round(statistics.median(lines / m.wall for m in rounds))
        report.figures[f"first_read_per_second_{name}"] = round(lines / first.wall)
        report.figures[f"python_us_per_profile_{name}"] = round(
            statistics.median(m.python for m in rounds) / lines * 1e6, 1
        )
        report.figures[f"server_us_per_profile_{name}"] = round(
            statistics.median(m.server for m in rounds) / lines * 1e6, 1
        )
        cpu[name] = statistics.median(m.python + m.server for m in rounds)
    for twin in ("tuned", "obvious"):
        mine, theirs = meters["vault"][1:] or meters["vault"], meters[f"twin_{twin}"][1:] or meters[f"twin_{twin}"]
        report.figures[f"ratio_{twin}"] = round(
            statistics.median(t.wall / v.wall for v, t in zip(mine, theirs, strict=False)), 3
        )
        report.figures[f"cpu_ratio_{twin}"] = round(cpu[f"twin_{twin}"] / cpu["vault"], 3)
