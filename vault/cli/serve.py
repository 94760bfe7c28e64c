"""`serve`: the HTTP doors, and unless told otherwise the worker, in one process."""

import importlib
import resource
import socket
from functools import partial
from typing import Final

import rich_click as click
import uvicorn

from vault.cli.logs import log_as_json
from vault.cli.roles import as_usage, role_of
from vault.config import load
from vault.errors import ConfigError
from vault.keys.roles import ProcessRole

# Connections that may wait to be taken: a shop's whole audience at the start of a sale. The system caps it at its
# net.core.somaxconn, 4,096 on Linux; past it a client waits a second and knocks again, or gives up.
BACKLOG: Final = 4_096
EXAMPLE_IF_FIRST: Final = (
    "No `policies` folder is set, and none lies here: a first start applies the policies of the example shop."
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one and says which.",
)
@click.option("--no-worker", is_flag=True, help="Answer HTTP only; run `profile-vault worker` beside it.")
@click.option(
    "--doors",
    default="",
    metavar="LIST",
    help="Doors of this process: ingest, feed, desk; several with commas. Without it: all, with every key.",
)
@click.option("--purposes", default="", metavar="LIST", help="With the door feed: the purposes whose keys it gets.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to log. No level logs a personal value.",
)
@click.option("--json", "_json", is_flag=True, help="Accepted for uniformity: the log is JSON in any case.")
def serve(host: str, port: int, *, no_worker: bool, doors: str, purposes: str, log_level: str, _json: bool) -> None:
    """Answer HTTP: tracking calls, feeds, lookups, and the rights desk.

    \b
    Example:
      profile-vault serve --port 8000
      python -c "import segment.analytics as a; a.write_key='pvw_…'; a.host='http://127.0.0.1:8000'; …"

    With --doors it answers these paths only, and holds their keys only: `ingest` for tracking calls, choices and what
    destinations report; `feed` for feeds and lookups of --purposes; `desk` for requests of people. See `keys hand-out`.

    The first start makes database, keys and journal, and applies the policies folder. Logs are JSON lines on stderr
    with route templates and ids only. Stop it with Ctrl-C: what was acknowledged is durable.
    Put a TLS proxy before it for anything but this machine; /readyz, /metrics and /schema answer on loopback only.
    """
    settings = load()  # a wrong setting is told here, in one line, before a server starts
    if settings.policies is None:
        click.echo(EXAMPLE_IF_FIRST, err=True)
    with as_usage():
        role = role_of(doors, purposes)
    log_as_json(log_level)
    answer(role, host, port, worker=not no_worker)


def answer(role: ProcessRole | None, host: str, port: int, *, worker: bool) -> None:
    """Serve the doors of `role` until told to stop, and with `worker` run its duties. Exits with 1 if it cannot start."""
    confined = importlib.import_module("api.asgi").confined  # the floor above: named, not imported
    config = uvicorn.Config(
        partial(confined, role, worker=worker),
        factory=True,
        host=host,
        port=port,
        loop="uvloop",
        http="api.connection:Connection",  # httptools, with an end to everything that a peer could draw out (threats G7)
        ws="none",  # nothing here speaks it
        access_log=False,  # it would print paths; ours prints route templates
        log_config=None,
        server_header=False,
        proxy_headers=False,  # a forwarded address must not make anyone loopback (threats G17)
        timeout_keep_alive=30,
        backlog=BACKLOG,
    )
    _allow_files()
    server = uvicorn.Server(config)
    listener = _bind(host, port)
    click.echo(f"Profile Vault is starting on http://{host}:{listener.getsockname()[1]} (Ctrl-C stops it).", err=True)
    server.run(sockets=[listener])
    if not server.started:
        raise SystemExit(1)


def _bind(host: str, port: int) -> socket.socket:
    """The port is taken before the vault opens: port 0 can be told then, and one in use costs nothing. Raises ConfigError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"it cannot listen on {host}, port {port}: {(error.strerror or 'no answer').lower()}"
        ) from None
    return listener


def _allow_files() -> None:
    """As many open files as the system lets this user have: each connection is one, and 1,024 is a usual soft limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
