"""Who belongs to an account, and to which accounts a person belongs, for one destination: the `links` of Segment's Profile API.

A link is told only where the policies give the destination the account's id (`identifier:group_id`), the person's choices
allow that purpose, and a sealed value of the person says so: a row in the database proves nothing. What is told is on record
before it is answered. Pages have no gaps that could be counted, and an account nobody of which may be told looks like none.
"""

from typing import Final
from uuid import UUID

import msgspec

from vault.catalogue.numbers import identifier_object
from vault.disclosures.store import held_by
from vault.errors import NotFound, Unreadable
from vault.flows.accounts.members import (
    FIRST,
    MAX_LOOKED_AT,
    SLICE,
    Answer,
    Draft,
    Person,
    account_of,
    answered,
    check_limit,
    cursor_of,
    external,
    members_of,
    note,
    plan_of,
    read_cursor,
    state_key,
)
from vault.flows.lookup import MISSING
from vault.flows.release.line import allowed_of, opened_at, shown_to
from vault.flows.release.people import Known, find
from vault.flows.release.plan import Item, Plan, PurposePlan
from vault.flows.tags import account_tag, identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.profile.sightings import choose, read_sightings

MAX_LINKS: Final = 20  # of one page, as Segment's Profile API


async def members(
    vault: Vault, destination: str, kind: str, value: str, limit: int = MAX_LINKS, cursor: str = ""
) -> Answer:
    """`{"data": [{"to_collection": "users", "external_ids": [...]}], "cursor": {...}}`: the people of an account.

    Those whose membership `destination` may know, with what identifiers it may see. Raises as `traits`.
    """
    plan = plan_of(vault, destination)
    check_limit(limit, MAX_LINKS)
    tag = account_of(vault, kind, value)
    after = UUID(bytes=read_cursor(vault, plan, tag, cursor)) if cursor else FIRST
    return await answered(vault, plan, lambda: _decide_members(vault, plan, tag, limit, after))


async def accounts_of_person(
    vault: Vault, destination: str, kind: str, value: str, limit: int = MAX_LINKS, cursor: str = ""
) -> Answer:
    """`{"data": [{"to_collection": "accounts", "external_ids": [...]}], "cursor": {...}}`: the accounts of a person."""
    plan = plan_of(vault, destination)
    check_limit(limit, MAX_LINKS)
    found = vault.catalogue.identifiers.get(kind)
    normal = normalise(found, value) if found is not None and not found.account else None
    if found is None or normal is None:
        raise NotFound(MISSING)
    tag = identity_tag(vault.keyring, found.name, normal)
    after = read_cursor(vault, plan, tag, cursor).hex() if cursor else ""
    return await answered(vault, plan, lambda: _decide_person(vault, plan, tag, limit, after))


async def _decide_members(vault: Vault, plan: Plan, tag: bytes, limit: int, after: UUID) -> Draft:
    """Looks at members until a page is full: who is not shown leaves no gap that could be counted."""
    data: list[Answer] = []
    noted: list[tuple[Person, PurposePlan, list[Item]]] = []
    async with vault.database.snapshot() as connection:
        draft = Draft(at=vault.clock.now())
        telling = any(_link_item(vault, purpose) is not None for purpose in plan.purposes)
        more, looked = telling and not plan.ended(draft.at), 0
        begins = after == FIRST
        while more and len(data) < limit and looked < MAX_LOOKED_AT:
            people, more = await members_of(
                vault, plan, draft, connection, tag, after, min(SLICE, MAX_LOOKED_AT - looked)
            )
            for index, person in enumerate(people):
                after, looked = person.place, looked + 1
                ids = _ids_of_member(vault, plan, draft, person, tag, noted)
                if ids:
                    data.append({"to_collection": "users", "external_ids": ids})
                if len(data) == limit:
                    more = more or index + 1 < len(people)
                    break
            else:
                after = people.last if people.last is not None else after
    if data or (more and not begins):  # who was shown nobody yet is not told that there is anybody
        draft.answer = {"data": data, "cursor": cursor_of(vault, plan, tag, after.bytes if more else b"", limit)}
    note(draft, plan, noted)
    return draft


