"""Adds what was not stored to the counters of its source. After the commit, and never in its way.

The messages are durable by then, so the answer must not depend on this. What could not be counted is kept in the memory of
this process and goes with the next body of that source; a process that ends before then takes it along. A count whose answer
was lost may be made twice.
"""

from vault.clock import day_of
from vault.errors import VaultError
from vault.flows.vault import Vault
from vault.sources.store import Source, count_dropped


async def count(vault: Vault, source: Source) -> None:
    """Count what this process owes of the source."""
    owed = vault.uncounted.take(source.source_id)
    if not owed:
        return
    try:
        async with vault.database.begin() as connection:
            await count_dropped(connection, source.source_id, day_of(vault.clock.now()), owed)
    except VaultError as error:
        vault.uncounted.owe(source.source_id, owed)
        vault.log.warning("counting.failed", code=error.reason)
    except BaseException:  # whoever waited for the answer went away
        vault.uncounted.owe(source.source_id, owed)
        raise
