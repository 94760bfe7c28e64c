"""Bytes on disk for a person and for an event, in the vault and in both twins: the growth of each database, written anew."""

from typing import Final

from bench.ground import Ground, ground, vault_on
from bench.ingest import each, preload, staged
from bench.report import Options, Report
from bench.workload import BATCH
from vault.worker import run as work

DATABASES: Final = {"vault": "bench_vault", "twin_tuned": "bench_tuned", "twin_obvious": "bench_obvious"}


async def run(options: Options) -> Report:
    """Empty, then people, then events of those people."""
    report = Report("space", options)
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        stage.work.orders_first = False
        empty = await _sizes(place)
        await preload(stage, options.connections)
        await work(vault, once=True)
        people = await _sizes(place)
        bodies = stage.work.batches(options.batches, tracks_only=True)
        for side in stage.sides:
            await each(options.connections, bodies, side.receive)
            while await side.sequence():
                pass
        await work(vault, once=True)
        events = await _sizes(place)
        journal = sum(path.stat().st_size for path in vault.settings.journal_folder.rglob("*") if path.is_file())
    count = options.batches * BATCH
    for name in DATABASES:
        report.figures[f"bytes_per_person_{name}"] = round((people[name] - empty[name]) / options.people)
        report.figures[f"bytes_per_event_{name}"] = round((events[name] - people[name]) / count)
    for twin in ("tuned", "obvious"):
        for what in ("person", "event"):
            mine, theirs = (report.figures[f"bytes_per_{what}_{name}"] for name in ("vault", f"twin_{twin}"))
            report.figures[f"{what}_ratio_{twin}"] = round(mine / max(theirs, 1), 2)
    report.figures["journal_bytes"] = journal
    report.figures["events"] = count
    return report


async def _sizes(place: Ground) -> dict[str, int]:
    await place.settle(full=True)  # what updates left behind is told by no side: it comes and goes
    return {name: await place.size(database) for name, database in DATABASES.items()}
