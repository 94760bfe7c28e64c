"""Where fuzzers play: a real vault with people in it, its real application, every principal; and what no answer may ever be.

    with stage(url) as door:
        answer = door.ask("POST", "/v1/track", [(b"content-type", b"text/plain")], b"...", who="server")

Requests reach the application as a server hands them over: the target's bytes as they are, not as a client library tidies
them. What was wrong is kept in `door.findings`, each with what it takes to do it again.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import httpx
import structlog
from litestar import Litestar

from api.app import create_app
from api.openapi import complete
from tests.api.shop import EMAIL, bearer, identify, order, unhurried
from tests.worlds import World
from vault.bootstrap import open_vault
from vault.config import Settings
from vault.destinations import store as destinations
from vault.flows.vault import Vault
from vault.sources import store as sources
from vault.staff import store as staff
from vault.worker import run

ROOT: Final = Path(__file__).resolve().parents[2]
CANARY: Final = "zq7canary"  # planted in what is sent; it comes back in no answer and no log
ROLES: Final = ("officer", "support", "marketer", "operator", "auditor")
ALLOWED: Final = frozenset({200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 415, 429, 431})
MAX_FINDINGS: Final = 50  # kept; more are counted
MAX_TEXTS: Final = 150  # different error bodies: they are sentences of ours, not what was sent
Headers = list[tuple[bytes, bytes]]


class Stage:
    """One vault and its doors. Synchronous, for fuzzers that are; the loop is its own."""

    def __init__(self, runner: "asyncio.Runner", vault: Vault, app: Litestar, secrets: dict[str, str]) -> None:
        self._runner = runner
        self.vault = vault
        self.app = app
        self.secrets = secrets
        self.document: dict[str, Any] = complete(app.openapi_schema.to_schema())
        self.cases = 0
        self.count = 0
        self.findings: list[dict[str, str]] = []
        self.statuses: Counter[int] = Counter()
        self.error_texts: set[bytes] = set()
        self.logs: list[str] = []
        unhurried(app)

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, method: str, target: str, headers: Headers, body: bytes, *, who: str, label: str) -> httpx.Response:
        """One request, judged. `who` is a principal, or the empty string for the headers as they are."""
        self.cases += 1
        if who:
            secret = self.secrets[who].encode()
            headers = [pair for pair in headers if pair[0] != b"authorization"]
            headers.append((b"authorization", b"Bearer " + secret))
        answer = self._runner.run(self._call(method, target, headers, body))
        self._judge(answer, f"{label} {who} {method} {target[:300]} {body[:2000]!r}")
        return answer

    async def _call(self, method: str, target: str, headers: Headers, body: bytes) -> httpx.Response:
        path, _, query = target.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1", "replace"),
            "query_string": query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": [(b"host", b"vault.test"), *headers],
            "server": ("vault.test", 80),
            "client": ("203.0.113.7", 50_000),
            "state": {},
        }
        sent = False
        started: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, send)
        return httpx.Response(
            started["status"],
            headers=started["headers"],
            content=b"".join(parts),
            request=httpx.Request(method, f"http://vault.test{target.encode('ascii', 'replace').decode()}"),
        )

    def _judge(self, answer: httpx.Response, case: str) -> None:
        status = answer.status_code
        self.statuses[status] += 1
        if status not in ALLOWED:
            self.found(f"status {status}", case + self.logs[-1][:200] if self.logs else case)
        if CANARY.encode() in answer.content or CANARY in str(answer.headers).lower():
            self.found("echo", case)
        if status >= 400:
            self._judge_error(answer, case)
        if self.logs:
            if CANARY in "".join(self.logs):
                self.found("echo in the log", case)
            self.logs.clear()

    def _judge_error(self, answer: httpx.Response, case: str) -> None:
        if answer.headers.get("content-type") != "application/problem+json":
            self.found("content type", case)
            return
        told = json.loads(answer.content)
        if told["status"] != answer.status_code or not told["code"].isascii():
            self.found("problem", case)
        self.error_texts.add(answer.content)
        if len(self.error_texts) > MAX_TEXTS:
            self.found("error texts beyond number", case)

    def found(self, what: str, case: str) -> None:
        """Something that must not be."""
        self.count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append({"what": what, "case": case[:3000]})

    # --- afterwards -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything that was taken can be read again, and leaves as JSON, a value a line."""

        async def check() -> None:
            await run(self.vault, once=True)
            await World(self.vault, {}).check()
            for name in self.vault.catalogue.contracts:
                for line in await self._feed(name):
                    json.loads(line)

        try:
            self._runner.run(check())
        except Exception as error:  # noqa: BLE001 - whatever it is, it was made by what was sent
            self.found("what was stored is not whole", repr(error))
        self.logs.clear()

    async def _feed(self, name: str) -> list[str]:
        lines: list[str] = []
        cursor, more = "", True
        while more:
            headers = [(b"authorization", b"Bearer " + self.secrets[name].encode())]
            answer = await self._call("GET", f"/v1/destinations/{name}/profiles?cursor={cursor}", headers, b"")
            assert answer.status_code == 200, answer.text
            *found, last = answer.text.splitlines()  # splits at more than a line feed, as many readers do
            lines += found
            cursor, more = json.loads(last)["cursor"], json.loads(last)["more"]
        return lines


@contextmanager
def stage(database_url: str, folder: Path) -> Iterator[Stage]:
    """A stage on an empty, migrated database; what it keeps beside it lies in `folder`."""
    settings = Settings(
        data_dir=folder / "data",
        keyring=folder / "keyring",
        key_file=folder / "root.key",
        journal=folder / "journal",
        policies=ROOT / "policies",
        database_url=database_url,
    )
    before = structlog.get_config()
    with asyncio.Runner() as runner:
        exits = AsyncExitStack()
        vault = runner.run(exits.enter_async_context(open_vault(settings)))
        try:
            made = Stage(runner, vault, create_app(vault), runner.run(_principals(vault)))
            runner.run(_people(made))
            structlog.configure(processors=[_kept(made.logs)])
            yield made
        finally:
            structlog.configure(**before)
            runner.run(exits.aclose())


def _kept(logs: list[str]) -> Any:
    def keep(_logger: Any, _name: str, event: Any) -> Any:
        logs.append(str(event))
        raise structlog.DropEvent

    return keep


async def _principals(vault: Vault) -> dict[str, str]:
    now = vault.clock.now()
    secrets = {"nobody": "pvs_" + "A" * 43}
    async with vault.database.begin() as connection:
        _, secrets["server"] = await sources.add(connection, "shop", server=True, now=now, key=vault.rows_key)
        _, secrets["client"] = await sources.add(connection, "app", server=False, now=now, key=vault.rows_key)
        for contract in vault.catalogue.contracts.values():
            secrets[contract.name] = await destinations.add_token(connection, contract.number, now, vault.rows_key)
        for role in ROLES:
            member = await staff.add(connection, f"a-{role}", role, now=now, key=vault.rows_key)
            secrets[role] = await staff.add_token(connection, member.staff_id, now=now, key=vault.rows_key)
    return secrets


async def _people(made: Stage) -> None:
    """Somebody to find, with values that no error may show."""
    transport = httpx.ASGITransport(made.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://vault.test") as http:
        one = identify()
        one["traits"] = {"email": EMAIL, "firstName": "Jane"}
        answer = await http.post(
            "/v1/batch", headers=bearer(made.secrets["server"]), json={"batch": [one, order(), identify("m-3", "u-2")]}
        )
        assert answer.json()["stored"] == 3, answer.text
    await run(made.vault, once=True)
