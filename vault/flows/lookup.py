"""One profile for one destination, found by an identifier: the paths of Segment's Profile API.

Promises: the same plan, choices and transforms as the feed, on record before it is answered; who is unknown, who allows
nothing and who cannot be read look the same (threats G12).
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.clock import SECOND
from vault.disclosures.held import Held, after_upsert
from vault.disclosures.record import objects_of
from vault.disclosures.store import held_by
from vault.errors import Invalid, NotFound, Unavailable, Unreadable
from vault.flows.people.read import owners
from vault.flows.release.line import Shown, allowed_of, released, shown_to
from vault.flows.release.people import Known, read
from vault.flows.release.plan import Plan
from vault.flows.release.record import Left, record
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.storage.session import Raw

DEFAULT_LIMIT: Final = 10  # as Segment's Profile API
MAX_LIMIT: Final = 200
MISSING: Final = "Profile was not found."


async def traits(
    vault: Vault, destination: str, kind: str, value: str, include: Sequence[str] = (), limit: int = DEFAULT_LIMIT
) -> dict[str, Any]:
    """`{"traits": {...}, "cursor": {...}}` of the profile that `kind:value` finds, as `destination` may see it now.

    Raises `NotFound` if there is none or nothing may be seen, `Invalid` for a limit out of range, `Unavailable` if the
    disclosure cannot be recorded.
    """
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit is a number from 1 to {MAX_LIMIT}.")
    at = vault.clock.now()
    async with vault.database.snapshot() as connection:
        root = await _find(vault, connection, kind, value)
        people = await read(connection, [root], plan.mask, vault.keyring.key(names.STATE))
        held = await held_by(connection, plan.contract.number, [root])
    known = people.get(root)
    if not isinstance(known, Known) or plan.ended(at):
        raise NotFound(MISSING)
    shown = _shown(vault, plan, known, at)
    if not shown:
        raise NotFound(MISSING)
    detail = released(shown, known.members[0].state.ledger_count)
    before = held.get(root) or Held(root, plan.contract.number)
    # What is looked up is held beside what the feed gave: only the feed says what it takes back.
    number = max(before.gone_number or 0, 0)
    after = after_upsert(before, before.fields | objects_of(detail), number)
    await record(vault, plan, at, [Left(root, number, detail)], [after] if after != before else [], [])
    if vault.clock.now() - at > SECOND:
        raise Unavailable("The decision grew old before it could be sent; ask again.")
    return _answer(shown, include, limit)


async def _find(vault: Vault, connection: Raw, kind_name: str, value: str) -> UUID:
    kind = vault.catalogue.identifiers.get(kind_name)
    normal = normalise(kind, value) if kind is not None else None
    if kind is None or normal is None:
        raise NotFound(MISSING)
    tag = identity_tag(vault.keyring, kind.name, normal)
    subject = (await owners(connection, [tag])).get(tag)
    if subject is None:
        raise NotFound(MISSING)
    root = await connection.fetchval("SELECT root FROM subject WHERE subject_id = $1", subject)
    if root is None:
        raise NotFound(MISSING)
    return UUID(bytes=root.bytes)


def _shown(vault: Vault, plan: Plan, known: Known, at: Any) -> list[Shown]:
    try:
        return shown_to(plan, vault.keyring, known, allowed_of(vault.catalogue, known, at) & plan.mask)
    except Unreadable:
        raise NotFound(MISSING) from None


def _answer(shown: list[Shown], include: Sequence[str], limit: int) -> dict[str, Any]:
    found: dict[str, msgspec.Raw | bool] = {}
    for one in shown:
        found.update(one.traits)
        found.update(dict.fromkeys(one.audiences, True))
    names_ = sorted(name for name in found if not include or name in include)
    page = names_[:limit]
    more = len(names_) > limit
    return {
        "traits": {name: found[name] for name in page},
        "cursor": {"url": "", "has_more": more, "next": page[-1] if more else "", "limit": limit},
    }
