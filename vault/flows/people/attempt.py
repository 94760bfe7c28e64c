"""What every draft of one attempt shares: keys, gate, the moment, and the rows that they leave together. Shows none of it.

And what a draft says when it was given too little to decide by.
"""

from uuid import UUID

import msgspec

from vault.clock import Micros
from vault.flows.people.write import Rows
from vault.flows.tags import Pointers
from vault.keys.keyring import Keyring
from vault.policy.gate import Gate
from vault.policy.permit import Permit
from vault.state.record import Writer


class Tools(msgspec.Struct, frozen=True):
    """What the drafts of one attempt need of the vault, and the rows that they leave: they are written together."""

    keyring: Keyring
    gate: Gate
    state_key: bytes
    states: Writer
    pointers: Pointers
    now: Micros
    turn: int = 0  # `Keyring.turn` before any key was chosen
    permits: dict[int, Permit] = msgspec.field(default_factory=dict)  # so that one is asked for once a purpose
    rows: Rows = msgspec.field(default_factory=Rows.none)

    def permit(self, purpose: int) -> Permit:
        """The computing permit of a purpose."""
        found = self.permits.get(purpose)
        if found is None:
            found = self.permits[purpose] = self.gate.compute(purpose)
        return found

    def __repr__(self) -> str:
        return "Tools(...)"


class LedgerNeeded(Exception):
    """A decision needs the ledger of this subject, which was not read."""

    def __init__(self, subject: UUID) -> None:
        self.subject = subject
        super().__init__()
