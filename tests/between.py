"""A gate before a real key service: lets through, or plays one fault. For tests of outages, with nothing mocked behind it."""

import http.client
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

HANGS: Final = "hangs"
"""Takes the request and says nothing, until `release`: as a service with a latency of half a minute."""


class Between:
    """Listens on loopback and passes on to `target`. `fault`: None, HANGS, or (status, headers, body) to answer instead."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.fault: Any = None
        self.times: int | None = None  # so many requests get the fault; None: all
        self.asked: list[str] = []
        self.before_answer: Any = None  # called with each answer's body of the real service; gives back another
        self._released = threading.Event()
        self._held: list[socket.socket] = []
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def open(self) -> "Between":
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # a head and a body are two writes

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                between.pass_on(self)

            do_POST = do_PUT = do_GET  # noqa: N815

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass  # a client that gave up

            def process_request(self, request: Any, client_address: Any) -> None:
                between._held.append(request)
                super().process_request(request, client_address)

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def close(self) -> None:
        """Refuses connections from here on, until `open`."""
        self.release()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for held in self._held:  # connections that clients keep open
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        self._held.clear()

    def release(self) -> None:
        """Lets go of what hangs."""
        self.fault = None
        self._released.set()
        self._released = threading.Event()

    def pass_on(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        self.asked.append(request.headers.get("x-amz-target") or request.path)
        fault = self.fault
        if fault is not None and self.times is not None:
            self.times -= 1
            if self.times < 0:
                fault = None
        if fault == HANGS:
            self._released.wait(60)
            request.close_connection = True
            return
        status, headers, answer = fault if fault is not None else self._real(request, body)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _real(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port or 80, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if self.before_answer is not None:
            content = self.before_answer(content)
        kept = {
            n: v
            for n, v in answer.getheaders()
            if n.lower() in {"content-type", "x-amzn-requestid", "x-amzn-errortype"}
        }
        return answer.status, kept, content
