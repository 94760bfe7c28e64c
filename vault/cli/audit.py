"""`audit`: verify the log, and with it the state of everybody; print its signed head; give up what is lost of it."""

from uuid import UUID

import rich_click as click

from vault.audit.log import Loss
from vault.bootstrap import EVERYTHING
from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option, progress_console, wants_json
from vault.errors import NotFound
from vault.flows import browse
from vault.flows.losses import Accepted
from vault.flows.replay import Replayed
from vault.flows.sweep.audit import Report, audit_state
from vault.flows.sweep.finding import MEANINGS
from vault.flows.sweep.people import FIRST
from vault.flows.vault import Vault


@click.group()
def audit() -> None:
    """Verify the audit log, and everybody's state with it; print its signed head; accept that a part is lost."""


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


@audit.command("accept-loss")
@click.option("--here", type=click.IntRange(0), metavar="N", help="How many entries this database has.")
@click.option("--head", type=click.IntRange(0), metavar="N", help="How many the head beside the journal names.")
@click.option("--journal", is_flag=True, help="The journal itself is lost or broken: begin a new one.")
@json_option
@click.pass_context
def accept_loss(ctx: click.Context, here: int | None, head: int | None, journal: bool) -> None:  # noqa: FBT001 (a flag)
    """Go on with a database that is older than its audit head, or without the journal that was lost. An officer's act.

    \b
    Example:
      profile-vault audit accept-loss --here 1200 --head 1250

    The start that refuses names both sizes; they are repeated here, so that nothing is given up unseen. First the journal
    is replayed: nobody who was erased or withdrew since comes back. Then a leaf says what was given up, every cursor is
    gone (destinations read a new snapshot), and the head goes back. Whoever holds a newer checkpoint will see the cut.
    """
    if (here is None) != (head is None):
        raise click.UsageError("--here and --head go together; the start that refuses names both")
    if here is None and not journal:
        raise click.UsageError("name what is lost: --here and --head, or --journal")
    entries = None if here is None or head is None else Loss(here, head)

    async def journey(vault: Vault) -> Replayed:
        found: Replayed = vault.replayed
        return found

    done = with_vault(journey, create=False, role=EVERYTHING, accepted=Accepted(entries, journal))
    answer = {"accepted": {"here": here, "head": head, "journal": journal}, "replayed": told(done)}
    emit(ctx, answer, f"The loss is accepted, and on record. {sentence(done)}")


def told(done: Replayed) -> dict[str, int | list[str]]:
    """What a replay did, for programs."""
    return {
        "journal": done.journal,
        "entries": done.entries,
        "erased": done.erased,
        "lowered": done.lowered,
        "tombstones": done.tombstones,
        "unreadable": done.unreadable,
        "requests": [str(one) for one in done.requests],
    }


def sentence(done: Replayed) -> str:
    """What a replay did, for people."""
    if not done.anything:
        return f"The database holds all that the journal says (entries: {done.journal}, new since the last look: {done.entries})."
    line = (
        f"Replayed from the journal: subjects erased: {done.erased}, lowered: {done.lowered}, readable by nobody:"
        f" {done.unreadable}; tombstones put back: {done.tombstones}."
    )
    return "\n".join([line, *(f"  erased again by request {one}" for one in done.requests)])
