"""Pushes what a destination would pull: the worker reads the feed for it, decides at the moment of sending, and signs.

The cursor moves only when the recipient said 2xx, so nothing is skipped; a retry is decided anew, so nothing withdrawn
since is sent. Values are never stored on the way: a queue of cursors, not of lines. One destination in trouble holds up
no other.
"""

import asyncio
from typing import Final

from vault.audit.entry import Tag
from vault.destinations.store import Webhook, delivered, due_webhooks, failed
from vault.destinations.transport import Delivered, Failed, Outcome, Transport
from vault.destinations.webhook import check_address, delivery_id, envelope, next_attempt, sign
from vault.errors import Gone, Invalid, Unreadable, VaultError
from vault.flows.release.page import Page, fresh, read_page
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names
from vault.storage.lease import hold

WEBHOOKS: Final = "webhooks"  # the lease
LINES: Final = 50  # people a delivery: about 15 kilobytes, as Standard Webhooks advises
AT_ONCE: Final = 8  # deliveries under way in one process
ATTEMPTS: Final = 3  # to reach the recipient before the decision is a second old


async def deliver_due(vault: Vault, transport: Transport) -> int:
    """One attempt for each webhook that may be tried now; answers how many came further. 0 too while another process does it.

    Raises what keeps every destination from being served, once each has had its turn.
    """
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        hooks = [hook for hook in await due_webhooks(connection, now) if _ours(vault, hook)]
        if not hooks or await hold(connection, _lease(vault), vault.database.holder, now) is None:
            return 0
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(hook: Webhook) -> bool:
        async with gate:
            return await _attempt(vault, transport, hook)

    outcomes = await asyncio.gather(*(one(hook) for hook in hooks), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return sum(outcome is True for outcome in outcomes)


def _ours(vault: Vault, hook: Webhook) -> bool:
    """False for a destination whose purposes are another process's."""
    contract = vault.catalogue.contracts_by_number.get(hook.destination)
    return contract is None or vault.serves(contract)


def _lease(vault: Vault) -> str:
    """Workers of the same purposes take turns; those of others go on beside them."""
    return WEBHOOKS if not vault.role.purposes else f"{WEBHOOKS}:{','.join(sorted(vault.role.purposes))}"


async def _attempt(vault: Vault, transport: Transport, hook: Webhook) -> bool:
    """True if the cursor moved. What only this destination suffers from is put off; what all do is raised on putting off."""
    contract = vault.catalogue.contracts_by_number.get(hook.destination)
    if contract is None:
        return False
    try:
        outcome = await _deliver(vault, transport, hook, contract.name)
    except VaultError as error:
        await _failed(vault, hook, contract.name, error.reason)
        return False
    if isinstance(outcome, Failed):
        ended = outcome.reason == "gone"
        await _failed(vault, hook, contract.name, outcome.reason, retry_after=outcome.retry_after, ended=ended)
        return False
    return outcome


async def _deliver(vault: Vault, transport: Transport, hook: Webhook, destination: str) -> bool | Failed:
    """Whether the cursor moved, or why the recipient did not take it. Raises `Unreadable` for an address nobody set."""
    await _check(vault, hook, destination)
    for _ in range(ATTEMPTS):
        page = await _page(vault, destination, hook.cursor)
        if len(page.lines) == 1:  # the cursor line alone: nothing changed for this destination
            return page.cursor != hook.cursor and await _moved(vault, hook, page)
        outcome = await _post(vault, transport, hook, destination, page)
        if isinstance(outcome, Delivered):
            return await _moved(vault, hook, page)
        if outcome.reason != "stale":
            return outcome
    return Failed("stale")


async def _check(vault: Vault, hook: Webhook, destination: str) -> None:
    """Nothing is read, let alone sent, for an address that only the database knows."""
    secret = vault.keyring.renewed(names.webhook(destination))  # whoever sets it anew is another process
    try:
        check_address(vault.keyring.key(names.PSEUDONYM), secret, hook.destination, hook.url, hook.code)
    except Unreadable:
        async with vault.database.begin() as connection:
            actor = f"destination:{destination}"
            await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, actor, {"destination": destination})
        raise


async def _page(vault: Vault, destination: str, cursor: str | None) -> Page:
    """The next page. A cursor of an earlier life of the database, or made under other keys, begins a new snapshot."""
    try:
        return await read_page(vault, destination, cursor, LINES)
    except (Gone, Invalid):
        return await read_page(vault, destination, None, LINES)


async def _post(vault: Vault, transport: Transport, hook: Webhook, destination: str, page: Page) -> Outcome:
    now = vault.clock.now()
    message = delivery_id(vault.keyring.key(names.PSEUDONYM), hook.destination, hook.cursor or "", page.lines[:-1])
    secret = vault.keyring.renewed(names.webhook(destination))
    delivery = sign([secret], message, now, envelope(page.lines[:-1], now))
    return await transport.post(hook.url, delivery.headers, delivery.body, lambda: fresh(vault, page.at))


async def _moved(vault: Vault, hook: Webhook, page: Page) -> bool:
    async with vault.database.begin() as connection:
        return await delivered(connection, hook, page.cursor, vault.clock.now())


async def _failed(
    vault: Vault, hook: Webhook, destination: str, reason: str, *, retry_after: int | None = None, ended: bool = False
) -> None:
    now = vault.clock.now()
    next_at = next_attempt(hook.failures + 1, now, retry_after)
    async with vault.database.begin() as connection:
        if await failed(connection, hook, next_at, disabled_at=now if ended else None) and ended:
            actor = f"destination:{destination}"
            await leave(vault, connection, Tag.DESTINATION_WEBHOOK_DISABLED, actor, {"destination": destination})
    vault.log.warning("webhook.failed", destination=destination, reason=reason, failures=hook.failures + 1)
