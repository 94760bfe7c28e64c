"""Where the demonstration plays: a vault of its own, its server as a process, and the clients that talk to it over HTTP."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from vault.bootstrap import open_vault
from vault.config import Settings, load
from vault.destinations import store as destinations
from vault.errors import Unavailable
from vault.ids import random_token
from vault.sources import store as sources
from vault.staff import store as staff
from vault.storage import embedded

HOST: Final = "127.0.0.1"
PORT: Final = 8000  # the first that is tried
PATIENCE: Final = 30.0  # seconds for the server to start, and for a change to reach a feed
LOG: Final = "demo.log"


class Secrets(msgspec.Struct, frozen=True):
    """What the parties authenticate with; each is shown once, here to the demonstration itself."""

    write_key: str
    tokens: dict[str, str]  # destination -> token
    officer: str

    def __repr__(self) -> str:
        return "Secrets(...)"


def folder(*, once: bool) -> Path:
    """A data folder beside the ordinary one; of this process alone when it is removed at the end."""
    ordinary = load(environ={}).data_dir
    return ordinary.with_name(f"demo-{os.getpid()}" if once else "demo")


def clean(data_dir: Path) -> None:
    """Remove an earlier demonstration: server, data, keys and journal."""
    embedded.remove(data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        data_dir.with_name(data_dir.name + ".key").unlink()


def settings_of(data_dir: Path) -> Settings:
    """The settings of the demonstration's vault: everything of it lies in one folder."""
    return load(environ={"PROFILE_VAULT_DATA_DIR": str(data_dir)})


async def furnish(settings: Settings) -> Secrets:
    """First start: database, keys, policies; a source, a token for every destination, and an officer."""
    async with open_vault(settings) as vault, vault.database.begin() as connection:
        now = vault.clock.now()
        _, write_key = await sources.add(connection, "shop", server=True, now=now, key=vault.rows_key)
        tokens = {
            contract.name: await destinations.add_token(connection, contract.number, now, vault.rows_key)
            for contract in vault.catalogue.contracts.values()
        }
        member = await staff.add(connection, "olivia", "officer", now=now, key=vault.rows_key)
        officer = await staff.add_token(connection, member.staff_id, now=now, key=vault.rows_key)
    return Secrets(write_key, tokens, officer)


@contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """`profile-vault serve` in a process of its own; gives its URL once it is ready."""
    port = _free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-c", "from vault.cli.main import main; main()", "serve", "--port", str(port)]
    with (data_dir / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command on our own interpreter
            command,
            env={**os.environ, "PROFILE_VAULT_DATA_DIR": str(data_dir)},
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C of a terminal is for us: we end it, and wait for it
        )
        try:
            _await_ready(process, url)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        time.sleep(0.1)
    raise Unavailable(f"The demonstration's server did not start; {LOG} in its data folder says why.")


def _free_port() -> int:
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise Unavailable("No port is free on this machine.")


class Party:
    """One party of the story, with a token of its own."""

    def __init__(self, url: str, token: str) -> None:
        """A connection that is kept for the whole story."""
        self._http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE)

    def get(self, path: str, **query: str) -> httpx.Response:
        """GET; raises httpx.HTTPStatusError for anything but 2xx."""
        return self._http.get(path, params=query).raise_for_status()

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """POST of JSON; answers the JSON that came back."""
        answer: dict[str, Any] = self._http.post(path, json=body).raise_for_status().json()
        return answer

    def request_done(self, request_id: str) -> dict[str, Any]:
        """The request, once nothing of it is left to do for the vault."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.get(f"/v1/requests/{request_id}").json()
            if found["state"] in {"completed", "partly_completed"}:
                return found
            time.sleep(0.1)
        raise Unavailable("The request did not come to an end.")


class Reader(Party):
    """A destination that reads its feed and keeps what it is told, as a recipient would."""

    def __init__(self, url: str, name: str, token: str) -> None:
        """Nothing is held before the first read."""
        super().__init__(url, token)
        self.name = name
        self.holds: dict[str, dict[str, Any]] = {}
        self._cursor = ""

    def read(self) -> list[dict[str, Any]]:
        """Every line since the last read, with this destination's copy brought up to date."""
        lines: list[dict[str, Any]] = []
        more = True
        while more:
            query = {"cursor": self._cursor} if self._cursor else {}
            page = self.get(f"/v1/destinations/{self.name}/profiles", **query).text.splitlines()
            *found, last = [msgspec.json.decode(line, type=dict[str, Any]) for line in page]
            self._cursor, more = str(last["cursor"]), bool(last["more"])
            lines += found
        for line in lines:
            if line["op"] == "upsert":
                self.holds[line["id"]] = line
            elif line["op"] == "remove":
                self.holds.pop(line["id"], None)
        return lines

    def read_until_holding(self, people: int) -> None:
        """Read until exactly so many profiles are held: changes are numbered after they are committed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.read()
            if len(self.holds) == people:
                return
            time.sleep(0.1)
        raise Unavailable(f"The feed of {self.name} did not come to {people} profiles.")

    def read_until(self, op: str) -> list[dict[str, Any]]:
        """Read until a line of this kind came."""
        deadline = time.monotonic() + PATIENCE
        lines: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            lines += self.read()
            if any(line["op"] == op for line in lines):
                return lines
            time.sleep(0.1)
        raise Unavailable(f"The feed of {self.name} did not say `{op}`.")


def act_id() -> str:
    """A messageId for an act of the story."""
    return random_token(12)
