"""What the vault holds in the end, opened and written as a twin's `Profile`: they must be equal, or a figure means nothing."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from bench.twin import Profile
from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, identifier_object
from vault.events.times import read_time
from vault.flows.people.change import assemble, tools_of
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.read import profiles
from vault.flows.vault import Vault
from vault.profile.view import computed_of, identifiers_of, view

_PART: Final = 500  # people opened at a time


async def held_by_vault(vault: Vault) -> dict[str, Profile]:
    """Everyone by user id: traits, computed traits, the audience, and how many events."""
    tools = tools_of(vault)
    found: dict[str, Profile] = {}
    async with vault.database.hot() as connection:
        everyone = [row[0] for row in await connection.fetch("SELECT subject_id FROM subject ORDER BY 1")]
        rows = await connection.fetch("SELECT subject_id, count(DISTINCT event_key) FROM event GROUP BY 1")
        events = {row[0]: row[1] for row in rows}
        for start in range(0, len(everyone), _PART):
            stored, broken = await profiles(connection, everyone[start : start + _PART], tools.state_key)
            drafts, unfit = assemble(tools, stored)
            if broken or unfit:
                raise AssertionError("rows do not agree")
            for subject, profile in drafts.items():
                name, one = _profile(vault, profile.member(subject), events.get(subject, 0))
                found[name] = one
    return found


def _profile(vault: Vault, draft: SubjectDraft, events: int) -> tuple[str, Profile]:
    catalogue = vault.catalogue
    user = identifier_object(catalogue.identifiers["user_id"].number)
    wanted = (*(t.number for t in catalogue.traits.values()), user, ACCUMULATORS, MEMBERSHIPS)
    names = {trait.number: trait.name for trait in catalogue.traits.values()}
    traits: dict[str, Any] = {}
    computed: dict[str, Any] = {}
    best, name = False, ""
    for purpose in catalogue.purpose_by_number:
        seen = view(draft.seen_by(purpose, wanted))
        traits.update({names[number]: msgspec.json.decode(raw) for number, raw in seen.traits.items()})
        values = computed_of(seen, catalogue.computed.values())
        computed.update({c.name: values[c.number] for c in catalogue.computed.values() if c.number in values})
        best = best or bool(seen.audiences)
        name = name or next(iter(identifiers_of(seen, {user: "last"}).get(user, ())), "")
    cents = int(Decimal(computed.get("lifetime_value", b"0").decode()) * 100)
    first, last = (_time(computed.get(which)) for which in ("first_order_at", "last_order_at"))
    orders = int(computed.get("order_count", b"0"))
    return name, Profile(traits, orders, cents, first, last, best, events)


def _time(raw: bytes | None) -> int | None:
    return None if raw is None else read_time(msgspec.json.decode(raw))
