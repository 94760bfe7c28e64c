"""Does the audit log keep up? What releases values asks first: no audit, no data (promise 12, threats F8).

Entries are durable with what they tell of, and wait in `audit_in` until the log takes them up. Where nobody does, since its
worker is gone or somebody took its lease, they could be deleted unseen; so releases stop until they are taken up.
"""

from typing import Final
from uuid import UUID

from vault.clock import SECOND, Micros
from vault.errors import Unavailable
from vault.flows.vault import Vault

LIMIT: Final = 300 * SECOND  # a worker that restarts, and a lease that has to run out, take seconds
PAUSE: Final = SECOND  # between two looks of one process that found nothing old

_OLDEST: Final = "SELECT entry_id FROM audit_in ORDER BY entry_id LIMIT 1"


async def check_log(vault: Vault) -> None:
    """Raises `Unavailable` (code `audit_behind`) while some entry waits too long."""
    now = vault.clock.now()
    if 0 <= now - vault.log_kept_up < PAUSE:
        return
    async with vault.database.hot() as connection:
        oldest = await connection.fetchval(_OLDEST)
    if oldest is not None and now - made_at(UUID(bytes=oldest.bytes)) > LIMIT:
        raise Unavailable(
            "The audit log does not keep up, so nothing is released; see that its worker runs.", code="audit_behind"
        )
    vault.log_kept_up = now


def made_at(entry_id: UUID) -> Micros:
    """The time in a UUIDv7, to the millisecond."""
    return Micros((entry_id.int >> 80) * 1000)
