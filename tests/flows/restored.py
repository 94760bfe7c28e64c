"""A database put back: a copy of it is taken at some moment, and opened later with the keys and the journal of later.

The copy is one of PostgreSQL's own (a template), so it is what a restored dump holds, with another database id.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from tests.fakes import FakeClock
from tests.worlds import World
from vault.audit.entry import Entry, Tag, parse
from vault.audit.log import Loss
from vault.bootstrap import open_vault
from vault.config import Settings
from vault.errors import Conflict
from vault.flows.losses import Accepted
from vault.ids import random_bytes
from vault.keys.roles import ProcessRole
from vault.sources import store as sources
from vault.storage import embedded
from vault.storage.cluster import SUPERUSER

ROOT = Path(__file__).resolve().parents[2]


class Backups:
    """One vault, its copies, and whatever is opened of them."""

    def __init__(self, server: embedded.Server, settings: Settings, clock: FakeClock) -> None:
        self.server = server
        self.settings = settings
        self.clock = clock
        self.made: list[str] = []

    async def administer(self, statement: str) -> None:
        await self.owner_does("postgres", statement)

    async def owner_does(self, name: str, statement: str) -> None:
        """As somebody who owns that database and holds no key."""
        connection = await asyncpg.connect(host=str(self.server.socket_folder), user=SUPERUSER, database=name)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def take(self, name: str | None = None) -> str:
        """A copy of the vault's database as it is now, or of the copy `name`. Nobody may be connected to it."""
        of = name or str(self.settings.database_url).partition("@/")[2].partition("?")[0]
        made = f"b_{random_bytes(6).hex()}"
        await self.administer(f"CREATE DATABASE {made} TEMPLATE {of}")
        self.made.append(made)
        return made

    async def drop(self) -> None:
        for name in self.made:
            await self.administer(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def open(
        self, copy: str | None = None, *, accept: bool = False, role: ProcessRole | None = None
    ) -> AsyncIterator[World]:
        """A world on the vault, or on a copy; `accept`: the officer accepts whatever loss it shows."""
        self.clock.advance(60)  # past the leases of who was here before
        settings = self.settings
        if copy is not None:
            settings = msgspec.structs.replace(settings, database_url=self.server.url(copy))
        accepted = Accepted(await self.loss(settings) if accept else None)
        async with open_vault(settings, clock=self.clock, accepted=accepted, role=role) as vault:
            async with vault.database.begin() as connection:
                known = {one.source.name: one.source for one in await sources.everyone(connection)}
            yield World(vault, known) if known else await World.of(vault)

    async def loss(self, settings: Settings) -> Loss | None:
        """What the start asks an officer to accept; None if it just starts."""
        try:
            async with open_vault(settings, clock=self.clock):
                return None
        except Conflict as conflict:
            if conflict.reason != "audit_behind_head":
                raise
            words = conflict.hint.split()
            return Loss(int(words[words.index("--here") + 1]), int(words[words.index("--head") + 1]))


async def said(world: World, tag: Tag) -> list[dict[str, Any]]:
    """The details of the audit entries of a kind, taken up or waiting."""
    leaves = await world.rows("SELECT leaf FROM audit UNION ALL SELECT leaf FROM audit_in")
    entries: list[Entry] = [parse(row[0]) for row in leaves]
    return [dict(one.detail) for one in entries if one.tag is tag]
