"""Numbers for committed changes, given by one process at a time.

A number that a transaction took before its commit may become visible after a higher one, and a page that passed it would
have skipped it for ever. So marks are appended without a number, and whoever holds the lease moves those that are
committed to `change`, with the next numbers: one statement, which also checks the fencing number, sets the position and
renews the lease. It waits for no open transaction, in this database or another (threat H19): what commits later is
numbered later.
"""

from typing import Final

from vault.clock import Clock
from vault.storage.lease import CHANGES, LIFE, Lease, LeaseLost, hold
from vault.storage.session import Database

BATCH: Final = 5000  # marks a statement; measured 32,000 a second

_ANY: Final = "SELECT EXISTS (SELECT FROM change_in)"  # an idle vault writes nothing

# One statement, so that a holder stopped at any point has done all of it or nothing, and holds no lock while it sleeps.
# `held` locks the lease row: under READ COMMITTED its condition is checked again on the row as the last holder left it.
_SEQUENCE: Final = """
WITH held AS MATERIALIZED (
    SELECT position FROM lease WHERE name = $1 AND fencing = $2 FOR UPDATE
), taken AS MATERIALIZED (
    DELETE FROM change_in WHERE id = ANY(ARRAY(
        SELECT id FROM change_in WHERE EXISTS (SELECT FROM held) ORDER BY id LIMIT $3
    )) RETURNING id, subject_id
), numbered AS MATERIALIZED (
    SELECT subject_id, (SELECT position FROM held) + row_number() OVER (ORDER BY max(id)) AS number
    FROM taken GROUP BY subject_id
), written AS (
    INSERT INTO change AS c (subject_id, number) SELECT subject_id, number FROM numbered ORDER BY subject_id
    ON CONFLICT (subject_id) DO UPDATE SET number = excluded.number
), moved AS (
    UPDATE lease SET position = position + (SELECT count(*) FROM numbered), expires_at = greatest(expires_at, $4)
    WHERE name = $1 AND fencing = $2
)
SELECT (SELECT count(*) FROM held) AS held, (SELECT count(*) FROM taken) AS taken
"""


async def sequence(database: Database, clock: Clock, batch: int = BATCH) -> int:
    """Numbers at most `batch` committed marks; answers how many marks it took. 0 too while another process does it.

    Raises `LeaseLost` if another process took over meanwhile; nothing was changed then.
    """
    async with database.hot() as connection:
        if not await connection.fetchval(_ANY):
            return 0
        lease = await hold(connection, CHANGES, database.holder, clock.now())
    return 0 if lease is None else await number(database, lease, clock, batch)


async def number(database: Database, lease: Lease, clock: Clock, batch: int = BATCH) -> int:
    """As `sequence`, with a lease that was taken before; renews it."""
    async with database.hot() as connection:
        row = await connection.fetchrow(_SEQUENCE, lease.name, lease.fencing, batch, clock.now() + LIFE)
    if not row["held"]:
        raise LeaseLost
    return int(row["taken"])
