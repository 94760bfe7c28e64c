"""Takes what an erasure deleted off the disk: dead rows by VACUUM, and the log of writes by writing over it.

A deleted row stays in its page until it is vacuumed, and its bytes longer: vacuum closes gaps and leaves what lay in them
between the rows of the page (measured; ADR 0122). So the table of wrapped keys is written anew as long as that is a matter of
a second. The write-ahead log keeps a row until its segment is used again (threats 4.2, 4.3, D5). Keys are destroyed long
before, so nothing of it opens once the epoch is gone, too; this is for the bytes.

The worker does it within a day of an erasure, if the database lets this process vacuum all that erasures delete from: an
owner, or from PostgreSQL 17 on the login of the duty `requests`. Else it does nothing and counts nothing as done: the
owner does it (`erasures wipe`), and /readyz and the doctor say so. Who may not write a checkpoint or change segments (as
with a managed server) leaves that to the server. Archives of the log and backups are not its matter.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from vault.clock import HOUR, Micros
from vault.errors import Conflict
from vault.flows.vault import Vault
from vault.storage import lease
from vault.storage.grants import maintainable, maintains
from vault.storage.session import Raw

LEASE: Final = "wipe"
EVERY: Final = 12 * HOUR
LATE: Final = HOUR  # rows are deleted within minutes of the keys; what is an hour old counts for the next time again
LIFE: Final = Micros(2 * HOUR)  # how long one may take
KEYS: Final = "keys.subject_key"
REWRITTEN: Final = (
    64 << 20
)  # bytes of that table; some 85,000 people, half a second in which nobody reads or writes keys
PATIENCE: Final = "5s"  # that it waits for others: who comes meanwhile waits behind it
SEGMENTS: Final = 16  # of 16 MB each, that are written over at most: a quarter of a gigabyte

_WAITING: Final = "SELECT EXISTS (SELECT FROM erased WHERE at > $1)"
_MAY: Final = """
SELECT pg_has_role(current_user, 'pg_checkpoint', 'USAGE') AND has_function_privilege('pg_switch_wal()', 'EXECUTE')
    AND has_function_privilege('pg_ls_waldir()', 'EXECUTE')
"""
_SEGMENTS: Final = "SELECT count(*) FROM pg_ls_waldir()"


class Wiped(msgspec.Struct, frozen=True):
    """What was done."""

    tables: int
    rewritten: bool  # the table of wrapped keys; False where it is too large, or busy
    segments: int  # of the log that were written over; 0 where this process may not


async def wipe_due(vault: Vault) -> int:
    """The worker's: once half a day at most, and only after an erasure. Answers how many tables were vacuumed."""
    now = vault.clock.now()
    async with vault.database.hot() as driver:
        if not maintains(await maintainable(driver)):
            return 0
    async with vault.database.begin() as connection:
        held = await lease.take(connection, LEASE, vault.database.holder, now, LIFE)
    if held is None:
        return 0
    done = None
    try:
        async with vault.database.hot() as driver:
            waiting = now - held.position >= EVERY and await driver.fetchval(_WAITING, held.position)
        if waiting:
            done = await wipe(vault)
            async with vault.database.begin() as connection:
                await lease.advance(connection, held, now - LATE)
    finally:
        async with vault.database.begin() as connection:
            await lease.give_back(connection, held)
    return 0 if done is None else done.tables


async def wipe_now(vault: Vault) -> Wiped:
    """At once, whoever else does it; the worker then has nothing left to do of it."""
    now = vault.clock.now()
    done = await wipe(vault)
    async with vault.database.begin() as connection:
        held = await lease.take(connection, LEASE, vault.database.holder, vault.clock.now())
        if held is not None:  # else the worker of another process is at it, and says so itself
            await lease.advance(connection, held, max(held.position, now - LATE))
            await lease.give_back(connection, held)
    return done


async def wipe(vault: Vault) -> Wiped:
    """Whatever was wiped when. The samples of the planner are taken anew, since those hold ids, too."""
    async with _setting(vault, "statement_timeout = 0") as driver:
        tables = await maintainable(driver)
        for table in tables:
            await driver.execute(f"VACUUM (ANALYZE) {table}")
    rewritten = KEYS in tables and await _rewrite(vault)
    async with vault.database.hot() as driver:
        segments = await _write_over(driver) if await driver.fetchval(_MAY) else 0
    return Wiped(len(tables), rewritten, segments)


async def _rewrite(vault: Vault) -> bool:
    """The wrapped keys that are left, in a new file. False if there are too many, or others hold them for too long."""
    try:
        async with _setting(vault, f"lock_timeout = '{PATIENCE}'") as driver:
            if await driver.fetchval(f"SELECT pg_total_relation_size('{KEYS}')") > REWRITTEN:
                return False
            await driver.execute(f"VACUUM (FULL, ANALYZE) {KEYS}")
    except Conflict:  # the lock did not come
        return False
    return True


@asynccontextmanager
async def _setting(vault: Vault, setting: str) -> AsyncIterator[Raw]:
    """A connection with one setting changed, which the next borrower does not see."""
    async with vault.database.hot() as driver:
        await driver.execute(f"SET {setting}")
        try:
            yield driver
        finally:
            await driver.execute(f"RESET {setting.partition(' ')[0]}")


async def _write_over(driver: Raw) -> int:
    """Goes once through every segment that is kept for use again: the rest of one that is left is filled with zeros."""
    segments = min(int(await driver.fetchval(_SEGMENTS)) + 1, SEGMENTS)
    for _ in range(segments):
        await driver.execute("CHECKPOINT")
        await driver.fetchval("SELECT pg_switch_wal()")
    await driver.execute("CHECKPOINT")
    return segments
