"""What the database says of the whole vault, for the operator's figures: queues, what is due, the log, webhooks.

Promises: bounded, whatever the backlog and however the database feels; counts, ages and names from policies only.
"""

from typing import Any, Final

import msgspec

from vault.changes.cursor import unpack
from vault.clock import SECOND, Micros
from vault.errors import Gone, Invalid
from vault.flows.ready import BACKLOG_CAP
from vault.flows.sweep.record import standing
from vault.flows.vault import Vault
from vault.keys import names
from vault.keys.roles import DUE, REQUESTS, WEBHOOKS

_FIGURES: Final = """
SELECT
  (SELECT count(*) FROM (SELECT 1 FROM change_in LIMIT $2) AS waiting) AS changes,
  (SELECT count(*) FROM (SELECT 1 FROM audit_in LIMIT $2) AS waiting) AS audit,
  (SELECT max(size) FROM checkpoint) AS audit_size,
  (SELECT position FROM lease WHERE name = 'changes') AS numbered,
  EXISTS (SELECT 1 FROM lease WHERE expires_at > $1 AND name <> 'sweep') AS worker_seen
"""
_DUE: Final = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM due WHERE at <= $1 LIMIT $2) AS waiting),
  (SELECT min(at) FROM due WHERE at <= $1)
"""
_REQUESTS: Final = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM request WHERE finished_at IS NULL LIMIT $1) AS waiting),
  (SELECT min(due_at) FROM request WHERE finished_at IS NULL)
"""
_HOOKS: Final = "SELECT destination, cursor, failures, disabled_at FROM webhook ORDER BY 1"
_NONE: Final = (0, None)


class Hook(msgspec.Struct, frozen=True):
    """One webhook. `behind`: changes, at most, that it was not offered yet."""

    destination: str
    behind: int
    failures: int  # in a row
    disabled: bool


class Figures(msgspec.Struct, frozen=True):
    """One look. `waiting`: rows by queue, `BACKLOG_CAP` at most; ages in seconds."""

    waiting: dict[str, int]
    due_for: float  # since when the oldest due entry is due
    deadline_in: float | None  # until the nearest legal deadline of an open request; negative when it passed
    audit_size: int
    numbered: int
    worker_seen: bool
    webhooks: tuple[Hook, ...]
    findings: int  # of the state audit
    swept_for: float | None  # since its sweep was last through; None before that


async def look(vault: Vault) -> Figures:
    """Ask the database, of what is this process's own duty. Raises `Unavailable` when it does not answer."""
    now, parts = vault.clock.now(), vault.role.parts
    async with vault.database.hot() as connection:
        row = await connection.fetchrow(_FIGURES, now, BACKLOG_CAP)
        due, since = await connection.fetchrow(_DUE, now, BACKLOG_CAP) if DUE in parts else _NONE
        open_, deadline = await connection.fetchrow(_REQUESTS, BACKLOG_CAP) if REQUESTS in parts else _NONE
        hooks = await connection.fetch(_HOOKS) if WEBHOOKS in parts else ()
    swept = await standing(vault)
    numbered = row["numbered"] or 0
    return Figures(
        waiting={"changes": row["changes"], "audit": row["audit"], "due": due, "requests": open_},
        due_for=_seconds(now - since) if since is not None else 0.0,
        deadline_in=_seconds(deadline - now) if deadline is not None else None,
        audit_size=row["audit_size"] or 0,
        numbered=numbered,
        worker_seen=row["worker_seen"],
        webhooks=tuple(hook for one in hooks if (hook := _hook(vault, one, numbered)) is not None),
        findings=swept.findings,
        swept_for=None if swept.swept_at is None else _seconds(now - swept.swept_at),
    )


def _hook(vault: Vault, row: Any, numbered: int) -> Hook | None:
    contract = vault.catalogue.contracts_by_number.get(row["destination"])
    if contract is None:
        return None
    seen = 0
    if row["cursor"]:
        try:
            seen = unpack(row["cursor"], vault.keyring.key(names.CURSOR), contract.number, vault.incarnation).number
        except (Gone, Invalid):
            seen = 0  # it will begin anew
    return Hook(contract.name, max(0, numbered - seen), row["failures"], row["disabled_at"] is not None)


def _seconds(micros: int | Micros) -> float:
    return micros / SECOND
