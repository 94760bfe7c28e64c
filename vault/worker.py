"""The leased loops: change numbers, audit leaves, webhooks, requests, what falls due. Each is a step that may run anywhere.

A step that finds nothing sleeps; one that fails is logged by its code and tried again, slower each time. Nothing is kept
in memory between steps, so a worker may die at any line.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from vault.audit.log import integrate
from vault.changes.sequencer import BATCH, sequence
from vault.clock import HOUR, SECOND
from vault.destinations.transport import Transport
from vault.errors import VaultError
from vault.flows import ready
from vault.flows.deliver import deliver_due
from vault.flows.graves import restore_graves
from vault.flows.honour.advance import advance_all
from vault.flows.honour.strays import sweep_strays
from vault.flows.lag import check_log
from vault.flows.settle import settle_due
from vault.flows.sweep.duty import Sweep
from vault.flows.vault import Vault
from vault.flows.watch import sweep
from vault.flows.wipe import wipe_due
from vault.keys import roles
from vault.measures import FEED_LAG, WORKER_FAILURES, WORKER_STEP
from vault.storage.lease import LIFE
from vault.storage.session import reserved

IDLE: Final = 0.05  # seconds between looks at an empty queue: a change reaches a waiting feed in less than a tenth
SLOW: Final = 1.0  # for what is not awaited by anyone
SWEEPING: Final = 10.0  # what watchers of sources left may lie a little longer
MAX_WAIT: Final = 30.0
FIRST: Final = frozenset({"requests"})  # loops that use the connections kept for people's rights

ENDLESS: Final = "sweep"  # the state audit begins anew when it is through

# Watches need no key, graves and the sweep those of writers, the others those of the desk.
_DUTY: Final = {
    "watches": roles.CHANGES,
    "graves": roles.DUE,
    ENDLESS: roles.REQUESTS,  # which has the keys of every purpose, and may read what the audit reads
    "strays": roles.REQUESTS,
    "wipes": roles.REQUESTS,
}

Step = Callable[[], Awaitable[int]]


async def run(vault: Vault, *, once: bool = False) -> None:
    """Run the loops of the vault's role until cancelled; with `once`, until nothing more waits."""
    async with Transport(vault.settings.webhook_networks) as transport:
        steps: list[tuple[str, Step, float]] = [
            (roles.CHANGES, _Numbering(vault).step, IDLE),
            (roles.REQUESTS, lambda: advance_all(vault), IDLE),
            (roles.AUDIT, lambda: integrate(vault.database, vault.keyring, vault.journal, vault.clock), IDLE),
            (roles.WEBHOOKS, lambda: _push(vault, transport), IDLE),
            (roles.DUE, lambda: settle_due(vault), SLOW),
            ("graves", lambda: restore_graves(vault), HOUR / SECOND),
            ("watches", lambda: sweep(vault), SWEEPING),
            (ENDLESS, Sweep(vault).step, SLOW),
            ("strays", lambda: sweep_strays(vault), HOUR / SECOND),
        ]
        if not once:  # nobody waits for the disk
            steps.append(("wipes", lambda: wipe_due(vault), HOUR / SECOND))
        steps = [step for step in steps if _DUTY.get(step[0], step[0]) in vault.role.duties]
        if once:
            await _once(vault, [step for name, step, _ in steps if name != ENDLESS])
            return
        async with asyncio.TaskGroup() as group:
            for name, step, pause in steps:
                group.create_task(_loop(vault, name, step, pause), name=f"worker:{name}")


async def _push(vault: Vault, transport: Transport) -> int:
    """As `deliver_due`, while the audit log keeps up."""
    await check_log(vault)
    return await deliver_due(vault, transport)


class _Numbering:
    """Numbers changes, and measures how long one of them can have waited: since the last look that left none."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._clear = time.monotonic()

    async def step(self) -> int:
        """As `sequence`."""
        started = time.monotonic()
        taken = await sequence(self._vault.database, self._vault.clock)
        if taken:
            FEED_LAG.observe(time.monotonic() - self._clear)
        if taken < BATCH:
            self._clear = started
        return taken


async def _once(vault: Vault, steps: list[Step]) -> None:
    """Until nothing waits. What another process holds the lease of is waited for, as long as a dead one may have it."""
    patience = LIFE / SECOND + SLOW
    while patience > 0:
        if sum([await step() for step in steps]):
            continue
        if not any((await ready.check(vault)).backlog.values()):
            return
        await asyncio.sleep(IDLE)
        patience -= IDLE


async def _loop(vault: Vault, name: str, step: Step, pause: float) -> None:
    wait = pause
    while True:
        started = time.perf_counter()
        try:
            vault.keyring.refresh()  # what other processes made or destroyed: for loops that ask for keys rarely
            if name in FIRST:
                with reserved():
                    done = await step()
            else:
                done = await step()
        except Exception as error:  # noqa: BLE001 - a loop that ends would take all others with it
            # The type alone: the text of an error that nobody foresaw may hold a value.
            code = error.reason if isinstance(error, VaultError) else type(error).__name__
            vault.log.warning("worker.failed", loop=name, code=code)
            WORKER_FAILURES.labels(name, code).inc()
            wait = min(wait * 2, MAX_WAIT)
            await asyncio.sleep(wait)
            continue
        wait = pause
        if done:
            WORKER_STEP.labels(name).observe(time.perf_counter() - started)
        else:
            await asyncio.sleep(pause)
