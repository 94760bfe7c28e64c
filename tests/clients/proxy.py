"""A bad network between a client and the vault: every third POST is forwarded, taken, and then its answer is lost.

Lost by turns as a 500 and as a connection that drops. The client cannot know that it was taken, and sends it again.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.house import HOST, free_port

PATIENCE = 60
_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class Losing:
    """What passed, and what of it was lost."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = f"http://{HOST}:{free_port()}"
        self.forwarded = 0
        self.refused = 0
        self.dropped = 0
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        return self.refused + self.dropped

    def verdict(self) -> str:
        """What becomes of the answer to the next message."""
        with self._lock:
            self.forwarded += 1
            if self.forwarded % 3:
                return "pass"
            if self.forwarded % 6:
                self.refused += 1
                return "500"
            self.dropped += 1
            return "drop"


@contextmanager
def losing_proxy(target: str) -> Iterator[Losing]:
    proxy = Losing(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            upstream = http.client.HTTPConnection(proxy.target, timeout=PATIENCE)
            try:
                upstream.request(self.command, self.path, body, kept)
                answer = upstream.getresponse()
                told = answer.read()
            finally:
                upstream.close()
            verdict = proxy.verdict() if self.command == "POST" else "pass"
            if verdict == "drop":
                self.close_connection = True
                return
            self.send_response(500 if verdict == "500" else answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_OPTIONS = forward

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer((HOST, int(proxy.url.rpartition(":")[2])), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
