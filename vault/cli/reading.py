"""Lines of a file as batches that the ingest journey takes. Knows sizes, not meanings.

Promises: a line is held whole only up to `MAX_LINE`; a gzip file is inflated as it is read, so that no bomb fills the
memory; a line that is no JSON object is counted and passed over, and the others go on.
"""

import gzip
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

import msgspec

from vault.errors import Invalid
from vault.events.clean import scan, tolerate_nan

BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 480_000  # under the 500 KB that a batch may have, with room for its frame
MAX_LINE: Final = 1 << 20  # a message may have 32 KB; longer lines are passed over without being held
_GZIP_MAGIC: Final = b"\x1f\x8b"


class Lines:
    """A file being read. `size` and `position` are bytes of the file as it lies on disk; `size` is None for a pipe."""

    def __init__(self, raw: BinaryIO, size: int | None) -> None:
        """`raw` is open for reading at its start."""
        self._raw = _Counted(raw)
        self._buffer = io.BufferedReader(self._raw, 1 << 16)
        self.size = size
        self.unreadable = 0

    @property
    def position(self) -> int:
        """How many bytes of the file were read."""
        return self._raw.taken

    def batches(self) -> Iterator[tuple[bytes, int]]:
        """Bodies `{"batch":[…]}` in the file's order, each with its number of messages."""
        parts: list[bytes] = []
        size = 0
        for line in self._objects():
            if parts and (len(parts) == BATCH_MESSAGES or size + len(line) + 1 > BATCH_BYTES):
                yield _body(parts), len(parts)
                parts, size = [], 0
            parts.append(line)
            size += len(line) + 1
        if parts:
            yield _body(parts), len(parts)

    def _objects(self) -> Iterator[bytes]:
        for line in self._lines():
            stripped = line.strip()
            if not stripped:
                continue
            try:
                scan(stripped)
                clean = tolerate_nan(stripped)
                msgspec.json.decode(clean, type=dict[str, msgspec.Raw])
            except (Invalid, msgspec.MsgspecError):
                self.unreadable += 1
                continue
            yield clean

    def _lines(self) -> Iterator[bytes]:
        stream = self._inflated()
        try:
            while line := stream.readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    self.unreadable += 1
                    while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    continue
                yield line
        except (EOFError, gzip.BadGzipFile, OSError):
            raise Invalid("The file ends early or is no whole gzip file; what came before it was read.") from None

    def _inflated(self) -> IO[bytes]:
        if self._buffer.peek(2)[:2] == _GZIP_MAGIC:
            return cast("IO[bytes]", gzip.GzipFile(fileobj=self._buffer))
        return self._buffer


class _Counted(io.RawIOBase):
    """Counts what passes, for the bar."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        chunk = self._inner.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self.taken += len(chunk)
        return len(chunk)


@contextmanager
def open_lines(file: str) -> Iterator[Lines]:
    """The lines of a file, `-` for stdin. Raises Invalid when it cannot be opened."""
    if file == "-":
        yield Lines(sys.stdin.buffer, None)
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115 (closed below, so that only opening can be blamed on the caller)
    except OSError as error:
        raise Invalid(f"The file cannot be read: {os.strerror(error.errno or 0)}.", code="unreadable_file") from None
    with raw:
        yield Lines(raw, os.fstat(raw.fileno()).st_size)


def _body(parts: list[bytes]) -> bytes:
    return b'{"batch":[' + b",".join(parts) + b"]}"
