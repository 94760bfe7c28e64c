"""`import`: read tracking messages from a file, as often as you like.

Messages go through the same journey as over HTTP, in the file's order, one batch after the other: choices of one person
must be written in the order they were said. A messageId that was taken before is recognised, so an import that was killed
goes on by starting it again.
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec
import rich_click as click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vault.cli.memory import settle
from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, progress_console, wants_json
from vault.cli.reading import Lines, open_lines
from vault.flows.ingest.receive import receive
from vault.flows.trail import accusing
from vault.flows.vault import Vault
from vault.sources import store
from vault.worker import run

DUPLICATE: Final = "duplicate"  # the drop code of a message that was taken before


class Figures(msgspec.Struct):
    """What an import did. `duplicates` were there before; `dropped` counts the rest by code."""

    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    dropped: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, messages: int, stored: int, codes: Iterable[str]) -> None:
        """One more batch of so many messages was answered."""
        self.messages += messages
        self.stored += stored
        for code in codes:
            if code == DUPLICATE:
                self.duplicates += 1
            else:
                self.dropped[code] += 1


@click.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--source", "source_name", required=True, help="The source that these messages come from.")
@json_option
@click.pass_context
def import_(ctx: click.Context, file: str, source_name: str) -> None:
    """Read tracking messages, one JSON object a line, from FILE (plain or gzip; `-` is stdin).

    \b
    Example:
      profile-vault sources add shop --class server
      profile-vault import events.ndjson --source shop
      zcat old/*.gz | profile-vault import - --source shop --json

    Policy, consent and duplicates are judged as if the messages came over HTTP. Give each message a `messageId`:
    then reading the file twice changes nothing, and after a crash you just start again.

    Ends with 1 if lines were no JSON object: they are counted and lost, the others are taken. Mend them and read the file
    again.
    """
    started = time.monotonic()
    figures = Figures()
    with open_lines(file) as lines:

        async def journey(vault: Vault) -> None:
            await _read(vault, source_name, lines, figures, quiet=wants_json(ctx))

        with_vault(journey)
        unreadable = lines.unreadable
    seconds = round(time.monotonic() - started, 2)
    data = {"source": source_name, **msgspec.to_builtins(figures), "unreadable_lines": unreadable, "seconds": seconds}
    emit(ctx, data, _sentence(figures, unreadable, seconds))
    if unreadable:
        ctx.exit(EXIT_FAILED)


async def _read(vault: Vault, source_name: str, lines: Lines, figures: Figures, *, quiet: bool) -> None:
    async with accusing(vault), vault.database.begin() as connection:
        source = await store.get(connection, source_name, vault.rows_key)
    settle()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]:,} messages"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=progress_console(), disable=quiet) as progress:
        bar = progress.add_task("Reading", total=lines.size, count=0)
        for body, count in lines.batches():
            outcome = await receive(vault, source, body, "batch")
            figures.add(count, outcome.stored, [one.code for one in outcome.dropped])
            progress.update(bar, completed=lines.position, count=figures.messages)
        progress.update(bar, description="Numbering changes")
        await run(vault, once=True)  # else the feeds would not show the import until a worker runs
        progress.update(bar, description="Done", completed=lines.position, total=lines.position)


def _sentence(figures: Figures, unreadable: int, seconds: float) -> str:
    first = f"{figures.messages:,} messages in {seconds:,.1f} s: {figures.stored:,} stored, "
    lines = [first + f"{figures.duplicates:,} known from before, {figures.dropped.total():,} dropped."]
    lines += [f"  {count:,} x {code}" for code, count in figures.dropped.most_common()]
    if unreadable:
        lines.append(f"  {unreadable:,} lines are no JSON object and were passed over.")
    return "\n".join(lines)
