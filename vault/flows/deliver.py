"""Pushes what a destination would pull: the worker reads the feed for it, decides at the moment of sending, and signs.

The cursor moves only when the recipient said 2xx, so nothing is skipped; a retry is decided anew, so nothing withdrawn
since is sent. Values are never stored on the way: a queue of cursors, not of lines.
"""

from typing import Final

import msgspec

from vault.destinations.store import Webhook, delivered, due_webhooks, failed
from vault.destinations.transport import Delivered, Transport
from vault.destinations.webhook import delivery_id, envelope, next_attempt, sign
from vault.flows.release.page import page
from vault.flows.vault import Vault
from vault.keys import names

LINES: Final = 50  # people a delivery: about 15 kilobytes, as Standard Webhooks advises


async def deliver_due(vault: Vault, transport: Transport) -> int:
    """One attempt for each webhook that may be tried now; answers how many deliveries arrived."""
    async with vault.database.begin() as connection:
        hooks = await due_webhooks(connection, vault.clock.now())
    arrived = 0
    for hook in hooks:
        arrived += await _deliver(vault, transport, hook)
    return arrived


async def _deliver(vault: Vault, transport: Transport, hook: Webhook) -> bool:
    contract = vault.catalogue.contracts_by_number.get(hook.destination)
    if contract is None:
        return False
    lines = await page(vault, contract.name, hook.cursor, LINES)
    cursor = _cursor_of(lines[-1])
    now = vault.clock.now()
    if len(lines) == 1:  # the cursor line alone: nothing changed for this destination
        if cursor != hook.cursor:
            async with vault.database.begin() as connection:
                await delivered(connection, hook, cursor, now)
        return False
    message = delivery_id(vault.keyring.key(names.PSEUDONYM), hook.destination, hook.cursor or "", lines[:-1])
    secret = vault.keyring.key(names.webhook(contract.name))
    delivery = sign([secret], message, now, envelope(lines, now))
    outcome = await transport.post(hook.url, delivery.headers, delivery.body)
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        if isinstance(outcome, Delivered):
            return await delivered(connection, hook, cursor, now)
        next_at = next_attempt(hook.failures + 1, now, outcome.retry_after)
        ended = now if outcome.reason == "gone" else None
        await failed(connection, hook, next_at, disabled_at=ended)
    vault.log.warning("webhook.failed", destination=contract.name, reason=outcome.reason, failures=hook.failures + 1)
    return False


def _cursor_of(line: bytes) -> str:
    return str(msgspec.json.decode(line)["cursor"])

