"""Whose row of wraps is what the vault itself last said of that person: for whoever would make something of it anew.

A row that was put back opens as well as it did before. So a rotation would carry it to the new epoch, and what an erasure or
a withdrawal took would outlive the epoch that was to end it (threats D5, D9). Promises: only rows hold that the state row of
that person vouches for, of people whom the journal does not call erased, and who are not older than the journal knows them.
"""

import asyncio
from typing import Final
from uuid import UUID

from vault.errors import Unreadable
from vault.flows.vault import Vault
from vault.journal.journal import NOWHERE
from vault.journal.narrowing import Erasure, Objection, Refusal, RemovedWraps, Restriction
from vault.keys import names
from vault.keys.kept import scan_wraps
from vault.state.record import Reader, holdings_of

_OF_ONE: Final = (Objection, Refusal, RemovedWraps, Restriction)


class Vouched:
    """What the journal says of people, as of `learn`. Grows with the journal: some hundred bytes a person in it."""

    def __init__(self, vault: Vault) -> None:
        """Knows nothing before `learn`."""
        self._journal = vault.journal
        self._reader = Reader(vault.keyring.key(names.STATE))
        self._place = NOWHERE
        self._erased: set[UUID] = set()
        self._versions: dict[UUID, int] = {}

    def __repr__(self) -> str:
        return "Vouched(...)"

    async def learn(self) -> None:
        """Reads what is new in the journal. Raises `Unavailable` and `Unreadable`: then nothing is known."""
        entries, self._place = await asyncio.to_thread(self._journal.since, self._place)
        for one in entries:
            if isinstance(one, Erasure):
                self._erased.update(one.members)
            elif isinstance(one, _OF_ONE):
                self._versions[one.subject] = max(one.version, self._versions.get(one.subject, 0))

    def erased(self, subject: UUID) -> bool:
        """Whether the journal says so."""
        return subject in self._erased

    def holds(self, subject: UUID, wraps: bytes, state: bytes | None) -> bool:
        """Whether these wraps are the person's. `state`: their state row, read by the same statement; None without one."""
        if state is None or subject in self._erased:
            return False
        try:
            said = self._reader.read(subject, state)
            _, holdings = scan_wraps(wraps)
        except Unreadable:
            return False
        return said.version >= self._versions.get(subject, 0) and holdings_of(holdings) == said.holdings
