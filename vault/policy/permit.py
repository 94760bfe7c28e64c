"""Permits: the gate's proof that a read may happen. `vault.profile.sealing` opens nothing without one.

Promises: a permit is made by `vault.policy.gate` alone. Every construction must show a proof that the gate's maker has
just issued and that works once, so neither a plain call, nor a copy with other fields, nor decoding makes one. That
keeps honest code honest; it is no wall against code that reaches for private names (docs/threat-model.md).
Must not know: rules, contracts, persons.
"""

from typing import Final, NoReturn

import msgspec

from vault.ids import random_bytes

_PERMIT_ID_BYTES: Final = 16
_alive: Final[dict[int, object]] = {}  # proofs issued and not yet used, by identity


class Permit(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One purpose, and the objects that may be opened for it."""

    permit_id: bytes  # 16 random bytes
    actor: str  # `destination:warehouse`, `vault`, `staff:0192…`
    purpose: int  # a purpose number, or RIGHTS
    objects: frozenset[int] | None  # None: every object in the purpose's compartments (computation and rights only)
    policy: int  # number of the policy version that decided; 0 before one is applied
    reason: str  # `release`, `compute`, `staff:support`, `request:…`
    proof: object

    def __post_init__(self) -> None:
        """Raises TypeError unless the gate's maker stands behind the call."""
        if self.proof is None or _alive.pop(id(self.proof), None) is not self.proof:
            raise TypeError("a permit is made by the gate only")

    def __repr__(self) -> str:
        return f"Permit({self.reason}, purpose={self.purpose})"

    def __reduce__(self) -> NoReturn:
        """Permits do not travel: another process asks its own gate."""
        raise TypeError("a permit cannot be pickled")


def _issue(*, actor: str, purpose: int, objects: frozenset[int] | None, policy: int, reason: str) -> Permit:
    """A permit. For `vault.policy.gate` only; tests/unit/policy/test_permit.py looks for other callers."""
    proof = object()
    _alive[id(proof)] = proof
    return Permit(
        permit_id=random_bytes(_PERMIT_ID_BYTES),
        actor=actor,
        purpose=purpose,
        objects=objects,
        policy=policy,
        reason=reason,
        proof=proof,
    )
