"""What falls due: a granted choice ends, or events wait whose keys were destroyed. The worker looks; nobody waits for it.

The end of a choice binds at its moment, since every reader compares it; settling writes it to the ledger and lets the
destinations hear of it. Swept events could not be opened by anyone: their keys went with the wraps.
"""

from typing import Any, Final
from uuid import UUID

import msgspec

from vault.clock import HOUR
from vault.errors import Conflict, NotFound, Unreadable
from vault.flows.people.change import change_profiles
from vault.flows.people.choices import expire
from vault.flows.people.draft import EXPIRY, SWEEP
from vault.flows.people.read import profiles
from vault.flows.vault import Vault
from vault.keys import names
from vault.state.record import pack
from vault.storage.session import raw

ENTRIES: Final = 200  # a step
EVENTS: Final = 1000  # deleted at a time, so that no lock is held for long
DELAY: Final = HOUR  # until what could not be settled is tried again
ACTOR: Final = "vault"

_DONE: Final = """
DELETE FROM due d USING unnest($1::bigint[], $2::uuid[], $3::smallint[]) AS n(at, subject_id, what)
WHERE d.at = n.at AND d.subject_id = n.subject_id AND d.what = n.what
"""
_LATER: Final = """
WITH taken AS (
    DELETE FROM due d USING unnest($1::bigint[], $2::uuid[], $3::smallint[]) AS n(at, subject_id, what)
    WHERE d.at = n.at AND d.subject_id = n.subject_id AND d.what = n.what
    RETURNING d.subject_id, d.what
)
INSERT INTO due (at, subject_id, what) SELECT DISTINCT $4::bigint, subject_id, what FROM taken ON CONFLICT DO NOTHING
"""

_SWEEP: Final = """
DELETE FROM event e USING (
    SELECT event_key, purposes FROM event
    WHERE subject_id = $1 AND NOT EXISTS (
        SELECT 1 FROM unnest($2::bigint[], $3::smallint[]) AS k(purposes, generation)
        WHERE k.purposes = event.purposes AND k.generation = event.generation
    ) LIMIT $4
) gone
WHERE e.subject_id = $1 AND e.event_key = gone.event_key AND e.purposes = gone.purposes
"""


_COUNTED: Final = "UPDATE subject SET version = $2, state = $3 WHERE subject_id = $1"


async def settle_due(vault: Vault) -> int:
    """Settle what fell due; answers how many entries were done."""
    async with vault.database.hot() as connection:
        rows = await connection.fetch(
            "SELECT at, subject_id, what FROM due WHERE at <= $1 AND what = ANY ($3::smallint[]) ORDER BY at, subject_id LIMIT $2",
            vault.clock.now(),
            ENTRIES,
            [EXPIRY, SWEEP],  # what was kept at an erasure ends by `flows.honour.keep`
        )
    done: list[tuple[int, UUID, int]] = []
    later: list[tuple[int, UUID, int]] = []
    for at, key, what in ((row[0], UUID(bytes=row[1].bytes), row[2]) for row in rows):
        (done if await _settled(vault, key, what) else later).append((at, key, what))
    async with vault.database.hot() as connection:
        await connection.execute(_DONE, *_columns(done))
        await connection.execute(_LATER, *_columns(later), vault.clock.now() + DELAY)
    return len(done)


async def _settled(vault: Vault, subject: UUID, what: int) -> bool:
    """One entry. False if it must be tried again: nothing of one person may hold up the others."""
    try:
        if what == SWEEP:
            await _sweep(vault, subject)
        else:
            await change_profiles(vault, [subject], lambda profile: expire(vault.catalogue, profile), ACTOR)
    except NotFound:  # erased meanwhile
        return True
    except (Unreadable, Conflict):  # rows that do not agree, which every reader withholds; or others kept winning
        return False
    return True


def _columns(rows: list[tuple[int, UUID, int]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]


async def _sweep(vault: Vault, subject: UUID) -> None:
    """Delete the events of compartments that have no key any more. What cannot be believed is left for an officer."""
    more = True
    while more:
        async with vault.database.begin() as connection:
            driver = await raw(connection)
            # The lock keeps writers from opening a new compartment between the reading of the keys and the deletion.
            await driver.execute("SELECT 1 FROM subject WHERE subject_id = $1 FOR NO KEY UPDATE", subject)
            stored, _ = await profiles(driver, [subject], vault.keyring.key(names.STATE))
            if subject not in stored:
                return
            kept = [(wrapped.purposes, wrapped.generation) for wrapped in stored[subject].wrapped]
            status = await driver.execute(
                _SWEEP, subject, [purposes for purposes, _ in kept], [generation for _, generation in kept], EVENTS
            )
            gone = int(status.rpartition(" ")[2])
            if gone:  # the state counts what is there, so that what somebody else deletes is missed
                state, key = stored[subject].state, vault.keyring.key(names.STATE)
                left = msgspec.structs.replace(
                    state, version=state.version + 1, event_count=max(state.event_count - gone, 0)
                )
                await driver.execute(_COUNTED, subject, left.version, pack(left, key))
        more = gone > 0
