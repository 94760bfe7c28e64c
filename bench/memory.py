"""A feed of everyone in constant memory: the process's resident size while page after page is read and let go."""

import json
import time
from pathlib import Path
from typing import Final

from bench.feed import LIMIT, destination_of
from bench.ground import ground, vault_on
from bench.ingest import VaultSide, each
from bench.report import Options, Report
from bench.workload import Workload
from vault.cli.memory import settle
from vault.flows.release.page import page
from vault.sources.store import add

WARM: Final = 5  # pages until caches and pools are there
TRAITS: Final = 8
PART: Final = 32  # batches that are made before they are sent


async def run(options: Options) -> Report:
    """Fill, then read; nothing of a page is kept."""
    report = Report("memory", options)
    async with ground(options.database_url) as place, vault_on(place, options.policies) as vault:
        async with vault.database.begin() as connection:
            source, _ = await add(connection, "bench", server=True, now=vault.clock.now(), key=vault.rows_key)
        side = VaultSide(vault, source)
        people = Workload(vault.catalogue, options.people, options.seed, orders_first=False, first_traits=TRAITS)
        part: list[bytes] = []
        for body in people.preload():
            part.append(body)
            if len(part) == PART:
                await each(options.connections, part, side.receive)
                part.clear()
        await each(options.connections, part, side.receive)
        while await side.sequence():
            pass
        settle()
        cursor, lines, sizes = None, 0, []
        begun = time.perf_counter()
        while True:
            found = await page(vault, destination_of(options.policies), cursor, LIMIT)
            lines += sum(line.startswith(b'{"op":"upsert"') for line in found)
            sizes.append(resident())
            last = json.loads(found[-1])
            cursor = last["cursor"]
            if not last["more"]:
                break
        report.figures["profiles"] = lines
        report.figures["profiles_per_second"] = round(lines / (time.perf_counter() - begun))
    warm = sizes[min(WARM, len(sizes) - 1)]
    report.figures["rss_mb_warm"] = round(warm / 1e6, 1)
    report.figures["rss_mb_max"] = round(max(sizes) / 1e6, 1)
    report.figures["rss_mb_end"] = round(sizes[-1] / 1e6, 1)
    report.figures["growth_bytes_per_profile"] = round(max(0, sizes[-1] - warm) / max(lines, 1), 2)
    return report


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