def _ids_of_member(
    vault: Vault,
    plan: Plan,
    draft: Draft,
    person: Person,
    tag: bytes,
    noted: list[tuple[Person, PurposePlan, list[Item]]],
) -> list[Answer]:
    """The names by which the destination may know a member; none if it may not know of the membership."""
    allowed = allowed_of(vault.catalogue, person.known, draft.at) & plan.mask
    try:
        telling = [one for one in plan.purposes if allowed >> one.number & 1 and _tells(vault, one, person, tag)]
        shown = shown_to(plan, vault.keyring, person.known, sum(1 << one.number for one in telling)) if telling else []
    except Unreadable:
        draft.unreadable.append(person.root)
        return []
    if not telling:
        return []
    ids = {("profile", plan.id_of(person.root)): None}
    for purpose in telling:
        items = [_link_item(vault, purpose)]
        for one in shown:
            if one.purpose is purpose:
                for item, values in one.identifiers:
                    if item not in items:
                        items.append(item)
                        ids.update(((item.name, str(msgspec.json.decode(raw))), None) for raw in values)
        noted.append((person, purpose, [item for item in items if item is not None]))
    return [external("users", name, value) for name, value in ids]


def _tells(vault: Vault, purpose: PurposePlan, person: Person, tag: bytes) -> bool:
    """May this purpose tell that the person belongs to the account, and does a sealed value say so?"""
    return any(one == tag for one, _ in _accounts_told(vault, purpose, person.known))


def _link_item(vault: Vault, purpose: PurposePlan) -> Item | None:
    kind = vault.catalogue.account_kind
    return None if kind is None else purpose.identifiers.get(identifier_object(kind.number))


def _accounts_told(vault: Vault, purpose: PurposePlan, known: Known) -> list[tuple[bytes, str]]:
    """(tag, id) of the accounts that this purpose may tell of a person, as many as the contract asks for."""
    kind, item = vault.catalogue.account_kind, _link_item(vault, purpose)
    if kind is None or item is None:
        return []
    key = vault.keyring.key(names.index(kind.name))
    raws = opened_at(purpose, vault.keyring, known, item.number)
    chosen = choose([one for raw in raws for one in read_sightings(raw)], item.which)
    forms = [(one, normalise(kind, one)) for one in chosen]
    return [(account_tag(key, kind.name, normal), one) for one, normal in forms if normal is not None]


async def _decide_person(vault: Vault, plan: Plan, tag: bytes, limit: int, after: str) -> Draft:
    async with vault.database.hot() as connection:
        draft = Draft(at=vault.clock.now())
        found = (
            None
            if plan.ended(draft.at)
            else await find(connection, tag, plan.mask, plan.contract.number, state_key(vault), vault.pointers)
        )
        if found is None:
            return draft
        known = found.known
        held = await held_by(connection, plan.contract.number, [known.root]) if known is not None else {}
    before = held.get(known.root) if known is not None else None
    if known is None or (before is not None and before.damaged):
        draft.unreadable.append(found.subject)
        return draft
    person = Person(known.root, known.root, known, found.number, before)
    allowed = allowed_of(vault.catalogue, known, draft.at) & plan.mask
    told: dict[str, tuple[str, list[tuple[PurposePlan, Item]]]] = {}  # tag -> its id in the destination's form
    try:
        for purpose in plan.purposes:
            item = _link_item(vault, purpose)
            if item is None or not allowed >> purpose.number & 1:
                continue
            for account, value in _accounts_told(vault, purpose, known):
                shaped = item.apply(msgspec.json.encode(value))
                if shaped is not None:
                    text = str(msgspec.json.decode(shaped))
                    told.setdefault(account.hex(), (text, []))[1].append((purpose, item))
    except Unreadable:
        draft.unreadable.append(found.subject)
        return draft
    page = sorted(one for one in told if one > after)
    more, page = len(page) > limit, page[:limit]
    kind = vault.catalogue.account_kind
    if page and kind is not None:
        data = [
            {
                "to_collection": "accounts",
                "external_ids": [
                    external("accounts", "account", plan.account_id(one)),
                    external("accounts", kind.name, told[one][0]),
                ],
            }
            for one in page
        ]
        last = bytes.fromhex(page[-1]) if more else b""
        draft.answer = {"data": data, "cursor": cursor_of(vault, plan, tag, last, limit)}
    note(draft, plan, [(person, purpose, [item]) for one in page for purpose, item in told[one][1]])
    return draft
