"""Puts a release on record: who got which fields of whom, what the destination now holds, and audit entries; one commit.

The entry holds the root over the page's salted rows (RFC 9162), so that each row can be proven against the log while the
person is kept, and says nothing of anybody once the salts are erased with them. No durable record: no release.

What was decided upon is compared once more, under locks: `Overtaken` is raised where somebody was erased meanwhile, or
another reader of the same destination turned what it holds, of whomever is on the sheet: also where this one changes
nothing of it, as it mostly is. Then nothing was written, and the caller decides again.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Entry, Tag, salted
from vault.audit.store import append, keep_salts
from vault.clock import Micros
from vault.disclosures.held import Held
from vault.disclosures.store import Lock, Page, Row, change_held, held_by, write_page
from vault.errors import Conflict
from vault.flows.release.plan import Plan
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.keys import names
from vault.merkle import leaf_hash, root_of
from vault.rights.store import told
from vault.storage.session import Connection, Raw, raw

SALT_BYTES: Final = 16
ID_BYTES: Final = 16
NAMED: Final = 100  # people that one entry of a failed check names: 64 digits each, under the size of a leaf
# One row under the root: salt, subject, (change number | destination | policy version), detail, each behind its length:
# the bytes that `framed` would give (a test compares).
_LEAF: Final = struct.Struct(">I16sI16sIQ")
_SHARED: Final = struct.Struct(">II")
_LENGTH: Final = struct.Struct(">I")
_NUMBERS: Final = 16

# Erasing locks the rows of its people first, so whoever is not in `erased` here is still whole when this commits.
_PRESENT: Final = """
SELECT count(*) FROM (
    SELECT FROM subject WHERE subject_id = ANY ($1::uuid[]) ORDER BY subject_id FOR KEY SHARE
) AS held
"""
_ERASED: Final = "SELECT EXISTS (SELECT FROM erased WHERE subject_id = ANY ($1::uuid[]))"
# A removal is repeated to whoever passes its number, so the person must not move on to another number before it is there.
_UNMOVED: Final = """
SELECT subject_id, number FROM change WHERE subject_id = ANY ($1::uuid[]) ORDER BY subject_id FOR SHARE
"""


class Overtaken(Conflict):
    """What the release was decided upon is not so any more. Nothing was written."""

    code = "retry"


class Left(msgspec.Struct, frozen=True):
    """What one line discloses of one profile."""

    root: UUID
    number: int  # change number
    detail: bytes  # disclosures.record.pack_detail
    before: Held | None  # what the destination held of it when it was decided


class Turned(msgspec.Struct, frozen=True):
    """What the destination held of a profile when it was decided, and holds after the line."""

    before: Held | None
    after: Held


class Sheet(msgspec.Struct, kw_only=True):
    """A release in the making: all that must be on record before its first byte."""

    at: Micros
    left: list[Left] = msgspec.field(default_factory=list)
    turned: list[Turned] = msgspec.field(default_factory=list)
    unreadable: list[UUID] = msgspec.field(default_factory=list)

    @property
    def empty(self) -> bool:
        """True if it discloses, removes and refuses nothing: then it leaves no entry."""
        return not (self.left or self.turned or self.unreadable)

    def __repr__(self) -> str:
        return f"Sheet(left={len(self.left)})"


async def record(vault: Vault, plan: Plan, sheet: Sheet, released: Tag, withheld: Tag) -> None:
    """Durable when it returns. `released` and `withheld` are the kinds of entry for a sheet with and without disclosures.

    Raises `Overtaken` to have it decided again, `Unavailable` when it cannot be written; the caller then releases nothing.
    """
    if sheet.empty:
        return
    page = Page(plan.contract.number, uuid7(sheet.at), sheet.at, vault.policy.number)
    salts = random_bytes(SALT_BYTES * len(sheet.left))
    rows = [
        Row(one.root, one.number, salts[at : at + SALT_BYTES], one.detail)
        for one, at in zip(sorted(sheet.left, key=_root), range(0, len(salts), SALT_BYTES), strict=True)
    ]
    entry = entry_of(plan, sheet, page, rows, released if sheet.left else withheld)
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        await vault.database.ground.look(driver)  # a pooler may have changed servers without ending a connection
        await _check(driver, plan, sheet)
        new = [one.after for one in sheet.turned if one.before is None]
        if await write_page(driver, page, rows, new) != len(new):
            raise Overtaken
        await change_held(driver, page.destination, [one.after for one in sheet.turned if one.before is not None])
        removed = [one.after.subject_id for one in sheet.turned if one.after.removed_number is not None]
        if removed:  # an erasure's certificate states this time, and no other
            await told(connection, plan.contract.number, removed, sheet.at, vault.keyring.key(names.STATE))
        key = vault.keyring.key(names.JOURNAL)
        await append(connection, entry, key)
        await _accuse(connection, entry, sheet.unreadable, key)


def entry_of(plan: Plan, sheet: Sheet, page: Page, rows: Sequence[Row], tag: Tag) -> Entry:
    """The leaf of a release: how much left, and the root over its salted rows."""
    return Entry(
        entry_id=page.page,
        at=sheet.at,
        tag=tag,
        actor=f"destination:{plan.contract.name}",
        policy=page.policy,
        detail={
            "destination": plan.contract.name,
            "disclosed": len(rows),
            "removed": sum(one.after.removed_number is not None for one in sheet.turned),
            "unreadable": len(sheet.unreadable),
            "rows": root_of(row_leaves(page, rows)).hex(),
        },
    )


def row_leaves(page: Page, rows: Iterable[Row]) -> list[bytes]:
    """The leaf of each disclosure under the root that the page's entry holds."""
    shared = _SHARED.pack(page.destination, page.policy)
    pack, length = _LEAF.pack, _LENGTH.pack
    return [
        leaf_hash(
            pack(SALT_BYTES, row.salt, ID_BYTES, row.subject_id.bytes, _NUMBERS, row.number)
            + shared
            + length(len(row.detail))
            + row.detail
        )
        for row in rows
    ]


