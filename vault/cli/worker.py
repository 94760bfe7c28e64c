"""`worker`: the background loops in a process of their own."""

import rich_click as click
from prometheus_client import start_http_server

from vault.cli.logs import log_as_json
from vault.cli.memory import settle
from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option
from vault.cli.roles import as_usage, role_of
from vault.cli.serve import answer
from vault.errors import ConfigError
from vault.flows.vault import Vault
from vault.keys.roles import ProcessRole
from vault.measures import REGISTRY
from vault.worker import run


@click.command()
@click.option(
    "--duties",
    default="",
    metavar="LIST",
    help="Loops of this process: changes, audit, webhooks, requests, due; several with commas. Without it: all.",
)
@click.option("--purposes", default="", metavar="LIST", help="With webhooks: the purposes whose keys it gets.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Also answer /livez, /readyz and /metrics on this port of 127.0.0.1, for health checks; 0 takes a free one.",
)
@click.option("--once", is_flag=True, help="Do what is due now, then end.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Show this process's figures to Prometheus on that port of 127.0.0.1; 0 takes a free one and says which.",
)
@json_option
@click.pass_context
def worker(
    ctx: click.Context, *, duties: str, purposes: str, port: int | None, once: bool, metrics_port: int | None
) -> None:
    """Number changes, extend the audit log, push webhooks, carry requests of people forward.

    \b
    Example:
      profile-vault serve --no-worker &
      profile-vault worker

    With --duties it holds the keys of these loops only; the doors ingest and desk run `due` and `requests` themselves.
    Several may run: each loop belongs to whoever holds its lease. `serve` runs one itself unless given --no-worker.
    """
    with as_usage():
        role = role_of(duties=duties, purposes=purposes)
    if once and port is not None:
        raise click.UsageError("`--once` ends by itself: it needs no `--port`")
    log_as_json()
    if port is not None:
        answer(role or ProcessRole(doors=()), "127.0.0.1", port, worker=True)
        return
    if metrics_port is not None:
        _show_figures(metrics_port)

    async def journey(vault: Vault) -> None:
        settle()
        await run(vault, once=once)

    try:
        with_vault(journey, role=role, wait=not once)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        return
    emit(ctx, {"done": True}, "All that was due is done.")


def _show_figures(port: int) -> None:
    """On loopback only, in a thread that ends with the process. Raises ConfigError for a port that is taken."""
    try:
        server, _ = start_http_server(port, addr="127.0.0.1", registry=REGISTRY)
    except OSError as error:
        raise ConfigError(f"it cannot listen on port {port}: {(error.strerror or 'no answer').lower()}") from None
    click.echo(f"Figures are on http://127.0.0.1:{server.server_port}/metrics.", err=True)
