"""One HTTP connection: uvicorn's protocol, with an end to everything that a peer could draw out.

Promises: what comes before a request is whole is bounded in bytes (threats G7): head, headers, trailers, pipelined requests;
and in time: a head, a body, and the reading of an answer each have their seconds (slowloris). Who is refused while still
sending gets to read why (`api.lingering`). Bytes that are no HTTP, or
that two readers could cut in two ways, are answered by one coded problem, and the connection ends there. Trailers never
join the headers, which were judged before.
Must not know: routes. What is well formed is judged in `api.front`.
"""

import asyncio
from typing import Any, Final, NoReturn

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api import front
from api.lingering import LINGER_SECONDS, Lingering
from api.observe import ID_BYTES, NO_ROUTE
from api.problems import bare
from vault.errors import Invalid, TooLarge, VaultError
from vault.ids import random_token

HEAD_SECONDS: Final = 10.0  # from the first byte of a request, or from the connection, to the end of its headers
MESSAGE_SECONDS: Final = 45.0  # for a body that nobody waits for; who reads one gives up sooner (api.body)
ANSWER_SECONDS: Final = 60.0  # for a client to make room for more of its answer
MAX_PIPELINED: Final = 16  # requests that wait for the one before them; no client of ours sends any
_log = structlog.get_logger("access")


class Connection(HttpToolsProtocol):
    """A connection with deadlines. The limits are attributes, so that a server in a test can have short ones."""

    head_seconds: float = HEAD_SECONDS
    message_seconds: float = MESSAGE_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    linger_seconds: float = LINGER_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._answer_deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_message = False
        self._began = False  # the first byte of a request has come
        self._ended = False  # a request ended within the piece at hand
        self._head_bytes = 0  # of a head that came in several pieces; the first piece is not counted
        self._refused: VaultError | None = None
        self._last_word: VaultError | None = None  # to be said once everything before it is answered

    # --- what the transport says ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer is there, and has some seconds to say what it wants."""
        self._lingering = Lingering(transport, self.loop, self.linger_seconds)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # as much of a transport as uvicorn uses
        self._arm(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._lingering.lost()
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; end what has grown too large."""
        if self._lingering.lingers:
            self._lingering.discard(len(data))
            return
        if self._last_word is not None:
            return
        if self._deadline is None and not self._in_message:
            self._arm(self.head_seconds)  # also for bytes that begin nothing
        in_one_head = self._in_head
        self._ended = False
        super().data_received(data)
        # A piece that ended a request was no head, however large: it may have held a whole body.
        if self._in_head and in_one_head and not self._ended and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > front.MAX_HEAD + front.MAX_URL:
                self.refuse(TooLarge(f"A head has at most {front.MAX_HEAD} bytes.", code="headers_too_large"))

    def pause_writing(self) -> None:
        """The peer does not take its answer as fast as it is given."""
        super().pause_writing()
        if self._answer_deadline is None:
            self._answer_deadline = self.loop.call_later(self.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None
        super().resume_writing()

    # --- what the parser says ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = self._began = self._lingering.owes_rest = True
        self._in_message = False
        self._head_bytes = 0
        self._arm(self.head_seconds)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        super().on_url(url)
        if len(self.url) > front.MAX_URL + front.MAX_HEAD:
            self._stop(TooLarge(code="url_too_long"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. After the body it is a trailer: not looked at, and not endless."""
        if not self._in_head:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > front.MAX_HEAD:
                self._stop(TooLarge(code="headers_too_large"))
            return
        if len(self.headers) > front.MAX_HEADERS:
            self._stop(TooLarge(f"At most {front.MAX_HEADERS} headers.", code="headers_too_large"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the application begins, and the body has its seconds."""
        try:
            front.check_version(self.parser.get_http_version())
            front.check_headers(self.headers)  # before the application begins: where the body ends depends on them
        except VaultError as refused:
            self._stop(refused)
        if self.parser.should_upgrade():  # a tunnel; whatever comes next would be read as a request
            self._stop(Invalid("No tunnels here.", code="invalid_http"))
        if len(self.pipeline) >= MAX_PIPELINED:
            self._last_word = Invalid("Wait for answers before sending more.", code="invalid_http")
            self._stop(self._last_word)
        super().on_headers_complete()
        self._in_head = False
        self._in_message = True
        self._head_bytes = 0
        self._arm(self.message_seconds)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_head = True  # of the next request, which may never come
        self._in_message = self._began = self._lingering.owes_rest = False
        self._ended = True
        self._head_bytes = 0
        self._disarm()
        super().on_message_complete()

    # --- the end ----------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are no HTTP. `msg` is its own sentence, and is not sent."""
        del msg
        self.refuse(self._refused or Invalid("These bytes are no HTTP request.", code="invalid_http"))

    def on_response_complete(self) -> None:
        """A request is answered. After the last of too many comes the reason why there is no more."""
        if self._last_word is None or self.pipeline:
            super().on_response_complete()
            return
        self.refuse(self._last_word)

    def refuse(self, error: VaultError) -> None:
        """Say so, where an answer can only be meant for this request, and close."""
        self._disarm()
        if self.transport.is_closing() or (self._last_word is not None and not self.cycle.response_complete):
            return
        if self._answerable():
            status, headers, body = bare(error)
            request_id = random_token(ID_BYTES)
            headers.append((b"request-id", request_id.encode()))
            head = b"".join(b"%b: %b\r\n" % pair for pair in headers if pair[0] != b"connection")
            self.transport.write(b"%bconnection: close\r\n%b\r\n%b" % (STATUS_LINE[status], head, body))
            _log.info(
                "request", method="OTHER", route=NO_ROUTE, status=status, code=error.reason, request_id=request_id
            )
        self.transport.close()
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _answerable(self) -> bool:
        """Nothing was answered to this request yet, and no earlier one waits: a second answer would be taken for another's."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return self._in_head and self._began
        return not (self._in_head or self.pipeline or cycle.response_started)

    def _stop(self, error: VaultError) -> NoReturn:
        """From within a callback of the parser: it stops at the first exception, and uvicorn asks for a 400."""
        self._refused = error
        raise error

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        cycle: Any = self.cycle
        if self._in_head and cycle is not None and not cycle.response_complete:
            return  # it waits for us, not we for it
        self.refuse(Invalid("A request is sent within some seconds.", code="too_slow"))
