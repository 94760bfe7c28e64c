"""The best plaintext that we could write: one statement a batch, ids remembered, typed columns for what is computed.

Everything that can be decided in SQL on the row as it is under its lock is decided there, so that nothing must be read
first and nobody loses a race but over a new identifier. Rows are locked in the order of their ids.
"""

from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from bench.ground import connect, plain
from bench.twin import BEST, Identifier, Message, Outcome, Profile, Shape, read
from vault.clock import SystemClock
from vault.ids import uuid7

# Keys, fill factors and change numbering are the vault's own (docs/benchmarks.md says what is left out).
SCHEMA: Final = """
CREATE TABLE profile (
    subject_id uuid PRIMARY KEY, version bigint NOT NULL, granted bigint NOT NULL, traits jsonb NOT NULL,
    said jsonb NOT NULL, said_at bigint NOT NULL, orders int NOT NULL, cents bigint NOT NULL, ad_cents bigint NOT NULL,
    first_at bigint, last_at bigint, best boolean NOT NULL
) WITH (fillfactor = 75, toast_tuple_target = 8160);
CREATE TABLE identity (kind smallint, value text, subject_id uuid NOT NULL, PRIMARY KEY (kind, value));
CREATE TABLE event (
    subject_id uuid, event_key bytea, at bigint NOT NULL, received_at bigint NOT NULL, kind int NOT NULL,
    properties jsonb NOT NULL, PRIMARY KEY (subject_id, event_key)
);
CREATE TABLE dedup (event_key bytea PRIMARY KEY, digest bytea NOT NULL, day int NOT NULL);
CREATE INDEX dedup_day ON dedup (day);
CREATE TABLE consent (subject_id uuid, at bigint, granted bigint NOT NULL, event_key bytea NOT NULL,
    PRIMARY KEY (subject_id, at, event_key));
CREATE TABLE erased (kind smallint, value text, until bigint NOT NULL, PRIMARY KEY (kind, value));
CREATE TABLE change_in (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject_id uuid NOT NULL);
CREATE TABLE change (subject_id uuid PRIMARY KEY, number bigint NOT NULL);
CREATE UNIQUE INDEX change_number ON change (number);
CREATE TABLE position (number bigint NOT NULL);
INSERT INTO position VALUES (0);
CREATE TABLE disclosure (subject_id uuid, destination int, page uuid, at bigint NOT NULL, number bigint NOT NULL,
    traits bytea NOT NULL, PRIMARY KEY (subject_id, destination, page));
CREATE TABLE disclosure_state (subject_id uuid, destination int, traits bytea NOT NULL, number bigint NOT NULL,
    PRIMARY KEY (subject_id, destination)) WITH (fillfactor = 80);
CREATE TABLE audit (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, entry jsonb NOT NULL);
"""

# Whom identifiers find, what they chose, and whether somebody with this name was erased.
_READ: Final = """
SELECT n.kind, n.value, i.subject_id, p.granted, e.until
FROM unnest($1::smallint[], $2::text[]) AS n(kind, value)
LEFT JOIN identity i USING (kind, value) LEFT JOIN profile p ON p.subject_id = i.subject_id
LEFT JOIN erased e USING (kind, value)
"""

