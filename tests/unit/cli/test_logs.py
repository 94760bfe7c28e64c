"""Log lines: one a record whatever it holds (threats F5), no traceback, and a full disk that costs no request (H13)."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from vault.cli.logs import log_as_json

EVIL = 'one\r\n{"event":"forged"}\x1b[31m\x00\u2028\x85"},{"'


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    with (tmp_path / "log").open("w+", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log_as_json("debug")
        yield file


def written(log: TextIO) -> str:
    log.flush()
    return Path(log.name).read_text("utf-8")


def test_f5_a_record_is_one_line_of_json_whatever_a_value_holds(log: TextIO) -> None:
    structlog.get_logger().info("told", value=EVIL, **{EVIL: 1})
    logging.getLogger("some.library").warning("%s", EVIL)
    logging.getLogger(EVIL).error(EVIL)
    lines = written(log).split("\n")
    assert len(lines) == 4
    assert lines.pop() == ""
    assert [json.loads(line)["event"] for line in lines] == ["told", "one", "one"]
    assert json.loads(lines[0])["value"] == EVIL
    assert written(log).replace("\n", "").isprintable()


def test_a_librarys_fault_is_told_by_its_kind_alone(log: TextIO) -> None:
    try:
        int("jane@example.com")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("jane@example.com failed")
    told = json.loads(written(log))
    assert told == {"event": "library.fault", "level": "error", "logger": "uvicorn.error", "exception": "ValueError"}


def test_h13_a_log_without_room_loses_its_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - a device; closing it fails, too
    monkeypatch.setattr(sys, "stderr", full)
    log_as_json()
    structlog.get_logger().error("lost")
    logging.getLogger("some.library").error("lost, too")
    with pytest.raises(OSError, match="No space left"):
        full.write("it was that file that took nothing\n")
    with suppress(OSError):
        full.close()


def test_a_traceback_that_a_library_puts_into_its_words_is_told_as_a_fault(log: TextIO) -> None:
    logging.getLogger("uvicorn.error").error(
        "  + Exception Group Traceback (most recent call last):\n  | jane@example.com"
    )
    assert json.loads(written(log)) == {"event": "library.fault", "level": "error", "logger": "uvicorn.error"}
