"""The vault as its journeys see it: one clock, one keyring, one database, one policy version. Built by `vault.bootstrap`."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog

from vault.catalogue.contracts import Contract
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import bits
from vault.clock import Clock, Micros
from vault.config import Settings
from vault.errors import Unavailable
from vault.flows.ingest.item import Places
from vault.flows.ingest.seal import Audiences
from vault.flows.people.warm import Warm
from vault.flows.release.plan import Plan, compile_plan
from vault.flows.tags import Pointers
from vault.flows.turns import Turns
from vault.journal.journal import Journal
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.keys.roles import EVERYTHING, ProcessRole
from vault.policy.gate import Gate
from vault.policy.staff import StaffGate
from vault.policy.version import Version
from vault.sources.dropped import Uncounted
from vault.storage.session import Database

if TYPE_CHECKING:
    from uuid import UUID

    from structlog.typing import FilteringBoundLogger


class Watching:
    """Which sources somebody watches, as this process saw it last; and how much it has told in this second."""

    __slots__ = ("at", "lines", "second", "sources")

    def __init__(self) -> None:
        """It has never looked."""
        self.at: int = 0
        self.sources: frozenset[int] = frozenset()
        self.second: int = 0
        self.lines: int = 0


class Vault:
    """Everything a journey may use. Holds no request, and of people only those kept warm."""

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        database: Database,
        keystore: KeyStore,
        keyring: Keyring,
        journal: Journal,
        catalogue: Catalogue,
        gate: Gate,
        staff_gate: StaffGate,
        policy: Version,
        incarnation: str,
        role: ProcessRole = EVERYTHING,
    ) -> None:
        """`policy` is the live version whose files made `catalogue`, `gate` and `staff_gate`."""
        self.settings = settings
        self.clock = clock
        self.database = database
        self.keystore = keystore
        self.keyring = keyring
        self.journal = journal
        self.catalogue = catalogue
        self.gate = gate
        self.staff_gate = staff_gate
        self.policy = policy
        self.incarnation = incarnation
        self.watching = Watching()
        self.uncounted = Uncounted()
        self.role = role
        self.log: FilteringBoundLogger = structlog.get_logger("vault")
        self.places = Places(catalogue)
        self.audiences = Audiences(catalogue)
        self.warm = Warm()
        self.log_kept_up = Micros(0)  # when the audit log was last seen to keep up; `flows.lag`
        self.accused: set[UUID] = set()  # requests whose rows were found forged
        self.forged: set[tuple[str, bytes]] = set()  # other rows that were (kind, key): `flows.trail`
        self.turns = Turns()
        self.gone_epochs: dict[tuple[int, int], Micros] = {}  # (purpose, epoch) that the journal calls destroyed; when
        self.replayed: Any = None  # `flows.replay.Replayed`, once the journal was compared at the start
        self._plans: dict[str, Plan] = {}

    @cached_property
    def pointers(self) -> Pointers:
        """What vouches for rows of `identity`. Raises `Unavailable` in a process without that key."""
        return Pointers(self.rows_key)

    @property
    def rows_key(self) -> bytes:
        """The key that vouches for rows which decide by themselves. Raises `Unavailable` in a process without it."""
        return self.keyring.key(names.ROWS)

    def serves(self, contract: Contract) -> bool:
        """True if this process holds the keys of every purpose of the contract: it shows a destination all or nothing."""
        return all(self.keyring.holds(purpose) for purpose in bits(contract.purposes))

    def plan(self, destination: str) -> Plan | None:
        """What a destination may ever get; None for an unknown one. Raises `Unavailable` for one of another process."""
        plan = self._plans.get(destination)
        contract = self.catalogue.contracts.get(destination)
        if plan is None and contract is not None:
            if not self.serves(contract):
                raise Unavailable("Another process serves this destination.", code="other_process")
            key = self.keyring.key(names.PSEUDONYM)
            plan = self._plans[destination] = compile_plan(self.catalogue, self.gate, contract, key)
        return plan

    def __repr__(self) -> str:
        return f"Vault(policy={self.policy.number})"
