"""People for the tests of rights: sealed and written by the vault's own drafts, and recipients who got something of them."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from vault.catalogue.numbers import identifier_object
from vault.clock import Micros
from vault.consent.ledger import Authority, Choice, Decision, How
from vault.disclosures.held import Held
from vault.disclosures.record import Released, pack_detail
from vault.disclosures.store import Page, Row, write_page
from vault.flows.people.attempt import Tools
from vault.flows.people.change import tools_of
from vault.flows.people.commit import commit
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.read import profiles
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.ids import new_subject, random_bytes, uuid7
from vault.policy.actors import Actor
from vault.profile.sightings import Sighting, write_sightings
from vault.profile.values import Provenance
from vault.storage.session import raw

SERVER = 1


def officer(vault: Vault) -> Actor:
    """An officer with an id of their own."""
    return Actor("staff", str(uuid7(vault.clock.now())), "officer")


async def person(
    vault: Vault,
    identifiers: Mapping[str, str],
    traits: Mapping[str, Any] | None = None,
    orders: int = 0,
    *,
    consents: tuple[str, ...] = (),
    root: UUID | None = None,
    said_at: Micros | None = None,
) -> UUID:
    """A subject with these values, each collected for every purpose of its own that consent or basis allows."""
    catalogue = vault.catalogue
    now = said_at or vault.clock.now()
    granted = catalogue.mask(consents)
    allowed = granted | (catalogue.all_purposes & ~catalogue.consent_mask)
    tools = tools_of(vault)
    draft = SubjectDraft(tools, new_subject(vault.clock.now()), None)
    origin = Provenance(SERVER, random_bytes(16), 1, now)
    for name in consents:
        purpose = catalogue.purposes[name].number
        draft.add_choice(
            Choice(
                purpose=purpose,
                decision=Decision.GRANTED,
                how=How.API,
                authority=Authority.PERSON,
                said_at=now,
                received_at=now,
                source=SERVER,
                notice="marketing/1",
                language="en",
            )
        )
    draft.alter(granted=granted)
    for name, value in identifiers.items():
        kind = catalogue.identifiers[name]
        normal = normalise(kind, value)
        assert normal is not None
        tag = identity_tag(vault.keyring, name, normal)
        tools.rows.identity.append((draft, tag, tools.pointers.make(tag, draft.subject.bytes)))
        tools.rows.identifiers.append((draft, tag, kind.number, SERVER, now, True))
        sighting = write_sightings([Sighting(value, now, now, SERVER)])
        draft.put(kind.purposes & allowed, identifier_object(kind.number), origin, sighting)
    for name, value in (traits or {}).items():
        trait = catalogue.traits[name]
        draft.put(trait.purposes & allowed, trait.number, origin, json.dumps(value).encode())
    for number in range(orders):
        _order(vault, draft, number, allowed, now)
    drafts = [draft]
    if root is not None:  # a confirmed member of that profile
        draft.alter(root=root)
        draft.changed = True
        drafts.append(await _root_of(vault, tools, root))
        drafts[-1].alter(members=drafts[-1].state.members + 1)
    assert not await commit(vault, tools, drafts, "source:1")
    return draft.subject


async def _root_of(vault: Vault, tools: Tools, root: UUID) -> SubjectDraft:
    async with vault.database.hot() as connection:
        stored, _ = await profiles(connection, [root], tools.state_key)
    return SubjectDraft(tools, root, stored[root])


def _order(vault: Vault, draft: SubjectDraft, number: int, allowed: int, now: Micros) -> None:
    event = vault.catalogue.events["track", "Order Completed"]
    key = random_bytes(16)
    values = {"order_id": f"order-planted-{number}", "revenue": 19.90, "currency": "USD", "quantity": 3}
    parts: dict[int, dict[str, Any]] = {}
    for name, value in values.items():
        parts.setdefault(event.properties[name].purposes & allowed, {})[name] = value
    for mask, properties in parts.items():
        body = {"messageId": f"message-{number}", "type": "track", "name": event.name, "properties": properties}
        draft.add_event(mask, key, now, event.number, json.dumps(body).encode())


async def gave(vault: Vault, destination: str, root: UUID, *names: str) -> None:
    """The destination holds these fields of the profile, and it is on record."""
    contract = vault.catalogue.contracts[destination]
    numbers = tuple(sorted((vault.catalogue.rule_objects[name], 1 << 8) for name in names))
    purpose = contract.purposes.bit_length() - 1
    detail = pack_detail([Released(purpose, 1, 1, numbers)])
    held = Held(root, contract.number, frozenset(number for number, _ in numbers))
    async with vault.database.begin() as connection:
        page = Page(contract.number, uuid7(vault.clock.now()), vault.clock.now(), vault.policy.number)
        await write_page(await raw(connection), page, [Row(root, 1, random_bytes(16), detail)], [held])


async def rows_of(vault: Vault, query: str, *args: Any) -> list[Any]:
    """Rows, as an outsider with the database would see them."""
    async with vault.database.hot() as connection:
        return await connection.fetch(query, *args)
