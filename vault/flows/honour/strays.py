"""Keys of case files and archives that no row needs: a crash between making the key and committing the row leaves one.

They open nothing, since what they would open never came to be. One of an erasure that is about to commit is not taken
away: it is younger than any transaction may be.
"""

import asyncio
from typing import Final
from uuid import UUID

from vault.audit.entry import Tag
from vault.clock import DAY, Micros
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names

# Much longer than any transaction lives, and long enough to put back a newer database after an older one was tried.
AGE: Final = 7 * DAY
_ROWS: Final = """
SELECT 'case-', request_id FROM casefile UNION ALL SELECT 'archive-', request_id FROM archive
"""


async def sweep_strays(vault: Vault) -> int:
    """Destroys them; answers how many. The age is looked at before the rows are, so that no row can come between."""
    old = await asyncio.to_thread(_old, vault, vault.clock.now())
    if not old:
        return 0
    async with vault.database.hot() as driver:
        needed = {f"{front}{UUID(bytes=one.bytes)}" for front, one in await driver.fetch(_ROWS)}
    strays = sorted(old - needed)
    for name in strays:
        await asyncio.to_thread(vault.keyring.destroy, name)
    if strays:
        async with vault.database.begin() as connection:
            await leave(vault, connection, Tag.KEY_SECRET_DESTROYED, "vault", {"strays": len(strays)})
    return len(strays)


def _old(vault: Vault, now: Micros) -> set[str]:
    """The passing keys that were made long ago."""
    found = set()
    for name in vault.keystore.names():
        if not name.startswith(names.PASSING):
            continue
        made = vault.keystore.made(name)  # nothing is opened for it
        if made and max(made.values()) < now - AGE:
            found.add(name)
    return found
