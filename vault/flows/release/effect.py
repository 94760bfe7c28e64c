"""How long it took from a refusal to the page that tells a destination to delete: measured, for promise 5. No person in it.

Asked only of pages that take something back. What cannot be found out is not measured; it never keeps a page from leaving.
"""

from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from vault.clock import SECOND
from vault.consent.ledger import REFUSALS, parse_choice
from vault.errors import VaultError
from vault.flows.release.plan import Plan
from vault.flows.release.record import Sheet
from vault.flows.vault import Vault
from vault.measures import WITHDRAWAL_EFFECT

_NEWEST: Final = 8  # entries of a ledger that are looked at: an act writes one for each purpose
# The newest entries of every member of these profiles, by root.
_ENTRIES: Final = """
SELECT s.root, l.entry FROM subject s CROSS JOIN LATERAL (
    SELECT entry FROM ledger WHERE ledger.subject_id = s.subject_id ORDER BY sequence DESC LIMIT $2
) l WHERE s.root = ANY ($1::uuid[])
"""


async def measured(vault: Vault, plan: Plan, sheet: Sheet) -> None:
    """Note the age of each refusal that this page, which is on record, tells for the first time."""
    roots = [
        one.after.subject_id
        for one in sheet.turned
        if (one.after.reason == "withdrawn" and one.after.removed_number is not None)
        or (one.before is not None and one.after.gone - one.before.gone)
    ]
    if roots:
        with suppress(VaultError):
            await _noted(vault, plan, roots)


async def _noted(vault: Vault, plan: Plan, roots: list[UUID]) -> None:
    async with vault.database.hot() as connection:
        rows = await connection.fetch(_ENTRIES, roots, _NEWEST)
    newest: dict[Any, int] = {}
    for root, entry in rows:
        choice = parse_choice(bytes(entry))
        if choice.decision in REFUSALS and plan.mask >> choice.purpose & 1:
            newest[root] = max(newest.get(root, 0), choice.received_at)
    now = vault.clock.now()
    for received in newest.values():
        WITHDRAWAL_EFFECT.labels(plan.contract.name).observe(max(0, now - received) / SECOND)
