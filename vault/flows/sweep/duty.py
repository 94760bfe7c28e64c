"""The slow sweep: the state audit at a gentle pace, for ever, by whoever holds its lease.

Promises: at most `sweep_rate` people a step, a step a second; what it found is on record once; a round that was broken off,
by a crash or a change of hands, goes on where it was, since its place is the file beside the journal that it writes. When
a round is through, what was seen in it is what the next one must find again (`vault.journal.witness`).
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vault import durable
from vault.clock import HOUR, SECOND, Micros
from vault.flows.sweep.audit import Report, erased_by, forgotten, memory_of, one_range, the_rest
from vault.flows.sweep.people import FIRST
from vault.flows.sweep.record import forget_older, record
from vault.flows.vault import Vault
from vault.journal.witness import Round
from vault.keys import names
from vault.storage.lease import SWEEP, Lease, LeaseLost, advance, renew, take

if TYPE_CHECKING:
    from vault.flows.sweep.seen import Memory

REST: Final = HOUR  # between two rounds: a small vault is through in seconds
LIFE: Final = Micros(600 * SECOND)  # the end of a round may take minutes, and nobody waits for the next one


def _round(folder: Path, key: bytes) -> Round:
    durable.private_folder(folder)  # the journal's, or one that nobody made yet
    return Round(folder, key)


class Sweep:
    """The duty of one process."""

    def __init__(self, vault: Vault) -> None:
        """Nothing is read before the first step."""
        self._vault = vault
        self._lease: Lease | None = None
        self._round: Round | None = None
        self._memory: Memory | None = None

    def __repr__(self) -> str:
        return "Sweep(...)"

    async def step(self) -> int:
        """The next people, or the end of the round. Answers 0: whoever calls it waits before the next step."""
        if self._vault.settings.limits.sweep_rate and await self._held():
            try:
                await self._go_on()
            except BaseException:
                self._round = self._memory = None  # what is on disk is right, whatever is known here
                raise
        return 0

    async def _held(self) -> bool:
        """Keeps the lease, or takes it. False while another process has it, and between two rounds."""
        vault, now = self._vault, self._vault.clock.now()
        async with vault.database.hot() as connection:
            if self._lease is not None:
                try:
                    await renew(connection, self._lease, now, LIFE)
                except LeaseLost:
                    self._lease = None
            if self._lease is None:
                self._lease = await take(connection, SWEEP, vault.database.holder, now, LIFE)
                self._round = self._memory = None
        if self._lease is None:
            return False
        # A last round in the time to come was written by somebody else: it holds nothing up.
        return self._round is not None or not 0 <= now - self._lease.position < REST

    async def _go_on(self) -> None:
        vault, lease = self._vault, self._lease
        assert lease is not None  # noqa: S101 - a step holds it
        if self._round is None or self._memory is None:
            await record(vault, await asyncio.to_thread(forgotten, vault, lease.position))
            key = vault.keyring.key(names.JOURNAL)
            self._round = await asyncio.to_thread(_round, vault.settings.memory, key)
            self._memory = await asyncio.to_thread(memory_of, vault)
            await asyncio.to_thread(self._memory.skip, self._round.last)
        after = self._round.last or FIRST
        seen, found = await one_range(vault, after, vault.settings.limits.sweep_rate)
        more, keep = await asyncio.to_thread(self._memory.compare, seen, end=not seen)
        await record(vault, [*found, *more])
        await asyncio.to_thread(self._round.add, keep)
        if not seen:
            await self._finish(self._round, lease)

    async def _finish(self, done: Round, lease: Lease) -> None:
        vault = self._vault
        report = Report()
        await the_rest(vault, report, lambda _what, _count: None)
        await record(vault, report.findings)
        now = vault.clock.now()  # in the file and in the lease: an older file is known by it
        await asyncio.to_thread(done.finish, now, erased_by(vault))
        async with vault.database.hot() as connection:
            await advance(connection, lease, now)
        if lease.position <= now:
            await forget_older(vault, Micros(lease.position))
        self._lease = lease._replace(position=now)
        self._round = self._memory = None
