"""Leases: rows with an expiry and a fencing number, so that one process at a time does what only one may do.

Expiry decides who may take over; the fencing number decides whose writes count. A holder that slept past its expiry (a
stopped process, a long pause) may believe that it still holds: so every write of a holder checks the number in the same
statement, and is refused once somebody else took the lease (threat H21). Also keeps the holder's `position`, whose meaning
is the holder's own. No session locks: a pooler may stand between (design section 13).
"""

from typing import Final, NamedTuple
from uuid import UUID

from vault.clock import HOUR, SECOND, Micros
from vault.errors import Conflict
from vault.storage.session import Connection, raw

LIFE: Final = Micros(15 * SECOND)  # how long a dead holder keeps the others waiting
FAR: Final = HOUR  # no holder asks for so much more than it may have: such a lease was written by somebody else
CHANGES: Final = "changes"
AUDIT: Final = "audit"
SWEEP: Final = "sweep"  # always held by somebody, so it does not tell whether queues are taken up

_MAKE: Final = """
INSERT INTO lease (name, holder, fencing, expires_at, position) VALUES ($1, NULL, 0, 0, 0) ON CONFLICT (name) DO NOTHING
"""
_TAKE: Final = """
UPDATE lease SET holder = $2, fencing = fencing + 1, expires_at = $4
WHERE name = $1 AND (holder IS NULL OR holder = $2 OR expires_at <= $3 OR expires_at > $5) RETURNING fencing, position
"""
_MINE: Final = "SELECT fencing, position FROM lease WHERE name = $1 AND holder = $2 AND expires_at > $3"
_RENEW: Final = "UPDATE lease SET expires_at = $3 WHERE name = $1 AND fencing = $2 RETURNING position"
_ADVANCE: Final = "UPDATE lease SET position = $3 WHERE name = $1 AND fencing = $2 RETURNING position"
_FENCE: Final = "SELECT position FROM lease WHERE name = $1 AND fencing = $2 FOR UPDATE"
_POSITION: Final = "SELECT position FROM lease WHERE name = $1"
_RESET: Final = """
UPDATE lease SET holder = NULL, fencing = fencing + 1, expires_at = 0, position = 0 WHERE name = $1
"""
_GIVE_BACK: Final = "UPDATE lease SET holder = NULL, expires_at = 0 WHERE name = $1 AND fencing = $2"


class LeaseLost(Conflict):
    """Somebody else holds the lease now: what this holder wanted to write was not written."""

    code = "lease_lost"
    sentence = "Another process has taken over this work."


class Lease(NamedTuple):
    """A lease as it was when it was taken."""

    name: str
    holder: UUID
    fencing: int
    position: int


async def take(connection: Connection, name: str, holder: UUID, now: Micros, life: Micros = LIFE) -> Lease | None:
    """The lease, if it is free, expired or this holder's already; else None. Each taking has a higher fencing number."""
    driver = await raw(connection)
    await driver.execute(_MAKE, name)
    row = await driver.fetchrow(_TAKE, name, holder, now, now + life, now + life + FAR)
    return None if row is None else Lease(name, holder, row["fencing"], row["position"])


async def hold(connection: Connection, name: str, holder: UUID, now: Micros, life: Micros = LIFE) -> Lease | None:
    """As `take`, but a lease that this holder has is answered as it is: nothing is written, the number stays."""
    driver = await raw(connection)
    row = await driver.fetchrow(_MINE, name, holder, now)
    if row is not None:
        return Lease(name, holder, row["fencing"], row["position"])
    return await take(driver, name, holder, now, life)


async def renew(connection: Connection, lease: Lease, now: Micros, life: Micros = LIFE) -> None:
    """Keep it longer. Raises `LeaseLost`."""
    await _owned(connection, _RENEW, lease, now + life)


async def fence(connection: Connection, lease: Lease) -> int:
    """Inside a transaction, before its writes: locks the lease and answers its position. Raises `LeaseLost`."""
    return await _owned(connection, _FENCE, lease)


async def advance(connection: Connection, lease: Lease, position: int) -> None:
    """Set the position, in the transaction that did the work. Raises `LeaseLost`."""
    await _owned(connection, _ADVANCE, lease, position)


async def give_back(connection: Connection, lease: Lease) -> None:
    """Let others take it at once. Does nothing if it was lost."""
    driver = await raw(connection)
    await driver.execute(_GIVE_BACK, lease.name, lease.fencing)


async def position(connection: Connection, name: str) -> int:
    """Where the work stands; 0 for work that nobody began."""
    driver = await raw(connection)
    return int(await driver.fetchval(_POSITION, name) or 0)


async def reset(connection: Connection, name: str) -> None:
    """The work begins anew, by whoever takes it: who holds it now has lost it."""
    driver = await raw(connection)
    await driver.execute(_RESET, name)


async def _owned(connection: Connection, statement: str, lease: Lease, *arguments: int) -> int:
    driver = await raw(connection)
    position = await driver.fetchval(statement, lease.name, lease.fencing, *arguments)
    if position is None:
        raise LeaseLost
    return int(position)
