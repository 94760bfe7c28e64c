"""An account's traits for one destination, by the accounts path of Segment's Profile API.

An account is what its members' calls said of it (ADR 0074). Reading one is reading its members, each under the choices of
that member, with the plan and transforms of the feed; of each trait the newest word is shown that may be. What is sent is
on record for the member whose word it was, before it is answered. Who is unknown, who has no members that may be seen and
who cannot be read look the same (threats G12).
"""

from collections.abc import Sequence
from functools import reduce
from typing import Final, NamedTuple

import msgspec

from vault.catalogue.numbers import ACCOUNTS
from vault.errors import Conflict, Unreadable
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
    members_of,
    note,
    plan_of,
)
from vault.flows.lookup import DEFAULT_LIMIT, MAX_LIMIT
from vault.flows.release.line import allowed_of, opened_at
from vault.flows.release.plan import Item, Plan, PurposePlan
from vault.flows.vault import Vault
from vault.profile.accounts import NULL, Entry, Told, both, read_accounts
from vault.storage.session import Raw

MAX_MEMBERS: Final = 500  # of an account, whose word the destination may see
_TOO_LARGE: Final = "The account has too many members to be decided at once; ask for its `links`, and for each person."


async def traits(
    vault: Vault, destination: str, kind: str, value: str, include: Sequence[str] = (), limit: int = DEFAULT_LIMIT
) -> Answer:
    """`{"traits": {...}, "cursor": {...}}` of the account that `kind:value` names, as `destination` may see it now.

    Raises `NotFound` if there is none or nothing may be seen, `Invalid` for a limit out of range, `Conflict` (code
    `account_too_large`) for one that may be seen and has more members than can be decided at once, `Unavailable` if it
    cannot be recorded.
    """
    plan = plan_of(vault, destination)
    check_limit(limit, MAX_LIMIT)
    tag = account_of(vault, kind, value)
    return await answered(vault, plan, lambda: _decide_traits(vault, plan, tag, include, limit))


class _Word(NamedTuple):
    """What one member's calls said of one trait, as one purpose may see it."""

    person: Person
    purpose: PurposePlan
    item: Item
    told: Told


async def _decide_traits(vault: Vault, plan: Plan, tag: bytes, include: Sequence[str], limit: int) -> Draft:
    async with vault.database.snapshot() as connection:
        draft = Draft(at=vault.clock.now())
        if plan.ended(draft.at) or not plan.accounts:
            return draft
        words, whole = await _words_of_all(vault, plan, draft, connection, tag)
    if words and not whole:
        raise Conflict(_TOO_LARGE, code="account_too_large")
    found: dict[str, msgspec.Raw] = {}
    sent: dict[str, list[_Word]] = {}
    for name, said in words.items():
        newest = max(said, key=lambda word: word.told.rank)
        value = bytes(newest.told.value)
        shaped = newest.item.apply(value) if value != NULL else None
        if shaped is not None and (not include or name in include):
            found[name] = msgspec.Raw(shaped)
            sent[name] = [word for word in said if word.person is newest.person and word.told == newest.told]
    page = sorted(found)[:limit]
    more = len(found) > limit
    if page:
        draft.answer = {
            "traits": {name: found[name] for name in page},
            "cursor": {"url": "", "has_more": more, "next": page[-1] if more else "", "limit": limit},
        }
    note(draft, plan, [(word.person, word.purpose, [word.item]) for name in page for word in sent[name]])
    return draft


async def _words_of_all(
    vault: Vault, plan: Plan, draft: Draft, connection: Raw, tag: bytes
) -> tuple[dict[str, list[_Word]], bool]:
    """What may be seen of what the members' calls said, by trait; False if that is not all of it.

    Members of whom nothing may be seen are not counted: an account of thousands of them looks like none.
    """
    words: dict[str, list[_Word]] = {}
    after, more, looked, seen = FIRST, True, 0, 0
    while more and looked < MAX_LOOKED_AT and seen <= MAX_MEMBERS:
        count = min(SLICE, MAX_LOOKED_AT - looked)
        people, more = await members_of(vault, plan, draft, connection, tag, after, count)
        looked += count
        after = people.last if people.last is not None else after
        for person in people:
            said = _words(vault, plan, draft, person, tag.hex())
            seen += bool(said)
            for word in said:
                words.setdefault(word.item.name, []).append(word)
    return words, not more and seen <= MAX_MEMBERS


def _words(vault: Vault, plan: Plan, draft: Draft, person: Person, tag: str) -> list[_Word]:
    """What this member's calls said of the account, where a server source has said that the person belongs to it."""
    allowed = allowed_of(vault.catalogue, person.known, draft.at) & plan.mask
    words: list[_Word] = []
    try:
        for purpose in plan.purposes:
            if not purpose.accounts or not allowed >> purpose.number & 1:
                continue
            parts = [read_accounts(raw) for raw in opened_at(purpose, vault.keyring, person.known, ACCOUNTS)]
            entries: list[Entry] = [part[tag] for part in parts if tag in part]
            if not any(entry.confirmed for entry in entries):
                continue
            told = reduce(both, entries).traits
            words += [_Word(person, purpose, item, told[n]) for n, item in purpose.accounts.items() if n in told]
    except Unreadable:
        draft.unreadable.append(person.root)
        return []
    return words
