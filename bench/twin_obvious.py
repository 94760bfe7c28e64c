"""Plaintext as a good engineer writes it first: JSONB tables, one transaction a batch, a query for each thing, `executemany`.

Rows are written in one order everywhere, so that batches do not lock each other up. A change is a number from a sequence in
the same transaction: cheaper than numbering after commit, and a page may skip what commits late.
"""

from collections import defaultdict
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from bench.ground import connect, plain
from bench.twin import BEST, Identifier, Message, Outcome, Profile, Shape, read
from vault.clock import SystemClock
from vault.ids import uuid7

SCHEMA: Final = """
CREATE TABLE profiles (
    id uuid PRIMARY KEY, traits jsonb NOT NULL DEFAULT '{}', said jsonb NOT NULL DEFAULT '{}',
    computed jsonb NOT NULL DEFAULT '{}', consent bigint NOT NULL DEFAULT 0, changed bigint NOT NULL DEFAULT 0
);
CREATE INDEX profiles_changed ON profiles (changed);
CREATE SEQUENCE changes;
CREATE TABLE identifiers (kind smallint, value text, profile_id uuid NOT NULL, PRIMARY KEY (kind, value));
CREATE TABLE events (
    source int, message_id bytea, digest bytea NOT NULL, profile_id uuid NOT NULL, at bigint NOT NULL, kind int NOT NULL,
    properties jsonb NOT NULL, PRIMARY KEY (source, message_id)
);
CREATE INDEX events_profile ON events (profile_id);
CREATE TABLE consents (profile_id uuid NOT NULL, at bigint NOT NULL, granted bigint NOT NULL, message_id bytea NOT NULL);
CREATE TABLE erased (kind smallint, value text, until bigint NOT NULL, PRIMARY KEY (kind, value));
CREATE TABLE audience_members (audience text, profile_id uuid, PRIMARY KEY (audience, profile_id));
CREATE TABLE disclosures (profile_id uuid NOT NULL, destination text NOT NULL, page uuid NOT NULL, at bigint NOT NULL,
    traits text[] NOT NULL, PRIMARY KEY (profile_id, destination, page));
CREATE TABLE disclosure_states (profile_id uuid, destination text, traits text[] NOT NULL, changed bigint NOT NULL,
    PRIMARY KEY (profile_id, destination));
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, entry jsonb NOT NULL);
"""


