"""A shop and its recipients, for the tests of releases: people by messages of a server source, a reader that follows a feed."""

import json
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from jsonschema import Draft202012Validator

from vault.audit.entry import Entry, Tag, parse
from vault.changes.sequencer import sequence
from vault.consent.ledger import Choice
from vault.flows.choose import ChoiceAct, ConsentAct, choose
from vault.flows.ingest.receive import receive
from vault.flows.people.read import ledgers, profiles
from vault.flows.release.page import MAX_LINES, page
from vault.flows.vault import Vault
from vault.ids import random_bytes
from vault.keys import names
from vault.sources import store as sources
from vault.sources.store import Source
from vault.storage.cluster import SUPERUSER

ROOT: Final = Path(__file__).resolve().parents[2]
SCHEMA: Final = Draft202012Validator(json.loads((ROOT / "docs" / "formats" / "feed.schema.json").read_text("utf-8")))
YES: Final = {"functional": True, "analytics": True, "advertising": True}
Line = dict[str, Any]


class Shop:
    """One server source, and the steps of the worker that make what it sent visible."""

    def __init__(self, vault: Vault, source: Source) -> None:
        self.vault = vault
        self.source = source

    async def send(self, *messages: dict[str, Any]) -> None:
        """Messages as the Segment SDK sends them; every one must be stored."""
        batch = [
            {"messageId": random_bytes(8).hex(), "context": {"consent": {"categoryPreferences": YES}}, **m}
            for m in messages
        ]
        outcome = await receive(self.vault, self.source, json.dumps({"batch": batch}).encode(), "batch")
        assert not outcome.dropped, outcome.dropped
        await self.settle()

    async def person(self, user: str, *, order: float | None = None, **traits: Any) -> None:
        """Somebody who agreed to everything, with an e-mail address of their own and perhaps an order."""
        about = {"email": f"{user}@planted.example", "firstName": user.title()} | traits
        messages: list[dict[str, Any]] = [{"type": "identify", "userId": user, "traits": about}]
        if order is not None:
            properties = {"order_id": f"order-{user}", "revenue": order, "currency": "USD"}
            messages.append({"type": "track", "event": "Order Completed", "userId": user, "properties": properties})
        await self.send(*messages)

    async def say(self, user: str, decision: str, *purposes: str) -> None:
        """An act of choice by the person, through the shop."""
        choices = tuple(ChoiceAct(purpose=name, decision=decision) for name in purposes)
        act = ConsentAct(user_id=user, anonymous_id=None, message_id=random_bytes(8).hex(), choices=choices)
        await choose(self.vault, self.source, act)
        await self.settle()

    async def withdraw(self, user: str, *purposes: str) -> None:
        """They take back what they had agreed to."""
        await self.say(user, "withdrawn", *purposes)

    async def settle(self) -> None:
        """Number what was committed."""
        while await sequence(self.vault.database, self.vault.clock):
            pass


async def open_shop(vault: Vault, name: str = "shop") -> Shop:
    """A new server source."""
    async with vault.database.begin() as connection:
        source, _ = await sources.add(connection, name, server=True, now=vault.clock.now(), key=vault.rows_key)
    return Shop(vault, source)


class Reader:
    """A recipient that does what docs/formats/feed.md asks of it. Every line is checked against the schema."""

    def __init__(self, vault: Vault, destination: str) -> None:
        self.vault = vault
        self.destination = destination
        self.cursor: str | None = None
        self.held: dict[str, Line] = {}
        self._seen: set[str] | None = None

    async def page(self, limit: int = MAX_LINES) -> list[Line]:
        """One page, applied; answers its lines without the cursor line."""
        lines = await lines_of(self.vault, self.destination, self.cursor, limit)
        for line in lines[:-1]:
            self._apply(line)
        self.cursor = lines[-1]["cursor"]
        return lines

    async def read(self, limit: int = MAX_LINES) -> list[Line]:
        """Every page to the end; answers the lines without cursors."""
        found: list[Line] = []
        while True:
            lines = await self.page(limit)
            found += lines[:-1]
            if not lines[-1]["more"]:
                return found

    def emails(self) -> set[str]:
        """The addresses held in clear."""
        return {one["traits"]["email"] for one in self.held.values() if "email" in one["traits"]}

    def _apply(self, line: Line) -> None:
        if line["op"] == "reset":
            self._seen = set()
        elif line["op"] == "snapshot_end":
            assert self._seen is not None
            self.held = {name: one for name, one in self.held.items() if name in self._seen}
            self._seen = None
        elif line["op"] == "remove":
            self.held.pop(line["id"], None)
        elif line["op"] == "upsert":
            self.held[line["id"]] = line
            if self._seen is not None:
                self._seen.add(line["id"])


async def lines_of(vault: Vault, destination: str, cursor: str | None = None, limit: int = MAX_LINES) -> list[Line]:
    """The lines of one page as a client reads them; every one follows the schema."""
    raw = await page(vault, destination, cursor, limit)
    lines = [json.loads(line) for line in raw]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in raw)
    for line in lines:
        SCHEMA.validate(line)
    return lines


def ops(lines: list[Line]) -> list[str]:
    """What the lines do, in order."""
    return [line.get("op", "cursor") for line in lines]


async def rows_of(vault: Vault, query: str, *args: Any) -> list[Any]:
    """Rows, as an outsider with the database would see them."""
    async with vault.database.hot() as connection:
        return await connection.fetch(query, *args)


async def root_of(vault: Vault, destination: str, name: str) -> UUID:
    """The profile that a destination calls so."""
    plan = vault.plan(destination)
    assert plan is not None
    root = plan.root_of(name)
    assert root is not None
    return root


async def audited(vault: Vault, *tags: Tag) -> list[Entry]:
    """Entries of these kinds, taken up or not, the oldest first."""
    rows = await rows_of(vault, "SELECT leaf FROM audit_in UNION ALL SELECT leaf FROM audit")
    entries = [parse(row[0]) for row in rows]
    return sorted((one for one in entries if one.tag in tags), key=lambda one: one.entry_id)


async def ledger_of(vault: Vault, root: UUID) -> tuple[Choice, ...]:
    """The choices on record of a subject."""
    async with vault.database.hot() as connection:
        stored, _ = await profiles(connection, [root], vault.keyring.key(names.STATE))
        return (await ledgers(connection, stored))[root]


async def superuser(vault: Vault) -> asyncpg.Connection:
    """Whoever owns the database: may do anything to its rows, and has no key."""
    url = vault.database.engine.url
    return await asyncpg.connect(host=str(url.query["host"]), user=SUPERUSER, database=url.database)
