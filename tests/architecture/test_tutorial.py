"""The tutorial is typed in, line by line, as a newcomer would; every command must succeed and show what the page says."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-event-to-certificate.md"
COMMAND = Path(sys.executable).with_name("profile-vault")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(folder: Path, port: int) -> str:
    """The page's commands, with its folder and port swapped for our own, and each step announced."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = "\n".join(f"echo '--- step {number}'\n{block}" for number, block in enumerate(blocks))
    text = text.replace("make .venv/.demo\n", "").replace("/tmp/", f"{folder}/")  # noqa: S108 (the page's own folder)
    return "set -eu -o pipefail\ntrap 'kill %1 2>/dev/null || true' EXIT\n" + text.replace("8000", str(port))


@pytest.mark.slow
def test_the_tutorial_can_be_typed_as_it_stands() -> None:
    folder = Path(tempfile.mkdtemp(prefix="pvt", dir="/tmp"))
    folder.chmod(0o711)  # as /tmp itself: else root's database would lie elsewhere, and stay there
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PROFILE_VAULT_")}
    environment["PATH"] = f"{COMMAND.parent}:{environment['PATH']}"
    try:
        done = subprocess.run(  # noqa: S603
            ["bash", "-c", script(folder, free_port())],  # noqa: S607
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        log = folder / "vault-tutorial.log"
        told = done.stdout[-3000:] + done.stderr[-3000:] + (log.read_text("utf-8")[-3000:] if log.exists() else "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, told
    for claim in ("shoeSize", '"best_customers"', '"op":"remove"', '"withdrawn"', '"erased"', "The log is whole"):
        assert claim in done.stdout, f"{claim}: {told}"
    assert "ada@example.com" not in done.stdout  # the desk typed it; nothing printed it
