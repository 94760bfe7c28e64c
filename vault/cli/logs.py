"""Logs of long-running commands: one line of JSON a record on stderr, escaped, so that no value can forge a line (F5).

Records of the vault hold ids, codes and figures; records of libraries pass at WARNING and above, without tracebacks, and
the HTTP client, whose INFO lines hold whole URLs (threats H2), is lowered too.
"""

import logging
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog

_TRACEBACK: Final = "Traceback (most recent call last)"
_QUIET: Final = ("httpx", "httpcore", "sqlalchemy", "asyncio", "uvicorn.access")


class _OneLine(logging.Formatter):
    """A library's record as JSON without its traceback: frames and exception texts may hold values."""

    def __init__(self) -> None:
        super().__init__()
        self._render = structlog.processors.JSONRenderer()

    def format(self, record: logging.LogRecord) -> str:
        first = (record.getMessage().splitlines() or [""])[0]  # some libraries put a whole traceback into the message
        entry: dict[str, Any] = {"event": first, "level": record.levelname.lower(), "logger": record.name}
        raised = record.exc_info[0] if record.exc_info else None
        if raised is not None or _TRACEBACK in first:  # whose first line says nothing to anybody
            entry = {"event": "library.fault", "level": "error", "logger": record.name}
            entry |= {"exception": raised.__name__} if raised is not None else {}
        return str(self._render(None, "", entry))


class _Patient:
    """A log whose disk is full loses lines, not requests (threats H13)."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Written, or lost."""
        with suppress(OSError):
            return self._file.write(text)
        return 0

    def flush(self) -> None:
        """As `write`."""
        with suppress(OSError):
            self._file.flush()


def log_as_json(level: str = "info") -> None:
    """Set up both structlog and the standard library's logging. `level` is for the vault's own records."""
    chosen = logging.getLevelNamesMapping()[level.upper()]
    errors: Any = _Patient(sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(chosen),
        logger_factory=structlog.WriteLoggerFactory(errors),  # record and line end at once: processes may share a file
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(errors)
    handler.setFormatter(_OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
