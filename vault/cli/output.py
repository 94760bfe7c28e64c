"""How every command speaks: words for people, or one JSON value with `--json`; errors as one line that tells what to do.

Promises: with `--json`, stdout holds exactly one JSON document (of a command that goes on, one a line); an error leaves
stdout empty, is one line (or one JSON object with `code` and `message`) on stderr, and ends with 1; wrong usage ends with
2 (click). Tables, bars and hints go where a pipe cannot trip over them. Secrets are printed by the command that makes
them, once, and by nothing else.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import rich_click as click
from rich.console import Console
from rich.table import Table

from vault.errors import PolicyError, VaultError

EXIT_FAILED: Final = 1  # it could not be done, or a check found something wrong
_UNFOLDED: Final = 10_000  # columns
_JSON: Final = "profile-vault.json"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def json_option(function: _Function) -> _Function:
    """Give a command the flag `--json`. Put it nearest to the function; `emit` finds it."""

    def remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's order)
        if value:
            ctx.meta[_JSON] = True

    option = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=remember,
        is_eager=True,
        help="Print one JSON document, for programs.",
    )
    return option(function)


def wants_json(ctx: click.Context) -> bool:
    """Was `--json` given?"""
    return bool(ctx.meta.get(_JSON))


def emit(ctx: click.Context, data: Any, human: str | Callable[[Console], None]) -> None:
    """Print `data` as JSON when asked to, else `human`: a text, or a function that draws on the console."""
    if wants_json(ctx):
        click.echo(json.dumps(data, ensure_ascii=False))
    elif isinstance(human, str):
        click.echo(human)
    else:
        # In a pipe nothing is folded: a name that is cut in two is found by no `grep`.
        human(Console() if sys.stdout.isatty() else Console(width=_UNFOLDED))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> Callable[[Console], None]:
    """A drawer for `emit`: a plain table, or the sentence `empty` when there are no rows."""

    def draw(console: Console) -> None:
        if not rows:
            console.print(empty, markup=False, highlight=False)
            return
        grid = Table(box=None, pad_edge=False)
        for column in columns:
            grid.add_column(column, overflow="fold")
        for row in rows:
            # names come from policies and clients: never read as markup
            grid.add_row(*[_plain(cell) for cell in row])
        console.print(grid, highlight=False)

    return draw


def fail(ctx: click.Context, error: VaultError) -> None:
    """Say on stderr what went wrong and what to do, and end the command with 1."""
    if wants_json(ctx):
        body: dict[str, Any] = {"code": error.reason, "message": error.sentence}
        if error.hint:
            body["hint"] = error.hint
        if isinstance(error, PolicyError):
            body["problems"] = list(error.problems)
        click.echo(json.dumps(body, ensure_ascii=False), err=True)
    elif isinstance(error, PolicyError):
        click.echo("\n".join([error.sentence, *error.problems]), err=True)
    else:
        click.echo(f"{error.sentence} {error.hint}".strip(), err=True)
    ctx.exit(EXIT_FAILED)


def progress_console() -> Console:
    """Where bars and running remarks go: stderr, so that stdout stays the answer."""
    return Console(file=sys.stderr)


def _plain(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return "".join(char if char.isprintable() else "?" for char in text).replace("[", r"\[")
