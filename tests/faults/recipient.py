"""A recipient of webhooks in a process of its own, so that it outlives the vault: writes down what came, then says 204.

A delivery goes to the file that the last part of its path names. It is on record before it is answered, so a line that
is there has left the vault, whether or not the vault ever heard the answer.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@contextmanager
def recipient(folder: Path) -> Iterator[str]:
    """The URL that deliveries are posted under; `NAME` at its end is the file `NAME.taken` in `folder`."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            line = json.dumps([self.headers["webhook-id"], body["data"]["lines"]])
            with (folder / f"{Path(self.path).name}.taken").open("a") as file:
                file.write(line + "\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    child = os.fork()
    if child == 0:
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def taken(folder: Path, name: str) -> list[tuple[str, list[Json]]]:
    """(idempotency key, lines) of every delivery, in order."""
    path = folder / f"{name}.taken"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def holds(deliveries: list[tuple[str, list[Json]]]) -> dict[str, Json]:
    """What a recipient that follows the lines holds in the end, by pseudonym."""
    held: dict[str, Json] = {}
    seen: set[str] | None = None
    for _, lines in deliveries:
        for line in lines:
            match line["op"]:
                case "reset":
                    seen = set()
                case "snapshot_end":
                    held = {name: one for name, one in held.items() if name in (seen or set())}
                    seen = None
                case "remove":
                    held.pop(line["id"], None)
                case "upsert":
                    held[line["id"]] = line
                    if seen is not None:
                        seen.add(line["id"])
                case _:
                    pass
    return held
