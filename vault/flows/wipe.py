"""Takes what an erasure deleted off the disk: dead rows by VACUUM, and the log of writes by writing over it.

A deleted row stays in its page until it is vacuumed, and in the write-ahead log until its segment is used again (threats
4.2, 4.3, D5). Keys are destroyed long before, so nothing of it opens once the epoch is gone, too; this is for the bytes.
The worker does it within a day of an erasure, as far as the database lets this process: who may not write a checkpoint or
change segments (as with a managed server) leaves that to the server. Archives of the log and backups are not its matter.
"""

from typing import Final

import msgspec

from vault.clock import HOUR, Micros
from vault.flows.vault import Vault
from vault.storage import lease
from vault.storage.session import Raw

LEASE: Final = "wipe"
EVERY: Final = 12 * HOUR
LATE: Final = HOUR  # rows are deleted within minutes of the keys; what is an hour old counts for the next time again
LIFE: Final = Micros(2 * HOUR)  # how long one may take
SEGMENTS: Final = 16  # of 16 MB each, that are written over at most: a quarter of a gigabyte

_WAITING: Final = "SELECT EXISTS (SELECT FROM erased WHERE at > $1)"
_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1
"""
_MAY: Final = """
SELECT pg_has_role(current_user, 'pg_checkpoint', 'USAGE') AND has_function_privilege('pg_switch_wal()', 'EXECUTE')
    AND has_function_privilege('pg_ls_waldir()', 'EXECUTE')
"""
_SEGMENTS: Final = "SELECT count(*) FROM pg_ls_waldir()"


class Wiped(msgspec.Struct, frozen=True):
    """What was done."""

    tables: int
    segments: int  # of the log that were written over; 0 where this process may not


async def wipe_due(vault: Vault) -> int:
    """The worker's: once half a day at most, and only after an erasure. Answers how many tables were vacuumed."""
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        held = await lease.take(connection, LEASE, vault.database.holder, now, LIFE)
    if held is None:
        return 0
    try:
        done = None
        async with vault.database.hot() as driver:
            if now - held.position >= EVERY and await driver.fetchval(_WAITING, held.position):
                done = await _wipe(driver)
                await lease.advance(driver, held, now - LATE)
        return 0 if done is None else done.tables
    finally:
        async with vault.database.begin() as connection:
            await lease.give_back(connection, held)


async def wipe(vault: Vault) -> Wiped:
    """At once, whoever else does it."""
    async with vault.database.hot() as driver:
        return await _wipe(driver)


async def _wipe(driver: Raw) -> Wiped:
    """One table after the other; the samples of the planner are taken anew, since those hold ids, too."""
    await driver.execute("SET statement_timeout = 0")
    try:
        tables = [row[0] for row in await driver.fetch(_TABLES)]
        for table in tables:
            await driver.execute(f"VACUUM (ANALYZE) {table}")
        return Wiped(len(tables), await _write_over(driver) if await driver.fetchval(_MAY) else 0)
    finally:
        await driver.execute("RESET statement_timeout")


async def _write_over(driver: Raw) -> int:
    """Goes once through every segment that is kept for use again: the rest of one that is left is filled with zeros."""
    segments = min(int(await driver.fetchval(_SEGMENTS)) + 1, SEGMENTS)
    for _ in range(segments):
        await driver.execute("CHECKPOINT")
        await driver.fetchval("SELECT pg_switch_wal()")
    await driver.execute("CHECKPOINT")
    return segments
