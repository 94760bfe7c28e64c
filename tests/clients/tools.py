"""The tools that real clients run on: Node.js with the packages of package-lock.json, and Chromium. `make clients` installs.

    python -m tests.clients.tools        `npm ci` into .venv/clients, once per lock file; one line for what is missing

What is missing skips its tests, with that line as the reason. In CI nothing may be missing: there they fail.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = Path(sys.prefix) / "clients"  # in the virtual environment, so that `make clean` takes it
FILES: Final = ("package.json", "package-lock.json", ".npmrc")
OLDEST: Final = 18  # of Node.js: it has `fetch`
PATIENCE: Final = 600  # seconds for the packages to come
HOW: Final = "apt-get install nodejs npm chromium, or your system's own, then `make clients`"
NODE: Final = shutil.which("node")
NPM: Final = shutil.which("npm")
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")


def digest() -> str:
    """Of what is to be installed."""
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()


def installed() -> bool:
    stamp = FOLDER / "stamp"
    return stamp.is_file() and stamp.read_text() == digest()


def lacking_node() -> str:
    """Why JavaScript clients cannot run here; empty if they can."""
    if NODE is None:
        return f"Node.js is not here, so its clients are not tested ({HOW})"
    if not installed():
        return "the JavaScript clients are not installed, so they are not tested (`make clients`)"
    return ""


def lacking_browser() -> str:
    """Why no page can run here; empty if one can."""
    if CHROMIUM is None:
        return f"Chromium is not here, so no client is tested in a browser ({HOW})"
    return lacking_node()


def need(lack: str) -> None:
    """Skip what cannot run on this machine; in CI it is a failure."""
    if lack and os.environ.get("CI"):
        pytest.fail(lack)
    if lack:
        pytest.skip(lack)


def within(script: Path) -> Path:
    """The script, where the packages are in its reach: modules are looked for from where it lies."""
    placed = FOLDER / f"{os.getpid()}-{script.name}"
    shutil.copy(script, placed)
    return placed


def node(script: Path, *arguments: str, typed: bool = False, **environ: str) -> "subprocess.Popen[str]":
    """A script, running, with the installed packages in reach. `typed`: it ends with its standard input."""
    return subprocess.Popen(  # noqa: S603 - our own scripts
        [str(NODE), str(within(script)), *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bundle(script: Path, out: Path) -> None:
    """A page's script and all it imports in one file, as shops build theirs."""
    esbuild = FOLDER / "node_modules" / "esbuild" / "bin" / "esbuild"
    subprocess.run(  # noqa: S603 - as above
        [str(NODE), str(esbuild), str(within(script)), "--bundle", "--log-level=error", f"--outfile={out}"],
        check=True,
        timeout=PATIENCE,
    )


def install() -> str:
    """Install, unless it has been done. Answers the one line that says what is missing, or nothing."""
    if NODE is None or NPM is None:
        return f"Node.js or npm is not here: tests of JavaScript clients are skipped ({HOW})"
    if not installed():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with (FOLDER / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in FILES:
                shutil.copy(HERE / name, FOLDER / name)
            sys.stdout.write("Installing the JavaScript clients into .venv/clients (once) ...\n")
            sys.stdout.flush()
            # no install scripts: what they would do is not needed, and nobody has read them
            command = [NPM, "ci", "--ignore-scripts", "--silent"]
            done = subprocess.run(command, cwd=FOLDER, timeout=PATIENCE, check=False)  # noqa: S603
            if done.returncode:
                return "`npm ci` failed: tests of JavaScript clients are skipped"
            (FOLDER / "stamp").write_text(digest())
    major = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]  # noqa: S603
    if int(major) < OLDEST:
        return f"Node.js {major} is older than {OLDEST}: tests of JavaScript clients may fail"
    return "" if CHROMIUM else f"Chromium is not here: tests in a browser are skipped ({HOW})"


if __name__ == "__main__":
    line = install()
    if line:
        sys.stdout.write(line + "\n")
    sys.exit(bool(line) and bool(os.environ.get("CI")))
