"""Writes drafts: the journal first, then the one statement. What narrows is on disk before the commit it belongs to.

What is journalled is derived by comparing each state with the one that was read, so no flow can forget to say it. A
journal entry whose commit never came is harmless: replaying it only lowers (design section 5).
"""

from collections.abc import Iterable
from typing import Final

from vault.audit.entry import Entry, Tag, salted
from vault.consent.ledger import Authority
from vault.flows.people.attempt import Tools
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.write import Rows, audit_row, write
from vault.flows.turns import SLICE
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.journal.narrowing import Narrowing, Objection, Refusal, RefusalKind, RemovedWraps, Restriction
from vault.keys import names

SALT_BYTES: Final = 16


async def commit(vault: Vault, tools: Tools, drafts: Iterable[SubjectDraft], actor: str) -> set[int]:
    """Write every draft and all rows of the attempt; answers the groups that lost and wrote nothing.

    All drafts are of these tools. Durable when it returns. Raises `Raced` (nothing was written: read again) or `Unavailable`.
    However it ends, the attempt holds no rows any more: drafts lead to them, and one of somebody would hold those of everybody.
    """
    try:
        return await _commit(vault, tools.rows, drafts, actor)
    finally:
        tools.rows.clear()


async def _commit(vault: Vault, rows: Rows, drafts: Iterable[SubjectDraft], actor: str) -> set[int]:
    narrowings: list[Narrowing] = []
    changed: list[SubjectDraft] = []
    for at, draft in enumerate(drafts, start=1):
        written = draft.finish()
        if at % SLICE == 0:
            await vault.turns.pause()
        if not written:
            continue
        narrowings.extend(_narrowed(draft))
        if draft.new_choices:
            _audit_choices(vault, draft, rows, actor)
        if draft.changed:
            changed.append(draft)
    rows.changes.extend(
        {(one.group, root): (one, root) for one in changed for root in (one.state.root, one.before.root)}.values()
    )
    if all(not some for some in rows[1:]):  # nothing to write, whatever it rested on
        return set()
    if narrowings:
        await vault.journal.append(narrowings)
    async with vault.database.hot() as connection:
        return await write(connection, rows)


def _narrowed(draft: SubjectDraft) -> list[Narrowing]:
    """What this draft takes away from its subject."""
    before, after = draft.before, draft.state
    at, subject, version = draft.tools.now, draft.subject, after.version
    refused = after.refused & ~before.refused
    blocked = after.blocked & ~before.blocked
    objected = after.objected & ~before.objected
    ended = before.granted & ~after.granted & ~after.refused
    found: list[Narrowing] = []
    if refused:
        found.append(Refusal(at, subject, refused, RefusalKind.DECIDED, version, draft.rank_of(refused)))
    if blocked:
        found.append(Refusal(at, subject, blocked, RefusalKind.BLOCKED, version, Authority.CLIENT))
    if ended:
        found.append(Refusal(at, subject, ended, RefusalKind.EXPIRED, version, Authority.NOBODY))
    if objected:
        found.append(Objection(at, subject, objected, version, draft.rank_of(objected)))
    if after.restricted and not before.restricted:
        found.append(Restriction(at, subject, version))
    if draft.removed_wraps:
        found.append(RemovedWraps(at, subject, tuple(draft.removed_wraps), version))
    return found


def _audit_choices(vault: Vault, draft: SubjectDraft, rows: Rows, actor: str) -> None:
    """One leaf for what a subject's ledger gained: its new head, salted, so that the leaf tells nobody's choices."""
    salt = random_bytes(SALT_BYTES)
    entry = Entry(
        entry_id=uuid7(draft.tools.now),
        at=draft.tools.now,
        tag=Tag.CONSENT_CHOICE_RECORDED,
        actor=actor,
        policy=vault.policy.number,
        subject=salted(salt, draft.subject.bytes),
        detail={"entries": len(draft.new_choices), "head": salted(salt, draft.state.ledger_head)},
    )
    rows.audit.append(audit_row(draft, entry, vault.keyring.key(names.JOURNAL)))
    rows.salts.append((draft, entry.entry_id, salt))
