"""What a group call leaves: account traits under the keys of the person who said them, and the membership (ADR 0074).

A company of one and a household are people, so an account has no keys and no consent of its own: its traits are the
word of its members, each sealed for what that member's catalogue, stamp and choices leave. A server source's call makes
the person a member whom the account's id finds; a client source's is a claim, which nothing finds.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from vault.catalogue.fields import Event, Property
from vault.catalogue.numbers import ACCOUNTS, identifier_object
from vault.errors import TooLarge
from vault.events.message import SENSITIVE
from vault.flows.ingest.item import Item, Named
from vault.flows.ingest.values import CLIENT, SERVER
from vault.flows.people.compartment import CompartmentDraft
from vault.flows.people.draft import SubjectDraft
from vault.profile.accounts import NULL, Entries, Entry, Told, both, read_accounts, write_accounts
from vault.profile.sightings import Sighting, join, read_sightings, write_sightings
from vault.profile.typed import fits
from vault.profile.values import Provenance
from vault.sources.dropped import Drop, property_of
from vault.sources.store import Source

_CONTACT: Final = "user.contact"

Held = tuple[SubjectDraft, CompartmentDraft, Entries]


def store_account(
    source: Source,
    members: Sequence[SubjectDraft],
    author: SubjectDraft,
    item: Item,
    event: Event,
    mask: int,
    allowed: int,
) -> list[Drop]:
    """Seal the traits of a group call for the purposes in `mask`; answers what is of another type, to be counted.

    Raises `TooLarge` for an account beyond the limit of its kind, or over the size of a sealed value.
    """
    account, message = item.account, item.message
    if account is None:
        raise ValueError("a group call without an account")
    tag = account.tag.hex()
    held = _held(members)
    known = {one for *_, entries in held for one in entries}
    if tag not in known and len(known) >= account.kind.limit:
        raise TooLarge(code="too_many_accounts")
    authority = SERVER if source.server else CLIENT
    told: dict[str, tuple[Property, Told]] = {}
    misfits: list[Drop] = []
    shown = event.sensitivity == "normal"
    counted = property_of(event.type, event.name if shown else SENSITIVE)
    for name, raw in message.traits.items():
        declared = event.properties.get(name)
        if declared is not None and fits(declared.type, raw):
            value = Told(authority, message.said_at, item.key.hex(), source.source_id, msgspec.Raw(raw.strip()))
            told[name] = declared, value
        elif declared is not None:
            misfits.append(Drop(counted, name if shown else SENSITIVE, "wrong_type"))
    for declared, value in told.values():
        _outdate(held, tag, declared, value)
    parts: dict[int, dict[int, Told]] = {mask: {}} if mask else {}
    for declared, value in told.values():
        if left := declared.purposes & mask:
            parts.setdefault(left, {})[declared.number] = value
    for purposes, traits in parts.items():
        entry = Entry(source.server, message.said_at, message.said_at, source.source_id, traits)
        _add(author, purposes, tag, entry, Provenance(source.source_id, item.key, SERVER, author.tools.now))
    if source.server:
        _belongs(source, author, item, account, account.kind.purposes & allowed)
    return misfits


def _held(members: Sequence[SubjectDraft]) -> list[Held]:
    """What every compartment of the profile says of accounts, where a purpose still opens it."""
    found: list[Held] = []
    for member in members:
        for place, _ in member.copies(ACCOUNTS):
            value = member.read(place, ACCOUNTS)
            if value is not None:
                found.append((member, place, read_accounts(value)))
    return found


def _outdate(held: list[Held], tag: str, declared: Property, new: Told) -> None:
    """Take out the person's older copies of what was deleted, or is contact data and says something else now."""
    if bytes(new.value) != NULL and not declared.category.startswith(_CONTACT):
        return
    for member, place, entries in held:
        entry = entries.get(tag)
        old = entry.traits.get(declared.number) if entry is not None else None
        if entry is None or old is None or old.rank > new.rank or bytes(old.value) == bytes(new.value):
            continue
        rest = {number: told for number, told in entry.traits.items() if number != declared.number}
        entries[tag] = msgspec.structs.replace(entry, traits=rest)
        member.put_again(place, ACCOUNTS, write_accounts(entries))


def _add(author: SubjectDraft, purposes: int, tag: str, entry: Entry, provenance: Provenance) -> None:
    before = author.get(purposes, ACCOUNTS)
    entries = read_accounts(before) if before is not None else {}
    known = entries.get(tag)
    entries[tag] = entry if known is None else both(known, entry)
    after = write_accounts(entries)
    if after != before:
        author.put_joint(purposes, ACCOUNTS, provenance, after)


def _belongs(source: Source, author: SubjectDraft, item: Item, account: Named, mask: int) -> None:
    """Seal the account's id beside the person's others, and let it find the person."""
    if not mask:
        return
    field = identifier_object(account.kind.number)
    said_at = item.message.said_at
    before = author.get(mask, field)
    known = read_sightings(before) if before is not None else []
    mine = Sighting(account.value, said_at, said_at, source.source_id)
    after = write_sightings(join([*known, mine]))
    if after != before:
        provenance = Provenance(source.source_id, item.key, SERVER, author.tools.now)
        author.put_joint(mask, field, provenance, after)
    if not any(one.value == account.value for one in known):
        author.rows.accounts.append((author, account.tag, item.key, source.source_id, author.tools.now))
