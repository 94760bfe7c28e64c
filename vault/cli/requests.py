"""`requests`: what people asked for, and where it stands. No person is named, and none is looked up."""

from typing import Any, Final
from uuid import UUID

import rich_click as click
from rich.console import Console

from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option, table
from vault.clock import isoformat
from vault.flows.honour.listing import Listed, list_requests
from vault.rights.request import TYPES, RequestType
from vault.rights.store import Request

PAGE: Final = 100
MOST: Final = 1000  # a page
UNREADABLE: Final = "unreadable"  # as a state: of a row that nobody here wrote


@click.group()
def requests() -> None:
    """What people asked for, and where it stands."""


@requests.command("list")
@click.option("--open", "unfinished", is_flag=True, help="Only those that are not finished.")
@click.option("--type", "kind", type=click.Choice(TYPES), help="Only those of this type.")
@click.option("--limit", type=click.IntRange(1, MOST), default=PAGE, show_default=True, help="At most so many.")
@click.option("--after", type=click.UUID, help="Go on behind this request.")
@json_option
@click.pass_context
def list_(ctx: click.Context, *, unfinished: bool, kind: RequestType | None, limit: int, after: UUID | None) -> None:
    """List the requests, the oldest first: type, state, next step and dates. It needs the root key or the desk's key folder.

    \b
    Example:
      profile-vault requests list --open
      profile-vault requests list --type erasure --json

    The ids are those of `/v1/requests/{id}` and its certificate. An erasure that was carried out again after a restore has a new
    one, received when it was. `unreadable` is a row that nobody here wrote: see docs/how-to/verify-the-log.md.
    """
    found = with_vault(
        lambda vault: list_requests(vault, after=after, limit=limit, kind=kind, unfinished=unfinished), create=False
    )
    following = None if found.following is None else str(found.following)
    answer = {"requests": [_told(*one) for one in found.requests], "next": following}
    emit(ctx, answer, lambda console: _draw(console, found))


def _told(request_id: UUID, one: Request | None) -> dict[str, Any]:
    """A request, for programs. Of a row that is not to be believed only its id is said."""
    if one is None:
        none = dict.fromkeys(("type", "step", "received_at", "due_at", "finished_at"))
        return {"request": str(request_id), "state": UNREADABLE} | none
    return {
        "request": str(request_id),
        "type": one.type,
        "state": str(one.state),
        "step": str(one.step),
        "received_at": isoformat(one.received_at),
        "due_at": isoformat(one.due_at),
        "finished_at": None if one.finished_at is None else isoformat(one.finished_at),
    }


def _draw(console: Console, found: Listed) -> None:
    names = ("request", "type", "state", "step", "received_at", "due_at", "finished_at")
    rows = [_told(*one) for one in found.requests]
    columns = ["REQUEST", "TYPE", "STATE", "NEXT STEP", "RECEIVED", "DUE", "FINISHED"]
    table(columns, [[row[name] for name in names] for row in rows], empty="There are no such requests.")(console)
    if found.following is not None:
        console.print(f"There are more: --after {found.following}", highlight=False)
