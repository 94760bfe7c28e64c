"""A page of a feed out of each twin: the same people, filter and records as the vault's; consent on the row, no keys.

The tuned one reads with one statement, decodes only the wanted traits, and writes disclosures, states and the audit row with
one more. The obvious one decodes a dict and uses `executemany`. Both are durable before the first byte. A twin's line carries
its own id where the vault makes a pseudonym, and nobody is removed, retracted or restricted in this benchmark.
"""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from vault.clock import SystemClock
from vault.ids import uuid7

if TYPE_CHECKING:
    from bench import twin_obvious, twin_tuned

DESTINATION: Final = 1


class Wanted(NamedTuple):
    """What the contract allows: names and numbers of traits, and the purpose."""

    traits: tuple[tuple[str, int], ...]
    mask: int
    purpose: str


class FeedPage(NamedTuple):
    """Lines, and where the next page begins."""

    lines: list[bytes]
    after: int
    more: bool


_READ: Final = """
SELECT c.number, c.subject_id, p.traits, p.granted, s.traits
FROM (SELECT number, subject_id FROM change WHERE number > $1 ORDER BY number LIMIT $2) c
JOIN profile p USING (subject_id) LEFT JOIN disclosure_state s ON s.subject_id = c.subject_id AND s.destination = $3
ORDER BY c.number
"""
_RECORD: Final = """
WITH record AS (
    INSERT INTO disclosure (subject_id, destination, page, at, number, traits)
    SELECT subject_id, $1, $2, $3, number, traits FROM unnest($4::uuid[], $5::text::bigint[], $6::bytea[])
        AS n(subject_id, number, traits) ORDER BY subject_id
), held AS (
    INSERT INTO disclosure_state AS s (subject_id, destination, traits, number)
    SELECT subject_id, $1, traits, number FROM unnest($7::uuid[], $8::text::bigint[], $9::bytea[])
        AS n(subject_id, number, traits) ORDER BY subject_id
    ON CONFLICT (subject_id, destination) DO UPDATE SET traits = excluded.traits, number = excluded.number
)
INSERT INTO audit (at, entry) VALUES ($3, $10)
"""


class TunedFeed:
    """Reads the tuned twin."""

    def __init__(self, twin: "twin_tuned.Twin", wanted: Wanted) -> None:
        self.twin = twin
        self.wanted = wanted
        raw = msgspec.Raw | msgspec.UnsetType
        self._traits = msgspec.defstruct("Traits", [(name, raw, msgspec.UNSET) for name, _ in wanted.traits])
        self._decode = msgspec.json.Decoder(self._traits).decode
        self._numbers = dict(wanted.traits)
        self._all = pack_numbers([number for _, number in wanted.traits])

    async def page(self, after: int, limit: int) -> FeedPage:
        """The lines after a number."""
        async with self.twin.pool.acquire() as connection:
            rows = await connection.fetch(_READ, after, limit + 1, DESTINATION)
            more = len(rows) > limit
            lines: list[bytes] = []
            left: list[tuple[Any, int, bytes]] = []
            turned: list[tuple[Any, int, bytes]] = []
            encode, decode, mask, purposes = msgspec.json.encode, self._decode, self.wanted.mask, [self.wanted.purpose]
            for number, subject, text, granted, held in rows[:limit]:
                if not granted & mask:
                    continue
                traits = decode(text)
                shown = self._shown(traits)
                if not shown:
                    continue
                left.append((subject, number, shown))
                if held != shown:
                    turned.append((subject, number, shown))
                line = {"op": "upsert", "id": subject.hex, "traits": traits, "identifiers": {}, "audiences": []}
                lines.append(encode({**line, "purposes": purposes, "version": number}) + b"\n")
            last = rows[min(limit, len(rows)) - 1][0] if rows else after
            if left:
                entry = encode({"destination": DESTINATION, "disclosed": len(left), "policy": 1}).decode()
                now = SystemClock().now()
                await connection.execute(
                    _RECORD, DESTINATION, uuid7(now), now, *_columns(left), *_columns(turned), entry
                )
        return FeedPage(lines, last, more)

    def _shown(self, traits: Any) -> bytes:
        missing = [name for name in self._numbers if getattr(traits, name) is msgspec.UNSET]
        if not missing:
            return self._all
        return pack_numbers([number for name, number in self._numbers.items() if name not in missing])


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """Numbers of traits as two bytes each, rising."""
    return struct.pack(f">{len(numbers)}H", *sorted(numbers))


def _columns(rows: list[tuple[Any, int, bytes]]) -> tuple[list[Any], str, list[bytes]]:
    return [row[0] for row in rows], "{" + ",".join(str(row[1]) for row in rows) + "}", [row[2] for row in rows]


class ObviousFeed:
    """Reads the obvious twin."""

    def __init__(self, twin: "twin_obvious.Twin", wanted: Wanted) -> None:
        self.twin = twin
        self.wanted = wanted

    async def page(self, after: int, limit: int) -> FeedPage:
        """The lines after a number."""
        names = [name for name, _ in self.wanted.traits]
        async with self.twin.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT id, traits, consent, changed FROM profiles WHERE changed > $1 ORDER BY changed LIMIT $2",
                after,
                limit + 1,
            )
            lines, records = [], []
            page, now = uuid7(SystemClock().now()), SystemClock().now()
            for subject, text, consent, changed in rows[:limit]:
                if not consent & self.wanted.mask:
                    continue
                profile = msgspec.json.decode(text)
                traits = {name: profile[name] for name in names if name in profile}
                if not traits:
                    continue
                line = {"op": "upsert", "id": str(subject), "traits": traits, "identifiers": {}, "audiences": []}
                lines.append(
                    msgspec.json.encode({**line, "purposes": [self.wanted.purpose], "version": changed}) + b"\n"
                )
                records.append((subject, "bench-feed", page, now, list(traits), changed))
            if records:
                await self._record(connection, sorted(records))
        return FeedPage(lines, rows[min(limit, len(rows)) - 1][3] if rows else after, len(rows) > limit)

    async def _record(self, connection: Any, records: list[tuple[Any, ...]]) -> None:
        await connection.executemany(
            "INSERT INTO disclosures (profile_id, destination, page, at, traits) VALUES ($1, $2, $3, $4, $5)",
            [record[:5] for record in records],
        )
        await connection.executemany(
            "INSERT INTO disclosure_states (profile_id, destination, traits, changed) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (profile_id, destination) DO UPDATE SET traits = $3, changed = $4",
            [(record[0], record[1], record[4], record[5]) for record in records],
        )
        entry = msgspec.json.encode({"destination": "bench-feed", "disclosed": len(records)}).decode()
        await connection.execute("INSERT INTO audit (at, entry) VALUES ($1, $2)", records[0][3], entry)
