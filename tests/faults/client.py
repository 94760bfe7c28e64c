"""The client of a vault that may die at any moment: asks through the real doors, and writes down what it was told.

What it was told lies in a file, each line written before anything else is asked: a line there is an acknowledgement that
the vault must keep. A call that gets no answer, or a 5xx, is `Interrupted`: nobody knows whether it was done.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from api.app import create_app
from tests.fakes import FakeClock
from tests.faults.boundary import Watch, watched
from tests.faults.recipient import taken
from tests.faults.stage import Place
from vault.flows.vault import Vault
from vault.worker import run

Json = dict[str, Any]
PUSHED: Final = "email-tool"  # the destination that a webhook is registered for


class Interrupted(Exception):
    """The vault gave no answer that counts."""


class Secrets(msgspec.Struct):
    """What opens the doors."""

    shop: str
    app: str
    destinations: dict[str, str]
    officer: str


class Told(msgspec.Struct):
    """One acknowledgement."""

    name: str
    status: int
    body: Any


class Client:
    """Speaks HTTP to the application in this process."""

    def __init__(
        self, vault: Vault, clock: FakeClock, secrets: Secrets, place: Place, watch: Watch | None = None
    ) -> None:
        app: Any = create_app(vault)
        if watch is not None:
            app = watched(app, watch)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://vault.test")
        self.vault, self.clock, self.secrets = vault, clock, secrets
        self.cursors: dict[str, str] = {}
        self._place = place

    async def ask(self, name: str, method: str, path: str, **more: Any) -> Any:
        """The body of an answer. It is on record before it is used. Raises `Interrupted` for 5xx and for conflicts of races."""
        answer = await self.http.request(method, path, **more)
        if answer.status_code >= 500 or (answer.status_code == 409 and _code(answer) in {"retry", "not_ready"}):
            raise Interrupted(f"{name}: {answer.status_code} {_code(answer)}")
        lines = answer.headers["content-type"].startswith("application/x-ndjson")
        body: Any = [json.loads(line) for line in answer.text.splitlines()] if lines else None
        if answer.headers["content-type"].startswith("application/zip"):
            body = len(answer.content)
        elif not lines:
            body = answer.json()
        self.note(name, answer.status_code, body)
        return body

    def note(self, name: str, status: int, body: Any) -> None:
        """Write an acknowledgement down."""
        descriptor = os.open(self._place.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps([name, status, body]).encode() + b"\n")
        finally:
            os.close(descriptor)

    async def send(self, name: str, *messages: Json, source: str = "shop") -> Any:
        """One batch."""
        key = self.secrets.shop if source == "shop" else self.secrets.app
        return await self.ask(name, "POST", "/v1/batch", json={"batch": list(messages)}, auth=(key, ""))

    async def choose(self, name: str, user: str, choices: Mapping[str, str]) -> Any:
        """`POST /v1/consents`; the name is the act's messageId."""
        self.clock.advance(1)  # an act that is said at the moment of a refusal does not lift it
        said = [{"purpose": purpose, "decision": decision} for purpose, decision in choices.items()]
        body = {"userId": user, "messageId": name, "choices": said}
        return await self.ask(name, "POST", "/v1/consents", json=body, auth=(self.secrets.shop, ""))

    async def feed(self, destination: str, limit: int = 1000) -> list[Json]:
        """Every page to the end, beginning where this client stands."""
        found: list[Json] = []
        while True:
            query: Json = {"limit": limit}
            if destination in self.cursors:
                query["cursor"] = self.cursors[destination]
            lines = await self.ask(
                f"feed {destination}",
                "GET",
                f"/v1/destinations/{destination}/profiles",
                params=query,
                headers=bearer(self.secrets.destinations[destination]),
            )
            self.cursors[destination] = lines[-1]["cursor"]
            found += lines[:-1]
            if not lines[-1]["more"]:
                return found

    async def desk(self, name: str, method: str, path: str, **more: Any) -> Any:
        """A call of the officer."""
        return await self.ask(name, method, path, headers=bearer(self.secrets.officer), **more)

    async def find(self, kind: str, value: str) -> str | None:
        """The reference to a person, if there is one."""
        found = await self.desk("find", "POST", "/v1/subjects/find", json={"kind": kind, "value": value})
        return found.get("ref") if isinstance(found, dict) else None

    def hook(self) -> str:
        """Where deliveries of this vault are taken."""
        return f"{self._place.stage.hooks}/{self._place.name}"

    def deliveries(self) -> list[tuple[str, list[Json]]]:
        """What was delivered there."""
        return taken(self._place.stage.folder, self._place.name)

    async def settle(self) -> None:
        """The worker's loops run until none finds anything to do."""
        await run(self.vault, once=True)


def told(place: Place) -> list[Told]:
    """What was acknowledged, in order; and what was delivered, as if it had been fetched."""
    lines = place.record.read_text().splitlines() if place.record.exists() else []
    pushed = [Told(f"feed {PUSHED}", 200, one) for _, one in taken(place.stage.folder, place.name)]
    return [Told(*json.loads(line)) for line in lines] + pushed


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"authorization": f"Bearer {token}"}


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("code"))
    except ValueError:
        return ""
