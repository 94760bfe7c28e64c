"""`audit`: verify the log, print its signed head."""

import rich_click as click

from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option
from vault.errors import NotFound
from vault.flows import browse


@click.group()
def audit() -> None:
    """Verify the audit log; print its signed head."""


@audit.command()
@json_option
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Recompute the whole log and compare it with its signed head. Ends with 1, naming the first bad entry, if not whole.

    \b
    Example:
      profile-vault audit verify --json
    """
    report = with_vault(browse.audit_verify, create=False)
    if report["ok"]:
        human = f"The log is whole: {report['size']} entries, root {report['root']}."
    else:
        human = f"The log is NOT whole: {report['problem']}. Stop releasing data and see docs/how-to/verify-the-log.md."
    emit(ctx, report, human)
    if not report["ok"]:
        ctx.exit(EXIT_FAILED)


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