# $1-$3 dedup: key, digest, day. $4-$9 events. $10-$15 people: id, patch, when, choices now and as known, whether new.
# $16-$18 identifiers. $19 what counts as an order, $20 now, $21 the bar, $22 how many known people, $23 the first message.
# $24 and $25 when each trait of a patch was said, and when the first: mostly a patch is later than everything before it.
# A duplicate's patch says what was said before: it changes no value. Whoever chose otherwise since makes it fail as a whole.
_WRITE: Final = """
WITH d AS (
    INSERT INTO dedup (event_key, digest, day) SELECT k, g, $3 FROM unnest($1::bytea[], $2::bytea[]) AS n(k, g)
    ON CONFLICT DO NOTHING RETURNING event_key
), held AS MATERIALIZED (
    SELECT subject_id FROM profile WHERE subject_id = ANY($10::text::uuid[]) ORDER BY subject_id FOR NO KEY UPDATE
), e AS MATERIALIZED (
    SELECT * FROM unnest($4::text::uuid[], $5::bytea[], $6::text::bigint[], $7::text::int[], $8::text[], $9::text::bigint[])
        AS n(subject_id, event_key, at, kind, properties, cents)
    WHERE event_key = ANY(ARRAY(SELECT event_key FROM d))
), stored AS (
    INSERT INTO event (subject_id, event_key, at, received_at, kind, properties)
    SELECT subject_id, event_key, at, $20, kind, properties::jsonb FROM e
), sums AS MATERIALIZED (
    SELECT subject_id, count(*)::int AS orders, sum(cents)::bigint AS cents, min(at) AS first_at, max(at) AS last_at
    FROM e WHERE kind = $19 GROUP BY subject_id
), u AS MATERIALIZED (
    SELECT p.*, coalesce(s.orders, 0) AS orders, coalesce(s.cents, 0) AS cents, s.first_at, s.last_at
    FROM unnest($10::text::uuid[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::boolean[],
                $24::text[], $25::bigint[])
        AS p(subject_id, patch, patch_at, granted, known, fresh, said, patch_from) LEFT JOIN sums s USING (subject_id)
), updated AS (
    UPDATE profile p SET
        version = p.version + 1,
        granted = coalesce(u.granted, p.granted),
        traits = CASE WHEN u.patch IS NULL THEN p.traits WHEN u.patch_from >= p.said_at THEN p.traits || u.patch::jsonb
            ELSE p.traits || (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(u.patch::jsonb)
                WHERE (u.said::jsonb->>key)::bigint >= coalesce((p.said->>key)::bigint, 0)) END,
        said = CASE WHEN u.patch IS NULL THEN p.said WHEN u.patch_from >= p.said_at THEN p.said || u.said::jsonb
            ELSE p.said || (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(u.said::jsonb)
                WHERE value::bigint >= coalesce((p.said->>key)::bigint, 0)) END,
        said_at = greatest(p.said_at, u.patch_at),
        orders = p.orders + u.orders, cents = p.cents + u.cents, ad_cents = p.ad_cents + u.cents,
        first_at = least(p.first_at, u.first_at), last_at = greatest(p.last_at, u.last_at),
        best = p.ad_cents + u.cents >= $21
    FROM u WHERE p.subject_id = u.subject_id AND p.subject_id = ANY(ARRAY(SELECT subject_id FROM held))
      AND NOT u.fresh AND p.granted = u.known
    RETURNING p.subject_id
), created AS (
    INSERT INTO profile (subject_id, version, granted, traits, said, said_at, orders, cents, ad_cents, first_at, last_at,
        best)
    SELECT subject_id, 1, coalesce(granted, 0), coalesce(patch, '{}')::jsonb, coalesce(said, '{}')::jsonb,
           coalesce(patch_at, 0), orders, cents, cents, first_at, last_at, cents >= $21
    FROM u WHERE fresh
), named AS (
    INSERT INTO identity (kind, value, subject_id)
    SELECT * FROM unnest($16::text::smallint[], $17::text[], $18::text::uuid[])
), choices AS (
    INSERT INTO consent (subject_id, at, granted, event_key) SELECT subject_id, $20, granted, $23 FROM u WHERE granted IS NOT NULL
), marks AS (
    INSERT INTO change_in (subject_id) SELECT subject_id FROM u
)
SELECT (SELECT count(*) FROM d), 1 / ((SELECT count(*) FROM updated) = $22)::int
"""

# As the vault's sequencer, without its lease: numbers are given after commit, the latest change of a person only.
_SEQUENCE: Final = """
WITH held AS MATERIALIZED (
    SELECT number FROM position FOR UPDATE
), taken AS MATERIALIZED (
    DELETE FROM change_in WHERE id = ANY(ARRAY(SELECT id FROM change_in ORDER BY id LIMIT 5000)) RETURNING id, subject_id
), numbered AS MATERIALIZED (
    SELECT subject_id, (SELECT number FROM held) + row_number() OVER (ORDER BY max(id)) AS number
    FROM taken GROUP BY subject_id
), written AS (
    INSERT INTO change (subject_id, number) SELECT subject_id, number FROM numbered ORDER BY subject_id
    ON CONFLICT (subject_id) DO UPDATE SET number = excluded.number
), moved AS (
    UPDATE position SET number = number + (SELECT count(*) FROM numbered)
)
SELECT count(*) FROM taken
"""


def _array(values: Any) -> str:
    """An array of numbers or ids as one text: much cheaper to send than one element at a time."""
    return "{" + ",".join(map(str, values)) + "}"


class Person:
    """What a batch says of one person."""

    __slots__ = ("fresh", "granted", "known", "patch", "patch_at", "patch_from", "said", "subject")

    def __init__(self, subject: UUID, known: int, *, fresh: bool) -> None:
        self.subject = subject
        self.known = known
        self.granted: int | None = None
        self.patch: str | dict[str, Any] | None = None
        self.said = ""
        self.patch_at: int | None = None
        self.patch_from = 0
        self.fresh = fresh

    def say(self, message: Message) -> None:
        """Take the traits of an identify: the later ones win."""
        if self.patch_at is None or self.patch is None:
            self.patch, self.said = message.body, message.said
            self.patch_at = self.patch_from = message.at
            return
        mine = self.patch if isinstance(self.patch, dict) else _raws.decode(self.patch)
        theirs = _raws.decode(message.body)
        mine_said, theirs_said = _times.decode(self.said), _times.decode(message.said)
        for name, at in theirs_said.items():
            if at >= mine_said.get(name, 0):
                mine[name], mine_said[name] = theirs[name], at
        self.patch, self.said = mine, msgspec.json.encode(mine_said).decode()
        self.patch_from, self.patch_at = min(message.at, self.patch_from), max(message.at, self.patch_at)

    @property
    def json(self) -> str | None:
        """The patch as PostgreSQL takes it."""
        return msgspec.json.encode(self.patch).decode() if isinstance(self.patch, dict) else self.patch


