"""The developer at the other end, with real processes: a watcher beside a server that comes and goes, and the doctor."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.house import COMMAND, Door, House, awaited


def told(door: Door, key: str, number: int) -> bool:
    message = {"type": "track", "userId": "u-canary", "messageId": f"m-{number}", "event": "Cart Lost"}
    return bool(door.http.post("/v1/track", json=message, auth=(key, "")).is_success)


@pytest.mark.slow
def test_a_watcher_sees_what_other_processes_take_across_a_restart_and_the_doctor_holds_nothing(house: House) -> None:
    key = house.ask("sources", "add", "shop", "--class", "server")["write_key"]
    at_rest = doctor(house, 1)
    assert at_rest["database"]["state"] == "skipped"
    assert house.postmaster is None  # looking did not start it

    with watching(house) as (watcher, out):
        with house.serving() as door:
            assert told(door, key, 1)
            awaited("the first message", lambda: out.read_bytes().count(b"\n") == 1)
            holders = house.holders()
            found = doctor(house, door.http.base_url.port or 0)
            assert {name: one for name, one in found.items() if one["state"] in {"failed", "skipped"}} == {}
            assert house.holders() == holders
        with house.serving() as door:
            assert told(door, key, 2)
            awaited("the second message", lambda: out.read_bytes().count(b"\n") == 2)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(30) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["name"], line["code"]) for line in lines] == [("Cart Lost", "unlisted")] * 2
    assert lines[0]["lines"][0] == '[track."Cart Lost"]'
    assert "canary" not in out.read_text()
    awaited("the end of the database", lambda: house.postmaster is None)


@contextmanager
def watching(house: House) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """`sources watch shop`, which has begun; and the file that it writes to."""
    out, err = house.folder / "watch.out", house.folder / "watch.err"
    command = [str(COMMAND), "sources", "watch", "shop", "--json"]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        watcher = subprocess.Popen(command, env=house.environ, cwd=house.folder, stdout=stdout, stderr=stderr)  # noqa: S603
    try:
        awaited("the watcher", lambda: b"Watching" in err.read_bytes())
        yield watcher, out
    finally:
        watcher.kill()
        watcher.wait()


def doctor(house: House, port: int) -> dict[str, dict[str, str]]:
    return {one["check"]: one for one in house.ask("doctor", "--port", str(port))["checks"]}
