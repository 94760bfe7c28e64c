"""Benchmarks are honest: every side gets the same bytes and ends with the same people, or the figure says that it does not.

Each runs at a tiny size on the run's own server. Nothing here asserts a duration.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import feed, freshness, gate, ingest, keys, memory, over_http, report, rights, space
from bench.command import BENCHES
from bench.ground import connect, ground, policies, vault_on
from bench.ingest import Stage, differences, preload, staged
from bench.report import Options, percentile
from bench.workload import Workload
from vault.catalogue.load import load, read_folder
from vault.cli.main import main
from vault.storage.embedded import Server


def tiny(server: Server, **more: Any) -> Options:
    given: dict[str, Any] = {"people": 40, "rounds": 1, "batches": 2, "acts": 2, "events": 10, "workers": 1}
    return Options(database_url=server.url("postgres"), quiet=True, **{**given, **more})


@asynccontextmanager
async def stage_of(options: Options) -> AsyncIterator[Stage]:
    async with (
        ground(options.database_url) as place,
        vault_on(place, options.policies) as vault,
        staged(place, vault, options) as stage,
    ):
        await preload(stage, options.connections)
        yield stage


@pytest.mark.parametrize("which", ["bench", "shop"])
async def test_vault_and_twins_end_with_the_same_people(server: Server, which: str) -> None:
    done = await ingest.run(tiny(server, policies=which))
    assert done.figures["differences"] == 0
    assert {"ratio_tuned", "ratio_obvious", "cpu_ratio_tuned", "events_per_second_vault"} <= done.figures.keys()


async def test_what_comes_twice_or_late_changes_neither_the_vault_nor_a_twin(server: Server) -> None:
    async with stage_of(tiny(server)) as stage:
        bodies = stage.work.batches(3)
        for side in stage.sides:
            for place in (2, 0, 1, 2, 0):
                await side.receive(bodies[place])
        assert await differences(stage) == 0
        tracked = sum(one["type"] == "track" for body in bodies for one in json.loads(body)["batch"])
        before = sum(person.events for person in (await stage.sides[0].profiles()).values())
        for side in stage.sides:
            for body in bodies:
                await side.receive(body)
        after = [sum(person.events for person in (await side.profiles()).values()) for side in stage.sides]
        assert after == [before] * 3
        assert before >= tracked
        # And a side that ends otherwise is seen.
        connection = await connect(stage.place.database_url("bench_tuned"))
        await connection.execute(
            "UPDATE profile SET orders = orders + 1"
            " WHERE subject_id = (SELECT subject_id FROM profile ORDER BY subject_id LIMIT 1)"
        )
        await connection.close()
        assert await differences(stage) == 1


async def test_the_computed_traits_are_those_of_the_messages(server: Server) -> None:
    async with stage_of(tiny(server)) as stage:
        bodies = [*Workload(stage.vault.catalogue, 40, now=stage.work.now).preload()]
        orders: dict[str, list[int]] = {}
        for one in (one for body in bodies for one in json.loads(body)["batch"]):
            if one["type"] == "track":
                orders.setdefault(one["userId"], []).append(round(one["properties"]["revenue"] * 100))
        for side in stage.sides:
            held = await side.profiles()
            assert {name: (p.orders, p.cents) for name, p in held.items() if p.orders} == {
                name: (len(cents), sum(cents)) for name, cents in orders.items()
            }
            assert {name for name, p in held.items() if p.best} == {
                name for name, cents in orders.items() if sum(cents) >= 20_000
            }


async def test_the_feeds_say_the_same_and_all_put_it_on_record(server: Server) -> None:
    done = await feed.run(tiny(server))
    assert done.figures["differences"] == 0
    assert done.figures["profiles"] == 40
    async with stage_of(tiny(server)) as stage:
        for read in feed.readers(stage, stage_options := tiny(server)).values():
            assert len(await read()) == stage_options.people
        counts = []
        for name, table in (
            ("bench_vault", "disclosure"),
            ("bench_tuned", "disclosure"),
            ("bench_obvious", "disclosures"),
        ):
            connection = await connect(stage.place.database_url(name))
            counts.append(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - names of ours
            await connection.close()
    assert counts == [40, 40, 40]


async def test_the_gate_decides_as_the_enforcer_does() -> None:
    done = await gate.run(Options(rules=240, rounds=1, quiet=True))
    assert done.figures["differences"] == 0
    assert done.figures["rules"] == 240
    assert 0 < done.figures["allowed"] < done.figures["decisions_compared"]


@pytest.mark.slow
async def test_through_the_door_the_sides_agree_too(server: Server) -> None:
    assert (await over_http.ingest(tiny(server))).figures["differences"] == 0
    looked = await over_http.lookup(tiny(server))
    assert looked.figures["differences"] == 0
    assert looked.figures["ratio_by_key"] > 0


@pytest.mark.slow
async def test_rights_are_measured_alone_and_under_ingest(server: Server) -> None:
    for run in (rights.withdrawal, rights.erasure):
        figures = (await run(tiny(server))).figures
        assert {"p50_ms_10_events", "growth", "p99_ms_under_ingest", "ingest_events_per_second"} <= figures.keys()
        assert figures["acts"] == 2


@pytest.mark.slow
async def test_rotations_are_measured_beside_a_plain_update_and_move_every_wrap(server: Server) -> None:
    figures = (await keys.run(tiny(server))).figures
    assert figures["wraps_every_purpose"] >= 12 * figures["rewrapped_people"]
    assert {"ratio_one_purpose", "erasure_growth", "cold_to_warm", "people_per_minute_plain"} <= figures.keys()


async def test_an_event_is_followed_to_lookup_feed_and_webhook(server: Server) -> None:
    figures = (await freshness.run(tiny(server, people=5))).figures
    assert all(figures[f"{name}_p99_ms"] > 0 for name in ("acknowledged", "lookup", "feed", "webhook"))


async def test_space_and_memory_are_told(server: Server) -> None:
    figures = (await space.run(tiny(server))).figures
    assert figures["bytes_per_person_vault"] > 0
    read = (await memory.run(tiny(server))).figures
    assert read["profiles"] == 40
    assert read["rss_mb_max"] >= read["rss_mb_warm"]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    catalogue = load(read_folder(policies(tmp_path, "bench")))
    first, again = Workload(catalogue, 20), Workload(catalogue, 20)
    again.now = first.now
    assert [*first.preload(), *first.batches(2)] == [*again.preload(), *again.batches(2)]


def test_the_command_ends_with_one_line_of_json_and_records_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("| date |\n")
    monkeypatch.setattr(report, "PAGE", page)
    done = CliRunner().invoke(main, ["bench", "gate", "--rules", "220", "--rounds", "1", "--quiet", "--record"])
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["bench"] == "gate"
    assert {"commit", "command", "seed", "versions", "cpus", "ratio_enforcer"} <= line.keys()
    assert page.read_text().count("\n") == 2
    assert f"ratio_enforcer {line['ratio_enforcer']}" in page.read_text()


def test_the_page_explains_every_benchmark() -> None:
    text = report.PAGE.read_text("utf-8")
    assert [name for name in BENCHES if f"## `{name}`" not in text] == []


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile(list(map(float, range(100))), 99) == 99.0
    assert percentile([], 50) == 0.0