_raws: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_times: Final = msgspec.json.Decoder(dict[str, int])


class Twin:
    """A plaintext vault without its promises."""

    name = "twin_tuned"

    def __init__(self, pool: Any, shape: Shape) -> None:
        self.pool = pool
        self.shape = shape
        self._ids: dict[Identifier, UUID] = {}
        self._granted: dict[UUID, int] = {}

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
                return await self._try(messages)
            except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.DivisionByZeroError):
                for message in messages:  # somebody else was first, or chose otherwise: read them again
                    for identifier in message.identifiers:
                        subject = self._ids.pop(identifier, None)
                        self._granted.pop(subject, None) if subject is not None else None

    async def _try(self, messages: list[Message]) -> Outcome:
        async with self.pool.acquire() as connection:
            graves = await self._learn(connection, messages)
            people: dict[UUID, Person] = {}
            named: dict[Identifier, UUID] = {}
            events: list[tuple[Any, ...]] = []
            taken: list[Message] = []
            seen: set[bytes] = set()
            for message in messages:
                if message.key in seen or any(graves.get(one, 0) > message.at for one in message.identifiers):
                    continue
                seen.add(message.key)
                person = self._person(message, people, named)
                granted = person.known if person.granted is None else person.granted
                if message.stamp is not None and message.stamp != granted:
                    granted = person.granted = message.stamp
                taken.append(message)
                if not message.event:
                    person.say(message)
                elif message.mask & (granted | self.shape.always):
                    events.append((person.subject, message.key, message.at, message.event, message.body, message.cents))
            if not taken:
                return Outcome(0, len(messages))
            row = await connection.fetchrow(_WRITE, *self._arguments(taken, events, people, named))
        self._ids.update(named)
        self._granted.update({p.subject: p.granted if p.granted is not None else p.known for p in people.values()})
        return Outcome(row[0], len(messages) - row[0])

    async def _learn(self, connection: Any, messages: list[Message]) -> dict[Identifier, int]:
        """Look up who is not remembered; answers the graves among them."""
        unknown = {one for message in messages for one in message.identifiers if one not in self._ids}
        if not unknown:
            return {}
        graves = {}
        rows = await connection.fetch(_READ, [one.kind for one in unknown], [one.value for one in unknown])
        for kind, value, subject, granted, until in rows:
            identifier = Identifier(kind, value)
            if subject is not None and granted is not None:
                self._ids[identifier] = subject
                self._granted[subject] = granted
            if until is not None:
                graves[identifier] = until
        return graves

    def _person(self, message: Message, people: dict[UUID, Person], named: dict[Identifier, UUID]) -> Person:
        """Who it is about: found by the first identifier that is known, made anew otherwise."""
        subject = None
        for identifier in message.identifiers:
            subject = self._ids.get(identifier) or named.get(identifier)
            if subject is not None:
                break
        fresh = subject is None
        if subject is None:
            subject = uuid7(SystemClock().now())
        person = people.get(subject)
        if person is None:
            person = people[subject] = Person(subject, self._granted.get(subject, 0), fresh=fresh)
        for identifier in message.identifiers:
            if identifier not in self._ids and identifier not in named:
                named[identifier] = subject
        return person

    def _arguments(
        self,
        taken: list[Message],
        events: list[tuple[Any, ...]],
        people: dict[UUID, Person],
        named: dict[Identifier, UUID],
    ) -> list[Any]:
        now = SystemClock().now()
        everyone = sorted(people.values(), key=lambda person: person.subject)
        columns = [list(column) for column in zip(*events, strict=True)] if events else [[] for _ in range(6)]
        return [
            [one.key for one in taken],
            [one.digest for one in taken],
            now // 86_400_000_000,
            _array(columns[0]),
            columns[1],
            _array(columns[2]),
            _array(columns[3]),
            columns[4],
            _array(columns[5]),
            _array(person.subject for person in everyone),
            [person.json for person in everyone],
            [person.patch_at for person in everyone],
            [person.granted for person in everyone],
            [person.known for person in everyone],
            [person.fresh for person in everyone],
            _array(identifier.kind for identifier in named),
            [identifier.value for identifier in named],
            _array(named.values()),
            self.shape.order,
            now,
            BEST,
            sum(not person.fresh for person in everyone),
            taken[0].key,
            [person.said or None for person in everyone],
            [person.patch_from for person in everyone],
        ]

    async def sequence(self) -> int:
        """Number the committed changes; how many."""
        async with self.pool.acquire() as connection:
            return int(await connection.fetchval(_SEQUENCE))

    async def profiles(self) -> dict[str, Profile]:
        """Everyone by user id, to be compared."""
        query = """
            SELECT i.value, p.traits, p.orders, p.cents, p.first_at, p.last_at, p.best,
                (SELECT count(*) FROM event e WHERE e.subject_id = p.subject_id)
            FROM identity i JOIN profile p USING (subject_id) WHERE i.kind = $1
        """
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(query, self.shape.kinds["userId"][0])
        return {row[0]: Profile(msgspec.json.decode(row[1]), *row[2:]) for row in rows}