def _root(left: Left) -> UUID:
    return left.root


async def _check(driver: Raw, plan: Plan, sheet: Sheet) -> None:
    """Raises `Overtaken` unless everybody is still there, and the destination holds what it held."""
    people = {one.root for one in sheet.left}
    if people:
        ordered = sorted(people)
        if await driver.fetchval(_PRESENT, ordered) != len(ordered):
            raise Overtaken
        if await driver.fetchval(_ERASED, ordered):
            raise Overtaken
    removed = {t.after.subject_id: t.after.removed_number for t in sheet.turned if t.after.removed_number is not None}
    if removed and {row[0]: row[1] for row in await driver.fetch(_UNMOVED, sorted(removed))} != removed:
        raise Overtaken
    # A removal may have been told, and confirmed, since: who then got the same values again would hold them unknown to it.
    turned = {one.before.subject_id: one.before for one in sheet.turned if one.before is not None}
    known = {one.root: one.before for one in sheet.left if one.before is not None} | turned
    if not known:
        return
    lock: Lock = "write" if turned else "read"  # one statement in one order: pages at once never wait in a ring
    if await held_by(driver, plan.contract.number, sorted(known), lock=lock) != known:
        raise Overtaken


async def _accuse(connection: Connection, entry: Entry, unreadable: Sequence[UUID], key: bytes) -> None:
    """Entries that name, behind salts, the people whose rows did not agree or did not open (promise 3)."""
    for start in range(0, len(unreadable), NAMED):
        salts = [(subject, random_bytes(SALT_BYTES)) for subject in unreadable[start : start + NAMED]]
        failed = Entry(
            entry_id=uuid7(entry.at),
            at=entry.at,
            tag=Tag.INTEGRITY_CHECK_FAILED,
            actor=entry.actor,
            policy=entry.policy,
            detail={"subjects": [salted(salt, subject.bytes) for subject, salt in salts]},
        )
        await append(connection, failed, key)
        await keep_salts(connection, failed.entry_id, salts)
