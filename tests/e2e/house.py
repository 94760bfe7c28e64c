"""A vault as its operator has it: a data folder, commands, a server, HTTP. All of it real processes.

    house.ask("sources", "add", "shop", "--class", "server")["write_key"]     one command, its JSON
    with house.serving() as door:                                              `profile-vault serve`, ready
        door.settled(); door.feed("warehouse", token)

Reaches into the vault by two ways only, neither of them the vault's own: SQL on its database, and its files on disk.
"""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from vault.cli.demo_stage import Secrets, furnish
from vault.config import load
from vault.storage import embedded

COMMAND: Final = Path(sys.executable).with_name("profile-vault")
HOST: Final = "127.0.0.1"
PATIENCE: Final = 60.0  # seconds; for a machine that runs other tests, too
ROOT: Final = Path(__file__).resolve().parents[2]

Line = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def awaited(what: str, condition: Any, patience: float = PATIENCE, step: float = 0.05) -> Any:
    """The first true answer of `condition`. Fails, naming `what`, when there is none in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(step)
    raise AssertionError(f"{what} did not come in {patience:.0f} seconds")


class Door:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)

    def settled(self) -> None:
        """Waits until every change has its number and every audit entry its leaf."""
        awaited("an empty backlog", lambda: not any(self.http.get("/readyz").json()["backlog"].values()))

    def feed(self, name: str, token: str) -> list[Line]:
        """A whole first read, numbers exact, without the cursors between its pages."""
        lines: list[Line] = []
        query: dict[str, str] = {}
        while True:
            answer = self.http.get(f"/v1/destinations/{name}/profiles", params=query, headers=bearer(token))
            *found, last = [
                json.loads(line, parse_float=Decimal) for line in answer.raise_for_status().text.splitlines()
            ]
            lines += found
            query = {"cursor": last["cursor"]}
            if not last["more"]:
                return lines

    def feeds(self, tokens: dict[str, str]) -> dict[str, list[Line]]:
        self.settled()
        return {name: self.feed(name, token) for name, token in tokens.items()}

    def request_done(self, officer: str, request: str) -> Line:
        """A request of a person, once the vault has done its part."""

        def look() -> Line | None:
            found: Line = self.http.get(f"/v1/requests/{request}", headers=bearer(officer)).raise_for_status().json()
            return found if found["state"] in {"completed", "partly_completed"} else None

        done: Line = awaited("the end of the request", look)
        return done


class House:
    """One vault. Everything of it lies under `folder`, which is gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.keyring = self.data / "keyring"
        self.key_file = folder / "data.key"
        self.log = folder / "serve.log"
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("PROFILE_VAULT_")}
        self.environ["PROFILE_VAULT_DATA_DIR"] = str(self.data)
        self.environ["PROFILE_VAULT_POLICIES"] = str(ROOT / "policies")

    @property
    def postgres(self) -> Path:
        """The database server's folder."""
        return self.data / "postgres"

    # --- commands -------------------------------------------------------------------------------------------------

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(  # noqa: S603
            [COMMAND, *arguments],
            env=self.environ,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 3,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}"
        return done

    def ask(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self.run(*arguments, "--json", stdin=stdin).stdout)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A command that goes on running."""
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [COMMAND, *arguments],
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def furnish(self) -> Secrets:
        """A server source `shop`, a token for every destination, an officer; without a process for each."""
        return asyncio.run(furnish(load(environ=self.environ)))

    @contextmanager
    def serving(self, *arguments: str, ready: bool = True) -> Iterator[Door]:
        """`serve` on a free port, ready unless told otherwise; ended in order, unless the test ended it."""
        before = self.log.stat().st_size if self.log.exists() else 0
        process = self.start("serve", "--port", "0", *arguments)
        try:
            url = awaited("the server's address", lambda: process.poll() is not None or self._told(before))
        except AssertionError:
            process.kill()
            raise
        assert isinstance(url, str), f"the server ended: {self.log.read_text('utf-8')[before:][-2000:]}"
        door = Door(process, url)
        try:
            awaited("a ready server", lambda: _ready(process, door.http, "/readyz" if ready else "/livez"))
            yield door
        finally:
            door.http.close()
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _told(self, offset: int) -> str | None:
        """The address that the server says it starts on, in what it logged since."""
        with self.log.open("rb") as log:
            log.seek(offset)
            found = re.search(r"starting on (http://[0-9.]+:[0-9]+) ", log.read().decode())
        return None if found is None else found[1]

    # --- the database, past the vault -----------------------------------------------------------------------------

    @property
    def postmaster(self) -> int | None:
        """The process id of the database server, if one runs."""
        try:
            pid = int((self.postgres / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if Path(f"/proc/{pid}").exists() else None

    @property
    def socket(self) -> str:
        """The folder of the server's socket, as the server wrote it down."""
        return (self.postgres / "data" / "postmaster.pid").read_text().splitlines()[4]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a statement. The server must be running."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(host=self.socket, user="vault", database="vault")
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def count(self, statement: str, *values: Any) -> int:
        return int(self.sql(statement, *values)[0][0])

    def stored(self) -> int:
        """How many events are there, each counted once, whatever it was split into. 0 while nobody serves the database."""
        with suppress(OSError, IndexError, asyncpg.PostgresError):
            return self.count("SELECT count(DISTINCT event_key) FROM event")
        return 0

    def holders(self) -> list[int]:
        """The process ids of those who say that they use the database server."""
        return sorted(int(path.name.split("-")[0]) for path in (self.postgres / "holders").glob("*"))

    def close(self) -> None:
        """Stop the database server, whoever holds it, and remove all files."""
        embedded.remove(self.data)
        shutil.rmtree(self.folder, ignore_errors=True)


def _ready(process: "subprocess.Popen[bytes]", http: httpx.Client, path: str) -> bool:
    assert process.poll() is None, "the server ended before it was ready"
    try:
        return http.get(path).is_success
    except httpx.HTTPError:
        return False


# --- what feeds say ---------------------------------------------------------------------------------------------------


def upserts(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["op"] == "upsert"]


def nameless(lines: list[Line]) -> Counter[str]:
    """Lines as a multiset, without what differs between two vaults: pseudonyms and numbers of changes."""
    bare = [{key: value for key, value in line.items() if key not in {"id", "version"}} for line in lines]
    return Counter(json.dumps(line, sort_keys=True, default=str) for line in bare)
