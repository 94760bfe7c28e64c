"""`bench`: measures the vault beside plaintext twins, and ends with one line of JSON.

Named in the table of `vault.cli.main`, which imports it only when it is called: the package below knows nothing of it.
"""

import asyncio
import importlib
import pstats
import sys
from typing import Any, Final

import rich_click as click
import uvloop

from bench.report import Options, Report, record

# name -> (module:function, the line that help shows). Loaded when it is run: the doors' packages are not cheap.
BENCHES: Final[dict[str, tuple[str, str]]] = {
    "ingest": ("bench.ingest:run", "Batches of 100 through the whole pipeline, in process."),
    "feed": ("bench.feed:run", "A first read of everyone, eight of thirty-one traits, with disclosures and audit."),
    "gate": ("bench.gate:run", "The gate's table against Casbin's enforcer at 2,000 rules; every decision compared."),
    "ingest-http": ("bench.over_http:ingest", "The same as ingest, through the door, with two workers."),
    "lookup": ("bench.over_http:lookup", "One profile through the door, beside a read by primary key."),
    "withdrawal": ("bench.rights:withdrawal", "A withdrawal until it is durable: under ingest, and by history."),
    "erasure": ("bench.rights:erasure", "An erasure until the keys are destroyed: under ingest, and by history."),
    "keys": ("bench.keys:run", "Everybody re-wrapped beside a plain update; erasure by history; cold and warm keys."),
    "freshness": ("bench.freshness:run", "From an event to lookup, feed and webhook."),
    "space": ("bench.space:run", "Bytes on disk for a person and an event."),
    "memory": ("bench.memory:run", "A feed of everyone in constant memory."),
}
_SHOWN: Final = 25  # functions of a profile


def _options(function: Any) -> Any:
    """What every benchmark takes."""
    default = Options()
    for option in (
        click.option("--people", default=default.people, show_default=True, help="People there before it begins."),
        click.option(
            "--rounds", default=default.rounds, show_default=True, help="Rounds that count; one more is dropped."
        ),
        click.option("--batches", default=default.batches, show_default=True, help="Batches of 100 messages a round."),
        click.option("--connections", default=default.connections, show_default=True, help="Batches at a time."),
        click.option("--seed", default=default.seed, show_default=True, help="Of the messages: the same bytes again."),
        click.option("--policies", default=default.policies, show_default=True, help="`bench`, `shop`, or a folder."),
        click.option("--database-url", help="Another PostgreSQL server, by the URL of an administrative database."),
        click.option("--rules", default=default.rules, show_default=True, help="Lines of gate/rules.csv, for `gate`."),
        click.option("--workers", default=default.workers, show_default=True, help="Processes behind a door."),
        click.option(
            "--events", default=default.events, show_default=True, help="The longest history, for the rights."
        ),
        click.option(
            "--acts", default=default.acts, show_default=True, help="Withdrawals, erasures or events to follow."
        ),
        click.option("--profile", help="Write cProfile's figures of one more round here, and print the top of them."),
        click.option("--profiled", default=default.profiled, show_default=True, help="Which side is looked into."),
        click.option("--record", is_flag=True, help="Append a row to docs/benchmarks.md (in a checkout)."),
        click.option("--quiet", is_flag=True, help="Say nothing on the way."),
        click.option("--json", "_json", is_flag=True, help="Accepted for uniformity: it ends with JSON in any case."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("name", type=click.Choice([*BENCHES, "all"]))
@_options
def bench(name: str, *, _json: bool, **given: Any) -> None:
    """Measure this machine: the vault beside plaintext twins that do the same work, in one run on one server.

    \b
    Example:
      profile-vault bench ingest --people 20000
      profile-vault bench all

    A server of its own is started and removed. The last line on stdout is JSON: figures, rounds, seed, versions and the
    command. docs/benchmarks.md says what each one measures. Trust the ratios of one run, not figures across runs.
    """
    options = Options(**given)
    chosen = list(BENCHES) if name == "all" else [name]
    reports = [measure(one, options) for one in chosen]
    if options.record:
        for report in reports:
            record(report)
    if name == "all":
        whole = Report("all", options, {one.name: one.figures for one in reports})
        click.echo(whole.json())
    else:
        click.echo(reports[0].json())


def measure(name: str, options: Options) -> Report:
    """Run one benchmark on a loop as the server's."""
    module, function = BENCHES[name][0].split(":")
    run = getattr(importlib.import_module(module), function)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report: Report = runner.run(run(options))
    if options.profile:
        pstats.Stats(options.profile, stream=sys.stderr).sort_stats("tottime").print_stats(_SHOWN)
    return report
