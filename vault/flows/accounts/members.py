"""The members of an account, read for one destination, and what was sent of each put on record.

Shared by the doors for accounts (`traits`, `links`): who is found, what an answer rests on, where a page goes on.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.audit.entry import Tag
from vault.canonical import framed
from vault.crypto.aead import seal, unseal
from vault.disclosures.held import Held, after_upsert
from vault.disclosures.record import Released, objects_of, pack_detail
from vault.disclosures.store import held_by
from vault.errors import Conflict, Invalid, NotFound, Unavailable, Unreadable
from vault.flows.lookup import ATTEMPTS, MISSING
from vault.flows.release.page import fresh
from vault.flows.release.people import Known, read
from vault.flows.release.plan import Item, Plan, PurposePlan
from vault.flows.release.record import Left, Sheet, Turned, record
from vault.flows.tags import account_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.storage.session import Raw

FIRST: Final = UUID(int=0)  # before every member
MAX_LOOKED_AT: Final = 1000  # members for one answer: all of them must be decided within a second
SLICE: Final = 100  # members looked at together
_CURSOR: Final = b"links/1"
_MAX_CURSOR: Final = 200  # characters; ours have some 60

Answer = dict[str, Any]

_MEMBERS: Final = """
SELECT m.subject_id, s.root, c.number FROM membership m JOIN subject s USING (subject_id)
LEFT JOIN change c ON c.subject_id = s.root
WHERE m.tag = $1 AND m.subject_id > $2 AND NOT EXISTS (
    SELECT FROM membership n JOIN subject t USING (subject_id)
    WHERE n.tag = m.tag AND n.subject_id < m.subject_id AND t.root = s.root)
ORDER BY m.subject_id LIMIT $3
"""


class Draft(Sheet):
    """An answer in the making."""

    answer: Answer | None = None  # None: nothing may be seen


class Person(NamedTuple):
    """A member of an account, as read."""

    place: UUID  # the member subject by which pages go on
    root: UUID
    known: Known
    number: int  # of the latest change of the profile
    held: Held | None


async def answered(vault: Vault, plan: Plan, decide: Callable[[], Awaitable[Draft]]) -> Answer:
    """Decides as often as it takes until the answer is on record and fresh."""
    for _ in range(ATTEMPTS):
        draft = await decide()
        if not fresh(vault, draft.at):
            continue
        try:
            await record(vault, plan, draft, Tag.DISCLOSURE_LOOKUP_RELEASED, Tag.DISCLOSURE_LOOKUP_WITHHELD)
        except Conflict as error:
            if error.reason != "retry":
                raise
            continue
        if draft.answer is None:
            raise NotFound(MISSING)
        if fresh(vault, draft.at):
            return draft.answer
    raise Unavailable("The decision grew old before it could be sent; ask again.")


class People(list[Person]):
    """Members that can be read; `last` is the place of the last one looked at."""

    last: UUID | None = None


async def members_of(
    vault: Vault, plan: Plan, draft: Draft, connection: Raw, tag: bytes, after: UUID, count: int
) -> tuple[People, bool]:
    """The next members of an account, and whether there are more. Who cannot be read is noted, and left out."""
    rows = await connection.fetch(_MEMBERS, tag, after, count + 1)
    found, rest = rows[:count], len(rows) > count
    roots = [UUID(bytes=row[1].bytes) for row in found]
    known = (await read(connection, roots, plan.mask, state_key(vault))).of(roots)
    held = await held_by(connection, plan.contract.number, roots)
    people = People()
    for row, root, one in zip(found, roots, known, strict=True):
        place, before = UUID(bytes=row[0].bytes), held.get(root)
        people.last = place
        if not isinstance(one, Known) or (before is not None and before.damaged):
            draft.unreadable.append(root)
        elif not any(member.state.fenced for member in one.members):
            people.append(Person(place, root, one, row[2] or 0, before))
    return people, rest


def note(draft: Draft, plan: Plan, sent: Sequence[tuple[Person, PurposePlan, list[Item]]]) -> None:
    """What is looked up is held beside what the feed gave: one record a person, a part a purpose."""
    by_person: dict[UUID, dict[int, dict[int, int]]] = {}
    people = {person.root: person for person, _, _ in sent}
    bases = {purpose.number: purpose.basis for _, purpose, _ in sent}
    for person, purpose, items in sent:
        part = by_person.setdefault(person.root, {}).setdefault(purpose.number, {})
        part.update((item.number, item.transform) for item in items)
    for root, parts in by_person.items():
        person = people[root]
        ledger = person.known.members[0].state.ledger_count
        detail = tuple(Released(n, bases[n], ledger, tuple(sorted(parts[n].items()))) for n in sorted(parts))
        draft.left.append(Left(root, person.number, pack_detail(detail), person.held))
        was = person.held or Held(root, plan.contract.number)
        after = after_upsert(was, was.fields | objects_of(detail), person.number)
        if after != person.held:
            draft.turned.append(Turned(person.held, after))


def plan_of(vault: Vault, destination: str) -> Plan:
    """What the destination may ever get. Raises `NotFound` for an unknown one."""
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    return plan


def check_limit(limit: int, highest: int) -> None:
    """Raises `Invalid` for a limit out of range."""
    if not 1 <= limit <= highest:
        raise Invalid(f"limit is a number from 1 to {highest}.")


def account_of(vault: Vault, kind_name: str, value: str) -> bytes:
    """The tag that finds the members of an account. Raises `NotFound` for what names none."""
    kind = vault.catalogue.account_kind
    normal = normalise(kind, value) if kind is not None and kind.name == kind_name else None
    if kind is None or normal is None:
        raise NotFound(MISSING)
    return account_tag(vault.keyring.key(names.index(kind.name)), kind.name, normal)


def state_key(vault: Vault) -> bytes:
    """The key that vouches for state rows."""
    return vault.keyring.key(names.STATE)


def external(collection: str, kind: str, value: str) -> Answer:
    """One external id, in the shape of Segment's Profile API."""
    return {"id": value, "type": kind, "collection": collection, "encoding": "none"}


def cursor_of(vault: Vault, plan: Plan, tag: bytes, last: bytes, limit: int) -> Answer:
    """Where the next page begins, sealed for this destination and this question (threats G15)."""
    following = ""
    if last:
        sealed = seal(vault.keyring.key(names.CURSOR), last, _context(plan, tag))
        following = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    return {"url": "", "has_more": bool(last), "next": following, "limit": limit}


def read_cursor(vault: Vault, plan: Plan, tag: bytes, text: str) -> bytes:
    """Raises `Invalid` (code `cursor_invalid`) for anything that was not given for this question."""
    fit = len(text) <= _MAX_CURSOR and text.isascii()
    try:
        sealed = base64.b64decode((text if fit else "") + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return unseal(vault.keyring.key(names.CURSOR), sealed, _context(plan, tag))
    except (binascii.Error, Unreadable):
        raise Invalid("use `next` of the last page as it came", code="cursor_invalid") from None


def _context(plan: Plan, tag: bytes) -> bytes:
    return framed(_CURSOR, plan.contract.number.to_bytes(4, "big"), tag)
