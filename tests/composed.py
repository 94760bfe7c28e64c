"""What compose.yaml and the Dockerfile say, for tests: as they stand, and as they run here, without a container engine.

site = Composed(folder, database_url)
site.run_once("init")                       the service's own command, on the folders that stand for its volumes
with site.serving("feed") as door: ...
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from tests.e2e.house import PATIENCE, Door, awaited
from tests.logins import login_for
from vault.cli.roles import parts_of

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = "/var/lib/profile-vault"
POLICIES: Final = "/etc/profile-vault/policies"
BIN: Final = Path(sys.executable).parent

Service = dict[str, Any]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def image_environment() -> dict[str, str]:
    """The variables of ours that the image sets."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    return dict(re.findall(r"(PROFILE_VAULT_[A-Z_]+)=(\S+)", text))


def mounts(service: Service) -> dict[str, tuple[str, bool]]:
    """Path in the container -> (volume or folder, may be written)."""
    found = {}
    for one in service.get("volumes", []):
        name, path, *mode = one.split(":")
        found[path] = (name, mode != ["ro"])
    return found


def option(command: list[str], name: str) -> str:
    """What follows an option of a command."""
    return command[command.index(name) + 1] if name in command else ""


def parts_of_command(command: list[str]) -> frozenset[str]:
    """The doors and duties of a service."""
    return parts_of(option(command, "--doors"), option(command, "--duties"))


class Composed:
    """The services on one machine: a folder for each volume, and for each container links to those that it mounts."""

    def __init__(self, folder: Path, database_url: str, **environ: str) -> None:
        """`environ` is set for every service, as an operator's override file would."""
        self.folder = folder
        self.services: dict[str, Service] = compose()["services"]
        self._url = database_url
        self._environ = environ

    def home(self, name: str) -> Path:
        """What the service sees as HOME: nothing in it but its mounts."""
        home = self.folder / "containers" / name
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for path, (volume, _) in mounts(self.services[name]).items():
            if not path.startswith(HOME):
                continue
            source = self.folder / "volumes" / volume
            source.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = home / Path(path).relative_to(HOME)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
        return home

    def environ(self, name: str, home: Path) -> dict[str, str]:
        given = image_environment() | self.services[name].get("environment", {})
        ours = {
            key: value.replace(HOME, str(home)).replace(POLICIES, str(ROOT / "policies"))
            for key, value in given.items()
        }
        bare = {key: value for key, value in os.environ.items() if not key.startswith("PROFILE_VAULT_")}
        return {**bare, **ours, **self._environ, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run_once(self, name: str, *command: str) -> str:
        """Runs the service to its end; `command` stands for its own. Answers what it printed."""
        home = self.home(name)
        service = self.services[name]
        entry = service.get("entrypoint", [str(BIN / "profile-vault")])
        given = [one.replace("$$", "$").replace(HOME, str(home)) for one in (command or service["command"])]
        done = subprocess.run(  # noqa: S603
            [*entry, *given], env=self.environ(name, home), cwd=home, capture_output=True, text=True,
            timeout=PATIENCE * 3, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr[-2000:]}"
        if name == "secrets":  # the database of this machine stands for the service `database`
            (self.folder / "volumes" / "access" / "database-url").write_text(self._url)
            for service in self.services.values():
                volume = mounts(service).get(f"{HOME}/access", ("access", False))[0]
                if volume != "access":
                    url = asyncio.run(login_for(self._url, parts_of_command(service["command"])))
                    (self.folder / "volumes" / volume / "database-url").write_text(url)
        return done.stdout

    def operator(self, *command: str) -> Any:
        """`docker compose run --rm operator …`, its JSON."""
        return json.loads(self.run_once("operator", *command, "--json"))

    def start(self, name: str, *, command: list[str] | None = None) -> "subprocess.Popen[bytes]":
        home = self.home(name)
        given = ["0" if one == "8000" else one for one in (command or self.services[name]["command"])]
        given = ["127.0.0.1" if one == "0.0.0.0" else one for one in given]
        with self.log(name).open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [BIN / "profile-vault", *given], env=self.environ(name, home), cwd=home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @contextmanager
    def serving(self, name: str) -> Iterator[Door]:
        """The service, healthy: its own health check passes."""
        process = self.start(name)
        door = None
        try:
            found = awaited(f"the address of {name}", lambda: process.poll() is not None or self._told(name))
            assert isinstance(found, str), f"{name} ended: {self.log(name).read_text('utf-8')[-2000:]}"
            door = Door(process, found)
            awaited(f"the health of {name}", lambda: self._healthy(name, found))
            yield door
        finally:
            if door is not None:
                door.http.close()
            process.terminate()
            process.wait(PATIENCE)

    def _told(self, name: str) -> str | None:
        found = re.findall(r"starting on (http://[0-9.]+:[0-9]+) ", self.log(name).read_text("utf-8"))
        return found[-1] if found else None

    def _healthy(self, name: str, url: str) -> bool:
        _, _, *check = self.services[name]["healthcheck"]["test"]
        check[-1] = check[-1].replace("http://127.0.0.1:8000", url)
        done = subprocess.run([sys.executable, *check], capture_output=True, check=False)  # noqa: S603
        return done.returncode == 0
