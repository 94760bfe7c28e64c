"""A vault as its operator has it, whose processes die: two servers, a worker, the database; and who starts them again.

Everything is a real process of the real command. `kill` ends one of them with SIGKILL; `tend` starts what is not there.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from tests.e2e.house import House, free_port
from tests.faults.boundary import _children, kill_server
from tests.faults.recipient import recipient
from tests.faults.stage import MEMORY, ROOT
from vault.storage import embedded

PATIENCE: Final = 180.0  # seconds until everything is up again, on a machine that does other things, too
Json = dict[str, Any]


class Street:
    """The processes. Each is started again as soon as somebody notices that it is gone."""

    def __init__(self, folder: Path, hooks: str, servers: int, *, worker: bool) -> None:
        self.house = House(folder)
        self.house.environ["PROFILE_VAULT_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        self.house.environ["PROFILE_VAULT_DATA_BACKUP_DAYS"] = "0"
        self.turns = 0
        self._turner_said = (folder / "turner").open("ab")
        self.turning = False  # keys are rotated and destroyed meanwhile
        self.folder, self.hooks = folder, hooks
        self.ports = [free_port() for _ in range(servers)]
        self.worker = worker
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: dict[str, int] = {}
        self._held: embedded.Server | None = None
        self._stop = threading.Event()
        self._tending = threading.Thread(target=self._tend, daemon=True)

    @property
    def urls(self) -> list[str]:
        """Of the servers."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def open(self) -> None:
        """Hold the database, start everything, and keep it so until `close`."""
        self._held = embedded.start(self.house.data)
        self._tending.start()
        self.ready()

    def ready(self) -> None:
        """Waits until every server says that it is ready."""
        for url in self.urls:
            awaited(f"{url} to be ready", lambda url=url: _get(url + "/readyz") is not None)

    def settled(self) -> None:
        """Waits until every change has its number and every audit entry its leaf."""
        awaited(
            "an empty backlog",
            lambda: (ready := _get(self.urls[0] + "/readyz")) is not None and not any(ready["backlog"].values()),
        )

    def _tend(self) -> None:
        while not self._stop.wait(0.05):
            with contextlib.suppress(Exception):
                self.tend()

    def tend(self) -> None:
        """Start what is not there."""
        if self.house.postmaster is None:
            self._held = embedded.start(self.house.data)
        wanted = {f"server {port}": ("serve", "--port", str(port), "--no-worker") for port in self.ports}
        if self.worker:
            wanted["worker"] = ("worker",)
        else:
            wanted = {name: arguments[:-1] for name, arguments in wanted.items()}
        for name, arguments in wanted.items():
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.processes[name] = self.house.start(*arguments)

        turner = self.processes.get("rotation")
        if self.turning and (turner is None or turner.poll() is not None):
            self.turns += 1
            self.processes["rotation"] = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.turner"],
                cwd=ROOT,
                env=self.house.environ,
                stderr=self._turner_said,
            )

    def turn(self, *, on: bool) -> None:
        """Have keys rotated from now on, or no more: whoever compares everybody needs keys that stay."""
        self.turning = on
        process = self.processes.get("rotation")
        if not on and process is not None:
            process.kill()
            process.wait()

    def turning_told(self) -> dict[str, int]:
        """How often the turner was begun, how many epochs of one purpose there were, and how many are left."""
        versions = [one["versions"] for one in self.house.ask("keys", "status")["keys"] if one["name"] == "purpose-1"]
        last = max(versions[0]) if versions else 0
        return {"begun": self.turns, "epochs": last, "left": len(versions[0]) if versions else 0}

    def kill(self, drawn: random.Random, kinds: tuple[str, ...]) -> str | None:
        """Kills one of them; answers which, None if what was drawn is not there just now."""
        kind = drawn.choice(kinds)
        if kind in {"postmaster", "backend"}:
            pid = self.house.postmaster
            if pid is None:
                return None
            if kind == "postmaster":
                kill_server(pid)
            else:
                backends = [one for one in _children(pid) if _is_backend(one)]
                if not backends:
                    return None
                _kill(drawn.choice(backends))
        else:
            running = [p for name, p in self.processes.items() if name.startswith(kind) and p.poll() is None]
            if not running:
                return None
            process = drawn.choice(running)
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.kills[kind] = self.kills.get(kind, 0) + 1
        return kind

    def rest(self) -> None:
        """End the servers and the worker in order; the database stays."""
        self._stop.set()
        self._tending.join()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.house.postmaster is None:
            self._held = embedded.start(self.house.data)

    def close(self) -> None:
        """End everything, remove all files."""
        self.rest()
        if self._held is not None:
            self._held.release()
        self.house.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def awaited(what: str, condition: Any) -> Any:
    """The first true answer of `condition`. Raises AssertionError when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE:.0f} seconds in vain for {what}")


def _get(url: str) -> Json | None:
    try:
        answer = httpx.get(url, timeout=30)
        return dict(answer.json()) if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_backend(pid: int) -> bool:
    """Whether this child of the postmaster serves a client of the vault's database."""
    with contextlib.suppress(OSError):
        return b"vault vault" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextlib.contextmanager
def street(servers: int, *, worker: bool = True) -> Iterator[Street]:
    """A street, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pv-storm-", dir=MEMORY if MEMORY.is_dir() else "/tmp"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever ends it leaves nothing running
    with recipient(folder) as hooks:
        made = Street(folder, hooks, servers, worker=worker)
        try:
            yield made
        finally:
            made.close()


def printed(answer: Json) -> int:
    """The one JSON line of a run; its exit code."""
    print(json.dumps(answer))
    return 1 if answer["findings"] else 0
