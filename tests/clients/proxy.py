"""A bad network between a client and the vault: every third POST is forwarded, taken, and then its answer is lost.

Lost by turns as a 500 and as a connection that drops. The client cannot know that it was taken, and sends it again.
"""

import gzip
import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.house import HOST, free_port

PATIENCE = 60
_MESSAGE = re.compile(rb'"messageId": ?"([^"]+)"')
_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class Losing:
    """What passed, and what of it was lost."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = f"http://{HOST}:{free_port()}"
        self.refused = 0
        self.dropped = 0
        self.owed: set[bytes] = set()  # messages whose client has heard nothing but losses
        self.repeated = 0  # messages that came again after a loss, and whose client now knows
        self._forwarded = 0
        self._lock = threading.Lock()

    def verdict(self, body: bytes) -> str:
        """What becomes of the answer to these messages."""
        messages = set(_MESSAGE.findall(gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body))
        with self._lock:
            self._forwarded += 1
            if self._forwarded % 3:
                self.repeated += len(self.owed & messages)
                self.owed -= messages
                return "pass"
            self.owed |= messages
            if self._forwarded % 6:
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
            verdict = proxy.verdict(body) if self.command == "POST" else "pass"
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

        do_GET = do_POST = do_OPTIONS = forward  # noqa: N815 - names that the base class calls

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
