"""Puts a page on record: who got which fields of whom, what the destination now holds, and one audit entry; one commit.

The entry holds the root over the page's salted rows (RFC 9162), so that each row can be proven against the log while the
person is kept, and says nothing of anybody once the salts are erased with them. No durable record: no release.
"""

import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Entry, Tag
from vault.audit.store import append, keep_salts
from vault.canonical import framed
from vault.clock import Micros
from vault.disclosures.held import Held
from vault.disclosures.record import Released, pack_detail
from vault.disclosures.store import Page, Row, write_page
from vault.flows.release.plan import Plan
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.merkle import leaf_hash, root_of
from vault.storage.session import raw

SALT_BYTES: Final = 16
_NUMBERS: Final = struct.Struct(">QII")  # change number | destination | policy version


class Left(msgspec.Struct, frozen=True):
    """What one line discloses of one profile."""

    root: UUID
    number: int  # change number
    detail: tuple[Released, ...]


async def record(
    vault: Vault, plan: Plan, at: Micros, left: Sequence[Left], held: Sequence[Held], unreadable: Sequence[UUID]
) -> None:
    """Durable when it returns. A page that discloses, removes and refuses nothing leaves no entry.

    Raises `Unavailable` when it cannot be written; the caller then releases nothing.
    """
    if not (left or held or unreadable):
        return
    page = Page(plan.contract.number, uuid7(at), at, vault.policy.number)
    rows = sorted(Row(one.root, one.number, pack_detail(one.detail)) for one in left)
    salts = [(row.subject_id, random_bytes(SALT_BYTES)) for row in rows]
    leaves = [
        leaf_hash(framed(salt, row.subject_id.bytes, _NUMBERS.pack(row.number, page.destination, page.policy), row.detail))
        for row, (_, salt) in zip(rows, salts, strict=True)
    ]
    entry = Entry(
        entry_id=page.page,
        at=at,
        tag=Tag.DISCLOSURE_PAGE_RELEASED if left else Tag.DISCLOSURE_PAGE_WITHHELD,
        actor=f"destination:{plan.contract.name}",
        policy=page.policy,
        detail={
            "destination": plan.contract.name,
            "disclosed": len(rows),
            "removed": sum(one.removed_number is not None for one in held),
            "unreadable": len(unreadable),
            "rows": root_of(leaves).hex(),
        },
    )
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await write_page(driver, page, rows, held)
        await keep_salts(driver, page.page, salts)
        await append(connection, entry)
