"""`sources watch`: each message of a source as it comes, with its verdict. Runs beside `serve`, in a process of its own."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import json_option, wants_json
from vault.clock import SECOND
from vault.flows.follow import Follower
from vault.flows.vault import Vault
from vault.sources.watch import LOOK

PAUSE: Final = 0.2  # seconds between looks: soon enough for somebody who watches a screen
_MARGIN: Final = "    "


@click.command()
@click.argument("name")
@click.option("--count", type=click.IntRange(min=1), help="End after this many messages. Left out: until Ctrl-C.")
@json_option
@click.pass_context
def watch(ctx: click.Context, name: str, count: int | None) -> None:
    """Show each message of a source as it comes: what was stored for what, what was dropped, why, and what would keep it.

    \b
    Example:
      profile-vault serve &
      profile-vault sources watch shop
      profile-vault sources watch shop --json | jq 'select(.verdict == "dropped")'

    Names and codes only: no value and no id of a person is shown, nor any name that does not look like one. Begins with
    what comes from now on; what was dropped before is counted by `profile-vault sources dropped NAME`. Where a line of policy
    would keep it, the line is shown, with a number that is free; `profile-vault policy suggest` prints all of them.

    With --json each message is one JSON document on a line of its own.
    """
    printer = _Printer(as_json=wants_json(ctx))

    async def journey(vault: Vault) -> None:
        follower = await Follower.begin(vault, name)
        try:
            await asyncio.sleep(LOOK / SECOND)  # by then every process that takes messages has looked who watches
            click.echo(f"Watching {name} from now on (Ctrl-C stops).", err=True)
            left = count
            while left is None or left > 0:
                for line in await follower.step():
                    if left is None or left > 0:
                        printer.show(line)
                        left = None if left is None else left - 1
                await asyncio.sleep(PAUSE)
        finally:
            await follower.end()

    try:
        with_vault(journey, create=False)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


class _Printer:
    """One message, printed at once. Lines of policy are printed the first time that they are wanted."""

    def __init__(self, *, as_json: bool) -> None:
        """Nothing was shown yet."""
        self._as_json = as_json
        self._shown: set[str] = set()

    def show(self, line: dict[str, Any]) -> None:
        """Print it, and pass it on to whoever reads the pipe."""
        text = json.dumps(line, ensure_ascii=False) if self._as_json else "\n".join(self._words(line))
        click.echo(text)

    def _words(self, line: dict[str, Any]) -> Iterator[str]:
        time = line["at"][11:23]
        if line["verdict"] == "not_shown":
            yield f"{time}  … {line['count']} more messages, too many to show"
            return
        what = f"{time}  {line['type']}" + (f' "{line["name"]}"' if line["name"] else "")
        if line["verdict"] == "stored":
            kept = f"stored for {', '.join(line['stored_for'])}" if line["stored_for"] else "taken"
            missing = f" (not agreed to: {', '.join(line['not_agreed'])})" if line["not_agreed"] else ""
            yield f"{what}: {kept}{missing}"
        else:
            needs = f" (needs one of {', '.join(line['needs'])})" if line["needs"] else ""
            yield f"{what}: DROPPED, {line['code']}{needs}"
            yield from self._why(line)
        for part in line["parts"]:
            yield f'{_MARGIN}{part["type"]} "{part["name"]}" not stored, {part["code"]}'
            yield from self._why(part)
        if line.get("more_parts"):
            yield f"{_MARGIN}and {line['more_parts']} more properties or traits"

    def _why(self, told: dict[str, Any]) -> Iterator[str]:
        margin = _MARGIN * 2
        if "lines" not in told:
            yield f"{margin}{told['reason']}"
            yield f"{margin}What to do: {told['remedy'] or 'nothing'}."
            return
        header = told["lines"][0]
        if header in self._shown:
            yield f"{margin}`{header}` in {told['file']} would keep it, as shown above"
            return
        self._shown.add(header)
        yield f"{margin}{told['reason']} At the end of {told['file']} this would keep it:"
        yield from (f"{margin}{_MARGIN}{one}" for one in told["lines"])
