"""The vault's own doors for a benchmark: as `serve --no-worker --log-level error` opens them, in several processes."""

from litestar import Litestar

from api import asgi
from vault.cli.logs import log_as_json


def app() -> Litestar:
    """The doors. Neither side writes a line a request: what logging costs is not what is measured."""
    log_as_json("error")
    return asgi.app()
