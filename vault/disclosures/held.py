"""What one recipient holds of one profile now, and what it was told to delete. Pure; numbers only.

Derived from what is sent, never from what should have been: a field is held from the line that carried it until a later
line leaves it out. A recipient has acknowledged only what it was told before.
"""

from typing import Literal
from uuid import UUID

import msgspec

from vault.clock import Micros

Reason = Literal["erased", "withdrawn", "expired", "merged", "unmerged", "policy", "contract_ended", "out_of_scope"]


class Held(msgspec.Struct, frozen=True):
    """One row of `disclosure_state`. Object numbers; times in microseconds since 1970 UTC."""

    subject_id: UUID  # the root under whose pseudonym the recipient knows the profile
    destination: int
    fields: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()  # held once, retracted, not sent again since
    gone_number: int | None = None  # change number of the latest retraction
    removed_number: int | None = None  # change number of the `remove` line, while nothing was sent after it
    reason: Reason | None = None
    into_root: UUID | None = None  # for `merged`
    acknowledged_at: Micros | None = None  # of the latest retraction or removal
    damaged: bool = False  # the stored row says nothing that can be believed; never written

    @property
    def told(self) -> bool:
        """Was it told to delete something that it has not confirmed yet?"""
        return self.acknowledged_at is None and (self.gone_number is not None or self.removed_number is not None)


def after_upsert(before: Held, objects: frozenset[int], number: int) -> Held:
    """After a line that carries the whole current view: what it leaves out is retracted, what it carries is back.

    Answers `before` itself where nothing changes, as it mostly is.
    """
    if objects == before.fields and before.removed_number is None and before.gone.isdisjoint(objects):
        if before.reason is None and before.into_root is None:
            return before
    elif not before.fields and before.gone_number is None and before.removed_number is None and not before.gone:
        return Held(before.subject_id, before.destination, objects, acknowledged_at=before.acknowledged_at)
    retracted = before.fields - objects
    return msgspec.structs.replace(
        before,
        fields=objects,
        gone=(before.gone | retracted) - objects,
        gone_number=number if retracted else before.gone_number,
        removed_number=None,
        reason=None,
        into_root=None,
        acknowledged_at=None if retracted else before.acknowledged_at,
    )


def after_removal(before: Held, number: int, reason: Reason, into_root: UUID | None = None) -> Held:
    """After a `remove` line: nothing is held any more. A second one changes nothing but its reason."""
    if before.removed_number is not None:
        return msgspec.structs.replace(before, reason=reason, into_root=into_root)
    return msgspec.structs.replace(
        before,
        fields=frozenset(),
        gone=before.gone | before.fields,
        removed_number=number,
        reason=reason,
        into_root=into_root,
        acknowledged_at=None,
    )


def retracted(before: Held, objects: frozenset[int]) -> frozenset[int]:
    """The object numbers that the next line must name as deleted."""
    return before.fields - objects