class Twin:
    """A plaintext vault without its promises."""

    name = "twin_obvious"

    def __init__(self, pool: Any, shape: Shape) -> None:
        self.pool = pool
        self.shape = shape

    @classmethod
    async def on(cls, url: str, shape: Shape, connections: int) -> "Twin":
        """A twin on an empty database."""
        connection = await connect(url)
        await connection.execute(SCHEMA)
        await connection.close()
        return await cls.reach(url, shape, connections)

    @classmethod
    async def reach(cls, url: str, shape: Shape, connections: int) -> "Twin":
        """A twin on a database that it has."""
        options = {"jit": "off", "timezone": "UTC"}  # as the vault's sessions
        size = connections + 2
        return cls(await asyncpg.create_pool(plain(url), min_size=1, max_size=size, server_settings=options), shape)

    async def receive(self, body: bytes) -> Outcome:
        """One batch, durable when it answers."""
        messages = read(self.shape, 1, body)
        while True:
            try:
                async with self.pool.acquire() as connection, connection.transaction():
                    return await self._take(connection, messages)
            except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                continue  # somebody else was first: what they wrote is read now

    async def _take(self, connection: Any, messages: list[Message]) -> Outcome:
        known = await connection.fetch(
            "SELECT message_id FROM events WHERE source = 1 AND message_id = ANY($1::bytea[])",
            [m.key for m in messages],
        )
        seen = {row[0] for row in known}
        owners = await self._owners(connection, messages)
        wanted = set(owners.values())
        consents = {
            row[0]: row[1]
            for row in await connection.fetch(
                "SELECT id, consent FROM profiles WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",
                list(wanted),
            )
        }
        erased = await self._erased(connection, messages)
        work = _Work(owners, consents)
        for message in messages:
            if message.key in seen or any(erased.get(one, 0) > message.at for one in message.identifiers):
                continue
            seen.add(message.key)
            work.take(message, self.shape)
        await self._write(connection, work)
        return Outcome(work.stored, len(messages) - work.stored)

    async def _owners(self, connection: Any, messages: list[Message]) -> dict[Identifier, UUID]:
        named = {one for message in messages for one in message.identifiers}
        rows = await connection.fetch(
            "SELECT kind, value, profile_id FROM identifiers JOIN unnest($1::smallint[], $2::text[]) AS n(kind, value)"
            " USING (kind, value)",
            [one.kind for one in named],
            [one.value for one in named],
        )
        return {Identifier(row[0], row[1]): row[2] for row in rows}

    async def _erased(self, connection: Any, messages: list[Message]) -> dict[Identifier, int]:
        named = {one for message in messages for one in message.identifiers}
        rows = await connection.fetch(
            "SELECT kind, value, until FROM erased JOIN unnest($1::smallint[], $2::text[]) AS n(kind, value) USING (kind, value)",
            [one.kind for one in named],
            [one.value for one in named],
        )
        return {Identifier(row[0], row[1]): row[2] for row in rows}

    async def _write(self, connection: Any, work: "_Work") -> None:
        many = connection.executemany
        everyone = sorted(work.touched)
        if work.new:
            await many("INSERT INTO profiles (id) VALUES ($1)", [(one,) for one in sorted(work.new)])
            await many("INSERT INTO identifiers (kind, value, profile_id) VALUES ($1, $2, $3)", sorted(work.named))
        elif work.named:
            await many("INSERT INTO identifiers (kind, value, profile_id) VALUES ($1, $2, $3)", sorted(work.named))
        if work.events:
            await many(
                "INSERT INTO events (source, message_id, digest, profile_id, at, kind, properties)"
                " VALUES (1, $1, $2, $3, $4, $5, $6)",
                work.events,
            )
        if work.choices:
            await many("UPDATE profiles SET consent = $2 WHERE id = $1", [(one[0], one[2]) for one in work.choices])
            await many(
                "INSERT INTO consents (profile_id, at, granted, message_id) VALUES ($1, $2, $3, $4)", work.choices
            )
        if work.patches:
            await self._say(connection, work)
        if work.orders:
            await self._compute(connection, work)
        if everyone:
            await many("UPDATE profiles SET changed = nextval('changes') WHERE id = $1", [(one,) for one in everyone])

    async def _say(self, connection: Any, work: "_Work") -> None:
        """Of each trait what was said last."""
        rows = await connection.fetch(
            "SELECT id, traits, said FROM profiles WHERE id = ANY($1::uuid[])", [one[0] for one in work.patches]
        )
        profiles = {row[0]: (msgspec.json.decode(row[1]), msgspec.json.decode(row[2])) for row in rows}
        for subject, patch, at in work.patches:
            traits, said = profiles[subject]
            for name, value in msgspec.json.decode(patch).items():
                if at >= said.get(name, 0):
                    traits[name], said[name] = value, at
        encode = msgspec.json.encode
        updates = [
            (subject, encode(traits).decode(), encode(said).decode()) for subject, (traits, said) in profiles.items()
        ]
        await connection.executemany("UPDATE profiles SET traits = $2, said = $3 WHERE id = $1", sorted(updates))

    async def _compute(self, connection: Any, work: "_Work") -> None:
        """Fold the orders into what is computed, and judge the audience."""
        buyers = list(work.orders)
        rows = await connection.fetch("SELECT id, computed FROM profiles WHERE id = ANY($1::uuid[])", buyers)
        updates, best = [], []
        for subject, text in rows:
            computed: dict[str, Any] = msgspec.json.decode(text)
            for at, cents in work.orders[subject]:
                computed["orders"] = computed.get("orders", 0) + 1
                computed["cents"] = computed.get("cents", 0) + cents
                computed["ad_cents"] = computed.get("ad_cents", 0) + cents
                computed["first_at"] = min(at, computed.get("first_at", at))
                computed["last_at"] = max(at, computed.get("last_at", at))
            updates.append((subject, msgspec.json.encode(computed).decode()))
            if computed["ad_cents"] >= BEST:
                best.append((subject,))
        await connection.executemany("UPDATE profiles SET computed = $2 WHERE id = $1", sorted(updates))
        if best:
            await connection.executemany(
                "INSERT INTO audience_members (audience, profile_id) VALUES ('best_customers', $1) ON CONFLICT DO NOTHING",
                sorted(best),
            )

    async def sequence(self) -> int:
        """Changes are numbered as they are written."""
        return 0

    async def profiles(self) -> dict[str, Profile]:
        """Everyone by user id, to be compared."""
        query = """
            SELECT i.value, p.traits, p.computed,
                EXISTS (SELECT FROM audience_members m WHERE m.profile_id = p.id),
                (SELECT count(*) FROM events e WHERE e.profile_id = p.id AND e.kind > 0)
            FROM identifiers i JOIN profiles p ON p.id = i.profile_id WHERE i.kind = $1
        """
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(query, self.shape.kinds["userId"][0])
        found = {}
        for value, traits, text, best, events in rows:
            c = msgspec.json.decode(text)
            facts = c.get("orders", 0), c.get("cents", 0), c.get("first_at"), c.get("last_at")
            found[value] = Profile(msgspec.json.decode(traits), *facts, best, events)
        return found


class _Work:
    """What a batch comes to."""

    def __init__(self, owners: dict[Identifier, UUID], consents: dict[UUID, int]) -> None:
        self.owners = owners
        self.consents = consents
        self.new: set[UUID] = set()
        self.named: list[tuple[int, str, UUID]] = []
        self.touched: set[UUID] = set()
        self.events: list[tuple[bytes, bytes, UUID, int, int, str]] = []
        self.choices: list[tuple[UUID, int, int, bytes]] = []
        self.patches: list[tuple[UUID, str, int]] = []
        self.orders: defaultdict[UUID, list[tuple[int, int]]] = defaultdict(list)
        self.stored = 0

    def take(self, message: Message, shape: Shape) -> None:
        """One message that is new."""
        subject = next((self.owners[one] for one in message.identifiers if one in self.owners), None)
        if subject is None:
            subject = uuid7(SystemClock().now())
            self.new.add(subject)
        for identifier in message.identifiers:
            if identifier not in self.owners:
                self.owners[identifier] = subject
                self.named.append((*identifier, subject))
        self.touched.add(subject)
        granted = self.consents.get(subject, 0)
        if message.stamp is not None and message.stamp != granted:
            granted = self.consents[subject] = message.stamp
            self.choices.append((subject, message.at, granted, message.key))
        if not message.event:
            self.patches.append((subject, message.body, message.at))
        elif not message.mask & (granted | shape.always):
            return
        elif message.event == shape.order:
            self.orders[subject].append((message.at, message.cents))
        self.stored += 1
        self.events.append((message.key, message.digest, subject, message.at, message.event, message.body))
