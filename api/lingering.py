"""The end of a connection on which a peer was answered while it was still sending.

A socket that is closed over bytes nobody read is reset, and the reset takes the answer with it: the client sees a broken
connection, keeps the body that was refused, and sends it again for ever. So the answer is ended, what still comes is thrown
away unread for a few seconds and a few megabytes, and then the connection goes (RFC 9112, section 9.6).
Must not know: what was said, or why.
"""

import asyncio
from typing import Any, Final

LINGER_SECONDS: Final = 3.0  # for a client to read its answer and close
LINGER_BYTES: Final = 8 * 1024 * 1024  # thrown away: a client that sends a body too large by far is still told so


class Lingering:
    """A transport that can stop speaking before it stops listening. Everything else goes to the transport itself."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Wrap `transport`."""
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._left = LINGER_BYTES
        self._end: asyncio.TimerHandle | None = None
        self.owes_rest = False  # the peer has announced bytes that did not come yet

    def __getattr__(self, name: str) -> Any:
        """What this class does not change."""
        return getattr(self._transport, name)

    @property
    def lingers(self) -> bool:
        """True once nothing is said any more and something may still come."""
        return self._end is not None

    def is_closing(self) -> bool:
        """True for everybody who would write."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Close; where the peer is still sending, end the answer first and let it read that."""
        if not self.owes_rest or self.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._end = self._loop.call_later(self._seconds, self._transport.abort)

    def discard(self, size: int) -> None:
        """So many bytes came after the end; too many, and it is over."""
        self._left -= size
        if self._left < 0:
            self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        if self._end is not None:
            self._end.cancel()
