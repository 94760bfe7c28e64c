"""Can this vault serve now? Asked by load balancers and people; answers in figures, never in names of persons.

Promises: quick and bounded, whatever the backlog; what it needs and does not get is told as `Unavailable`.
"""

import asyncio
from typing import Final

import msgspec

from vault.clock import isoformat
from vault.flows.returned import returned
from vault.flows.sweep.record import standing
from vault.flows.vault import Vault
from vault.keys.roles import REQUESTS

BACKLOG_CAP: Final = 10_000  # rows; counting further would cost more than the figure is worth
ONE_PROCESS: Final = (
    "This process holds the keys of every purpose; separate processes per role confine each to its own."
)
NOT_WHOLE: Final = "Stored rows do not agree with each other or with the log: see `profile-vault audit verify --state`."
ONE_ROLE: Final = "This process owns the database's tables; separate processes can each have a role of its own there."
NO_ROLLBACK: Final = (
    "Keyring or journal lie beside the database, or on its server: whoever puts an old copy of all of them back is not"
    " noticed."
)


NO_WIPING: Final = (
    "What erasures delete stays on the disk until PostgreSQL vacuums by itself: up to release 16 only the owner of the"
    " tables may. Run `profile-vault erasures wipe` as the owner, once a day."
)
RETURNED: Final = (
    "The key store has epochs again that were destroyed: it is an older copy. See `profile-vault keys status`."
)
NO_SERVICE: Final = "Keys in memory serve on; what needs the key service answers 503."


class Readiness(msgspec.Struct, frozen=True):
    """What holds now. `backlog`: rows that wait for the worker, by queue, `BACKLOG_CAP` at most."""

    policy: int
    rollback_protection: str
    worker_seen: bool
    backlog: dict[str, int]
    key_service: str  # which one, and if it answered when it was asked last
    notes: tuple[str, ...]
    role: str  # "one process", or the doors and duties that this one has
    doors: tuple[str, ...]
    duties: tuple[str, ...]
    purposes: tuple[str, ...]  # whose values this process can open
    findings: int  # of the state audit, now
    swept_at: str | None  # when its sweep was last through
    database_role: str  # "owner", "own" (what its doors and duties need), or "too much"; as it was at the start


async def check(vault: Vault) -> Readiness:
    """Ask the database, and the journal's. Raises Unavailable when one does not answer."""
    now = vault.clock.now()
    await asyncio.to_thread(vault.journal.probe)
    async with vault.database.hot() as connection:
        row = await connection.fetchrow(_FIGURES, now, BACKLOG_CAP)
    swept = await standing(vault)
    protection = vault.keyring.protection
    role = vault.role
    fault = vault.keystore.fault
    login = vault.database.standing
    gone = vault.gone_epochs
    told = {
        ONE_PROCESS: role.whole,
        ONE_ROLE: login.owner,
        NO_ROLLBACK: protection == "none",
        NOT_WHOLE: swept.findings > 0,
        RETURNED: bool(gone and await asyncio.to_thread(returned, vault.keystore, gone)),
        NO_WIPING: REQUESTS in role.duties and not login.maintains,
    }
    told |= {f"Its role in the database has more than it needs: {one}.": not role.whole for one in login.excess}
    held = vault.catalogue.purposes.values()
    return Readiness(
        policy=vault.policy.number,
        rollback_protection=protection,
        worker_seen=bool(row["worker_seen"]),
        backlog={"changes": row["changes"], "audit": row["audit"]},
        key_service=f"{vault.settings.service.kind}: {'answers' if fault is None else 'away'}",
        notes=(*(note for note, holds in told.items() if holds), *(() if fault is None else (fault, NO_SERVICE))),
        role="one process" if role.whole else ", ".join((*role.doors, *role.duties)),
        doors=role.doors,
        duties=role.duties,
        purposes=tuple(one.name for one in held if vault.keyring.holds(one.number)),
        findings=swept.findings,
        swept_at=None if swept.swept_at is None else isoformat(swept.swept_at),
        database_role="owner" if login.owner else "too much" if login.excess else "own",
    )


_FIGURES: Final = """
SELECT
  (SELECT count(*) FROM (SELECT 1 FROM change_in LIMIT $2) AS waiting) AS changes,
  (SELECT count(*) FROM (SELECT 1 FROM audit_in LIMIT $2) AS waiting) AS audit,
  EXISTS (SELECT 1 FROM lease WHERE expires_at > $1 AND name <> 'sweep') AS worker_seen
"""
