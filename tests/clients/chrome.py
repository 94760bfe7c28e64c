"""A page in the system's Chromium, without a screen, driven over a pipe: no port is open and no driver is needed.

with page(url) as shop:
    shop.run("window.shop.orders({…})")      the value of an expression, promises awaited
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.clients import tools

PATIENCE: Final = 60.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # a container's root has none; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-pipe",
)
# Chromium reads from descriptor 3 and writes to 4: this puts ours there and becomes it.
WIRE: Final = "import os, sys; a, b, *c = sys.argv[1:]; os.dup2(int(b), 4); os.dup2(int(a), 3); os.execv(c[0], c)"


class Page:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._pending = b""
        self._number = 0
        self._session = ""

    def open(self, url: str) -> None:
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.go(url)

    def go(self, url: str) -> None:
        """Leave for another page; waits until it is there."""
        assert "errorText" not in self._ask("Page.navigate", {"url": url})
        deadline = time.monotonic() + PATIENCE
        while self.run("[document.readyState, location.href]") != ["complete", url]:
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        told = self._ask("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def _ask(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = json.loads(self._next())
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

    def _next(self) -> bytes:
        while b"\0" not in self._pending:
            more = os.read(self._back, 65_536)
            assert more, "Chromium ended"
            self._pending += more
        message, _, self._pending = self._pending.partition(b"\0")
        return message


@contextmanager
def page(url: str) -> Iterator[Page]:
    """A fresh Chromium with a fresh profile at `url`; both are gone afterwards."""
    profile = tempfile.mkdtemp(prefix="pv-chrome-")
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    command = [str(tools.CHROMIUM), *FLAGS, f"--user-data-dir={profile}"]
    wired = [sys.executable, "-c", WIRE, str(theirs_in), str(theirs_out), *command]
    log = Path(profile, "log").open("wb")  # noqa: SIM115 - closed below, with its process
    process = subprocess.Popen(  # noqa: S603 - the system's browser
        wired, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        tab = Page(to, back)
        tab.open(url)
        yield tab
    finally:
        process.kill()
        process.wait(PATIENCE)
        log.close()
        os.close(to)
        os.close(back)
        shutil.rmtree(profile, ignore_errors=True)
