"""`audit`: verify the log, and with it the state of everybody; print its signed head."""

from uuid import UUID

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, progress_console, wants_json
from vault.errors import NotFound
from vault.flows import browse
from vault.flows.sweep.audit import Report, audit_state
from vault.flows.sweep.finding import MEANINGS
from vault.flows.sweep.people import FIRST


@click.group()
def audit() -> None:
    """Verify the audit log, and everybody's state with it; print its signed head."""


@audit.command()
@click.option("--state", is_flag=True, help="Also compare everybody's rows with each other, the log and the journal.")
@click.option(
    "--after", type=click.UUID, default=None, help="With --state: go on behind this person, where a run broke off."
)
@json_option
@click.pass_context
def verify(ctx: click.Context, *, state: bool, after: UUID | None) -> None:
    """Recompute the whole log and compare it with its signed head. Ends with 1, naming the first bad entry, if not whole.

    \b
    Example:
      profile-vault audit verify --json
      profile-vault audit verify --state

    With --state it reads everybody, beside a vault that goes on working: it finds what no single read can, such as a
    person put back together from an old copy. People are named by random ids. A run that is broken off says where it was.
    """
    if after is not None and not state:
        raise click.UsageError("--after goes with --state.")
    report = with_vault(browse.audit_verify, create=False)
    if report["ok"]:
        human = f"The log is whole: {report['size']} entries, root {report['root']}."
    else:
        human = f"The log is NOT whole: {report['problem']}. Stop releasing data and see docs/how-to/verify-the-log.md."
    if state:
        found = _state(ctx, after or FIRST)
        report |= {"ok": report["ok"] and found.good, "state": found.told()}
        human += "\n" + _sentences(found)
    emit(ctx, report, human)
    if not report["ok"]:
        ctx.exit(EXIT_FAILED)


def _state(ctx: click.Context, after: UUID) -> Report:
    """The state audit, with a line that counts along. Where it was broken off is told before the error is."""
    console, quiet, report = progress_console(), wants_json(ctx), Report(last=after)

    def tell(what: str, count: int) -> None:
        if not quiet and console.is_terminal:
            console.print(f"  {count} {what} compared", end="\r", highlight=False)

    try:
        return with_vault(lambda vault: audit_state(vault, report, progress=tell), create=False)
    except BaseException:
        if report.people:
            click.echo(f"Broken off; `--after {report.last}` goes on from there.", err=True)
        raise


def _sentences(report: Report) -> str:
    """What was found, in words."""
    looked = f"{report.people} people, {report.narrowings} entries of the journal and {report.tags} identifiers"
    lines = []
    if report.good:
        lines.append(f"The state agrees with itself, with the log and with the journal: {looked} were compared.")
    else:
        lines.append(f"The state does NOT agree; {looked} were compared. See docs/how-to/verify-the-log.md.")
    for one in report.findings:
        whom = "in all" if one.subject is None else f"person {one.subject}"
        lines.append(f"  {whom}: {MEANINGS[one.check]}" + (f" ({one.count})" if one.count > 1 else ""))
    if report.more:
        lines.append(f"  and {report.more} more")
    return "\n".join(lines)


@audit.command()
@json_option
@click.pass_context
def checkpoint(ctx: click.Context) -> None:
    """Print the signed head (a C2SP note). Keep copies elsewhere: who holds one notices every later edit.

    \b
    Example:
      profile-vault audit checkpoint > /mnt/elsewhere/$(date +%F).note
    """
    try:
        note = with_vault(browse.audit_checkpoint, create=False)
    except NotFound:
        raise NotFound("The log has no head yet; `profile-vault worker --once` takes up what waits.") from None
    emit(ctx, {"checkpoint": note}, note.rstrip("\n"))
