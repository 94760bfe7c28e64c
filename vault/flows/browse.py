"""Read-only pages for staff, for auditors and for whoever verifies: what is known without opening a single value.

Each look at a person is audited. A reference that finds nobody, an erased person and one that the caller may not know of
look the same (threats G12).
"""

import asyncio
from typing import Any, Final
from uuid import UUID

from vault.audit import log, store
from vault.audit.checkpoint import USE
from vault.audit.entry import Tag
from vault.audit.verify import verify
from vault.clock import DAY, Micros, isoformat
from vault.consent.decision import meet, words_of
from vault.disclosures.store import held_everywhere, history
from vault.errors import Invalid, NotFound
from vault.flows.accuse import accusing
from vault.flows.find import resolve_ref
from vault.flows.honour import recipients, words
from vault.flows.honour.opened import profile_of
from vault.flows.people.read import ledgers
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.policy.actors import Actor
from vault.sources import store as sources
from vault.sources.dropped import Drop, parts_of
from vault.sources.remedies import remedy

Json = dict[str, Any]

# Of several members the word that decides for the profile: refused over granted over neutral (design section 6, Merge).
_WORDS: Final = (
    "erasing", "restricted", "minor", "objected", "refused", "blocked", "granted", "permitted", "expired", "undecided",
)  # fmt: skip


# --- one person -----------------------------------------------------------------------------------------------------


async def consents(vault: Vault, actor: Actor, ref: str) -> Json:
    """{state: {purpose: word}, permitted: [purpose], choices: [...]} of the profile. Raises `NotFound`, `Gone`, `Unreadable`."""
    subject = await resolve_ref(vault, actor, ref)
    async with accusing(vault, actor.label, subject), vault.database.snapshot() as connection:
        members = await profile_of(vault, connection, subject)
        choices = await ledgers(connection, {member.state.subject: member for member in members})
    now = vault.clock.now()
    states = [member.state for member in members]
    async with vault.database.begin() as transaction:
        known = await recipients.source_names(transaction)
        await leave(vault, transaction, Tag.SUBJECT_CONSENTS_READ, actor.label, {}, states[0].subject)
    each = [words_of(vault.catalogue, state, now) for state in states]
    return {
        "state": {name: min((one[name] for one in each), key=_WORDS.index) for name in each[0]},
        "permitted": list(vault.catalogue.names(meet(vault.catalogue, states, now))),
        "restricted": any(state.restricted for state in states),
        "choices": recipients.consents(vault.catalogue, choices, known),
    }


async def disclosures(vault: Vault, actor: Actor, ref: str) -> Json:
    """{recipients: [...]}: who got what, when, for what and in which form. Raises `NotFound`, `Gone`, `Unreadable`."""
    subject = await resolve_ref(vault, actor, ref)
    async with accusing(vault, actor.label, subject), vault.database.snapshot() as connection:
        members = await profile_of(vault, connection, subject)
    subjects = [member.state.subject for member in members]
    async with vault.database.begin() as transaction:
        records = await history(transaction, subjects)
        held = await held_everywhere(transaction, subjects)
        await leave(vault, transaction, Tag.SUBJECT_DISCLOSURES_READ, actor.label, {}, subjects[0])
    return {"recipients": recipients.recipients(vault.catalogue, records, held)}


# --- no person ------------------------------------------------------------------------------------------------------


async def dropped(vault: Vault, actor: Actor | None, name: str) -> Json:
    """What a source sent and was not stored, most frequent first. `actor` None: the operator. Raises `NotFound`."""
    del actor  # counts of names are nobody's: no entry
    async with vault.database.begin() as connection:
        source = await sources.find(connection, name)
        if source is None:
            raise NotFound("No such source; `profile-vault sources list` names them, `sources add` makes one.")
        counts = await sources.read_dropped(connection, source.source_id)
    rows = [
        {
            **_typed(one.type),
            "name": one.name,
            "reason": one.reason,
            "count": one.count,
            "first_day": _date(one.first_day),
            "last_day": _date(one.last_day),
            "remedy": remedy(Drop(one.type, one.name, one.reason)),
        }
        for one in counts
    ]
    return {"source": name, "dropped": rows}


def purposes(vault: Vault) -> Json:
    """Why data is used here: what an app shows when it asks for a choice."""
    return {
        "policy": vault.policy.number,
        "purposes": [
            {
                "name": one.name,
                "title": one.title,
                "legal_basis": one.legal_basis,
                "dpv": one.dpv,
                "categories": list(one.categories),
                "notice": one.notice,
                "retention": words.retention_of(one),
                "choice_lasts": None if one.expires is None else words.period(one.expires),
                "may_be_objected_to": one.objection is not None,
            }
            for one in vault.catalogue.purposes.values()
        ],
    }


def public_keys(vault: Vault) -> Json:
    """The public keys that verify what the vault signed."""
    return {"keys": vault.keyring.public_keys()}


# --- the audit log --------------------------------------------------------------------------------------------------


async def audit_checkpoint(vault: Vault) -> str:
    """The newest signed head, as a C2SP note. Raises `NotFound` before the first entry is taken up."""
    async with vault.database.hot() as connection:
        head = await store.latest_checkpoint(connection)
    if head is None:
        raise NotFound
    return head[1]


async def audit_proof(vault: Vault, entry_id: UUID) -> Json:
    """The leaf of an entry and the hashes up to the root of the newest head (RFC 9162). Raises `NotFound`."""
    async with vault.database.snapshot() as connection:
        found = await log.proof(connection, entry_id)
    return {
        "index": found.index,
        "leaf": found.leaf.decode(),
        "proof": [one.hex() for one in found.proof],
        "checkpoint": found.checkpoint,
    }


async def audit_consistency(vault: Vault, first: int, second: int) -> Json:
    """The hashes that show the log of `second` leaves to begin with that of `first`.

    Raises `Invalid` for sizes that no log can have, `NotFound` for those that this one did not reach yet.
    """
    if not 0 <= first <= second:
        raise Invalid("`first` and `second` are numbers of entries, 0 or more, and `first` is not the larger.")
    async with vault.database.snapshot() as connection:
        proof = await log.consistency(connection, first, second)
    return {"first": first, "second": second, "proof": [one.hex() for one in proof]}


async def audit_verify(vault: Vault) -> Json:
    """Recomputes the whole log and compares it with its signed heads and with the head beside the journal."""
    publics = [bytes.fromhex(key["public"]) for key in vault.keyring.public_keys((USE,))]
    head = await asyncio.to_thread(vault.journal.read_head)
    async with vault.database.snapshot() as connection:
        report = await verify(connection, publics, head)
    return {
        "ok": report.good,
        "size": report.size,
        "root": report.root.hex(),
        "checkpoints": report.checkpoints,
        "first_bad": report.first_bad,
        "problem": report.problem,
    }


def _typed(kind: str) -> Json:
    """{type} of what was dropped; of a property also {event}, as the policies list it."""
    front, event = parts_of(kind)
    return {"type": front} if event is None else {"type": front, "event": event}


def _date(day: int) -> str:
    return isoformat(Micros(day * DAY))[:10]
