"""One profile out of the tuned twin: as the vault answers it (found, consent, eight traits, on record), and by bare key."""

from typing import TYPE_CHECKING, Final

import msgspec

from bench.twin_feed import DESTINATION, Wanted, pack_numbers
from vault.clock import SystemClock
from vault.ids import uuid7

if TYPE_CHECKING:
    from bench import twin_tuned

_FIND: Final = """
SELECT p.subject_id, p.traits, p.granted, p.version, s.traits
FROM identity i JOIN profile p USING (subject_id)
LEFT JOIN disclosure_state s ON s.subject_id = p.subject_id AND s.destination = $3
WHERE i.kind = $1 AND i.value = $2
"""
_RECORD: Final = """
WITH record AS (
    INSERT INTO disclosure (subject_id, destination, page, at, number, traits) VALUES ($1, $2, $3, $4, $5, $6)
), held AS (
    INSERT INTO disclosure_state AS s (subject_id, destination, traits, number) SELECT $1, $2, $6, $5 WHERE $7
    ON CONFLICT (subject_id, destination) DO UPDATE SET traits = excluded.traits, number = excluded.number
)
INSERT INTO audit (at, entry) VALUES ($4, $8)
"""
# The bare read: a table of one key and one JSONB, which every side of a comparison may be held against.
_BY_KEY: Final = "SELECT traits FROM by_key WHERE user_id = $1"
MAKE: Final = """
CREATE TABLE by_key (user_id text PRIMARY KEY, traits jsonb NOT NULL);
INSERT INTO by_key SELECT i.value, p.traits FROM identity i JOIN profile p USING (subject_id) WHERE i.kind = {kind};
VACUUM ANALYZE by_key;
"""


class TunedLookup:
    """Reads one person of the tuned twin."""

    def __init__(self, twin: "twin_tuned.Twin", wanted: Wanted) -> None:
        self.twin = twin
        self.wanted = wanted
        self._kind = twin.shape.kinds["userId"][0]
        raw = msgspec.Raw | msgspec.UnsetType
        self._type = msgspec.defstruct("Traits", [(name, raw, msgspec.UNSET) for name, _ in wanted.traits])
        self._decode = msgspec.json.Decoder(self._type).decode

    async def read(self, user_id: str) -> bytes | None:
        """The traits that the destination may see, on record before they are answered."""
        async with self.twin.pool.acquire() as connection:
            row = await connection.fetchrow(_FIND, self._kind, user_id, DESTINATION)
            if row is None or not row[2] & self.wanted.mask:
                return None
            traits = self._decode(row[1])
            shown = [number for name, number in self.wanted.traits if getattr(traits, name) is not msgspec.UNSET]
            numbers, now = pack_numbers(shown), SystemClock().now()
            entry = msgspec.json.encode({"destination": DESTINATION, "disclosed": 1}).decode()
            changed = row[4] != numbers
            await connection.execute(_RECORD, row[0], DESTINATION, uuid7(now), now, row[3], numbers, changed, entry)
        return msgspec.json.encode({"traits": traits})

    async def by_key(self, user_id: str) -> bytes | None:
        """The whole JSONB of a key: no consent, no filter, no record."""
        async with self.twin.pool.acquire() as connection:
            text = await connection.fetchval(_BY_KEY, user_id)
        return None if text is None else msgspec.json.encode({"traits": msgspec.Raw(text.encode())})
