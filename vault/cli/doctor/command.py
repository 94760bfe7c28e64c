"""The command `doctor`: runs the checks in the order in which each needs the last, and says one line about each."""

import asyncio
from typing import Any, Final

import rich_click as click

from vault.cli.doctor import database, machine, secrets
from vault.cli.doctor.finding import STATES, Finding, failed
from vault.cli.output import EXIT_FAILED, emit, json_option
from vault.config import load
from vault.errors import ConfigError

_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "cyan"}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that `serve` is to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port of `serve`.")
@click.option("--start", is_flag=True, help="Start an embedded database that is at rest, look, and stop it again.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, host: str, port: int, *, start: bool) -> None:
    """Look at everything that can be wrong with an installation, and say what to do. Changes nothing; ends with 1 on a failure.

    \b
    Example:
      profile-vault doctor
      profile-vault doctor --port 8080 --start
      profile-vault doctor --json | jq '.checks[] | select(.state != "ok")'

    Run it as the user, and with the settings, of the vault; while it runs or while it does not. Checks: interpreter and
    packages, settings, folders and key file, disk, core files, port, key store, journal, policies, and in the database its
    fitness, schema, clock, live policy, audit head, worker and backlog. `skipped` is what could not be looked at, and why.
    `audit verify` reads the whole log; this compares its head only.
    """
    found = examine(host, port, start=start)
    counts = {state: sum(one.state == state for one in found) for state in STATES}
    data: dict[str, Any] = {"ok": not counts["failed"], "counts": counts, "checks": [one._asdict() for one in found]}
    emit(ctx, data, _text(found, counts))
    if counts["failed"]:
        ctx.exit(EXIT_FAILED)


def examine(host: str, port: int, *, start: bool = False) -> list[Finding]:
    """Every check; those that need settings only with settings that can be read."""
    found = [machine.python(), machine.packages()]
    try:
        settings = load()
    except ConfigError as error:
        return [*found, failed("settings", error.hint, "see docs/reference/settings.md")]
    where = "the embedded PostgreSQL" if settings.embedded else "the PostgreSQL of database_url"
    found.append(Finding("settings", "ok", f"{where}, data in {settings.data_dir}" if settings.embedded else where))
    listener = machine.port(host, port)
    found += [*machine.folders(settings), *machine.disk(settings), machine.core_files(), listener]
    opened = secrets.key_store(settings)
    policies = secrets.policies(settings)
    kept = secrets.journal(settings, opened.keyring)
    found += [opened.finding, kept.finding, secrets.destroyed(settings, kept.journal), policies.finding]
    serving = listener.found.startswith(machine.ANSWERS)
    try:
        return found + asyncio.run(database.look(settings, kept.journal, policies.digest, start=start, serving=serving))
    finally:
        if kept.journal is not None:
            kept.journal.close()


def _text(found: list[Finding], counts: dict[str, int]) -> str:
    width = max(len(one.check) for one in found)
    lines = []
    for one in found:
        state = click.style(f"{one.state:<8}", fg=_COLOURS[one.state])
        lines.append(f"{state} {one.check:<{width}}  {one.found}" + (f". To do: {one.remedy}" if one.remedy else ""))
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)
