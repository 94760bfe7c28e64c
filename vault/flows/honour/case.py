"""Step 2 of an erasure: the case file, which holds what is needed once the person's keys are gone.

For each recipient its own pseudonyms of the profile, and each identifier in the form in which it was given; who owes an
answer stands in `recipient_notice`.
The certificate's person digests are made here too, while the identifiers still open; their salt lies in the case file only.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import identifier_object
from vault.clock import Micros
from vault.destinations.pseudonym import person_key, pseudonym
from vault.disclosures.held import Held
from vault.disclosures.store import held_everywhere
from vault.flows.honour.opened import Desk, profile_of
from vault.flows.honour.steps import OWED, key_of, officer_of, take
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys import names
from vault.profile.sightings import read_sightings
from vault.rights import store
from vault.rights.casefile import ANSWER_WITHIN, CaseFile, Recipient, new_salt, seal_case
from vault.rights.certificate import person_digest
from vault.rights.request import Step
from vault.rights.store import Notice, Request

Known = dict[str, tuple[str, ...]]
"""Identifier values of a profile by kind, each once, in order."""


async def open_case(vault: Vault, request: Request) -> None:
    """Writes the case file and what each recipient owes."""
    desk = await desk_of(vault, request)
    known = identifiers_of(vault.catalogue, desk)
    now = vault.clock.now()
    async with take(vault, request) as taking:
        held = await held_everywhere(taking.connection, desk.subjects, vault.keyring.key(names.STATE))
        made = case_of(vault, request.request_id, desk, known, held, now)
        key = await key_of(vault, names.case(request.request_id))
        await store.put_case(taking.connection, request.request_id, seal_case(key, made.case), made.deadline)
        await store.put_notices(taking.connection, made.notices)
        await taking.move(Step.KEEP, detail=made.detail)


class Made(NamedTuple):
    """A case, what each recipient owes, and what the request says of it."""

    case: CaseFile
    notices: list[Notice]
    deadline: Micros
    detail: dict[str, Any]


def case_of(vault: Vault, request_id: UUID, desk: Desk, known: Known, held: Sequence[Held], now: Micros) -> Made:
    """The case of an erasure. `held`: what any recipient holds of its members."""
    deadline = Micros(now + ANSWER_WITHIN)
    owing = [one for one in held if owes(one)]
    forms = normal_forms(vault.catalogue, known)
    case = CaseFile(
        request_id=request_id,
        made_at=now,
        members=tuple(desk.subjects),
        tags=tags_of(vault, desk, forms),
        recipients=recipients(vault, owing, known, deadline) if owing else (),
        salt=new_salt(),
        compartments=tuple(sorted({w.compartment_id for member in desk.members for w in member.wrapped})),
    )
    persons = [person_digest(case.salt, kind, normal) for kind, normal in forms]
    detail: dict[str, Any] = {"persons": sorted(persons), "subjects": len(desk.subjects)}
    detail[OWED] = [[one.destination, str(one.subject_id), deadline] for one in owing]
    return Made(case, notices_of(request_id, owing, deadline), deadline, detail)


def tags_of(vault: Vault, desk: Desk, forms: Sequence[tuple[str, bytes]]) -> tuple[bytes, ...]:
    """Every tag that finds the profile: those on record, and those of the sealed values, should a record be gone."""
    recorded = {tag for member in desk.members for _, tag in member.tags}
    return tuple(sorted(recorded | {identity_tag(vault.keyring, kind, normal) for kind, normal in forms}))


async def desk_of(vault: Vault, request: Request) -> Desk:
    """The rights desk over the profile of a request that still has one."""
    assert request.subject_id is not None  # noqa: S101 - a request loses its subject when the keys go
    async with vault.database.snapshot() as connection:
        members = await profile_of(vault, connection, request.subject_id)
    return Desk(vault, members, vault.gate.rights(officer_of(request), request.request_id))


def owes(held: Held) -> bool:
    """True unless the recipient has been told to delete everything and has said that it did."""
    return held.removed_number is None or held.acknowledged_at is None


def notices_of(request_id: UUID, owing: Iterable[Held], deadline: Micros) -> list[Notice]:
    """What each recipient is to answer: one row for each root that it knows."""
    return [Notice(request_id, one.destination, one.subject_id, None, None, deadline) for one in owing]


def identifiers_of(catalogue: Catalogue, desk: Desk) -> Known:
    """Every identifier of the profile that still opens, by kind."""
    kinds = {identifier_object(kind.number): kind.name for kind in catalogue.identifiers.values()}
    found: dict[str, set[str]] = {}
    for value in desk.values(kinds.keys()):
        name = kinds.get(value.head.field)
        if name is not None:
            found.setdefault(name, set()).update(sighting.value for sighting in read_sightings(value.plaintext))
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}


def normal_forms(catalogue: Catalogue, known: Known) -> list[tuple[str, bytes]]:
    """(kind, normal form) of each identifier of the person, each once. An account's id is the other members' too."""
    forms: set[tuple[str, bytes]] = set()
    for name, values in known.items():
        for value in () if catalogue.identifiers[name].account else values:
            normal = normalise(catalogue.identifiers[name], value)
            if normal is not None:
                forms.add((name, normal))
    return sorted(forms)


_NO_PLAN: Final[Known] = {}


def recipients(vault: Vault, owing: Sequence[Held], known: Known, deadline: Micros) -> tuple[Recipient, ...]:
    """What each of the recipients that still owe an answer needs to delete."""
    key = vault.keyring.key(names.PSEUDONYM)
    by_destination: dict[int, list[Held]] = {}
    for one in owing:
        by_destination.setdefault(one.destination, []).append(one)
    found = []
    for number, rows in sorted(by_destination.items()):
        contract = vault.catalogue.contracts_by_number.get(number)
        ids = tuple(sorted(pseudonym(person_key(key, number), row.subject_id) for row in rows))
        objects = frozenset().union(*(row.fields | row.gone for row in rows))
        name = contract.name if contract is not None else f"destination {number}"  # gone from the policies
        found.append(Recipient(number, name, ids, _given(vault, name, objects, known), deadline))
    return tuple(found)


def _given(vault: Vault, destination: str, objects: frozenset[int], known: Known) -> Known:
    """The identifiers that the destination ever got, in the form in which it got them."""
    plan = vault.plan(destination)
    if plan is None:
        return _NO_PLAN
    given: dict[str, set[str]] = {}
    for purpose in plan.purposes:
        for number, item in purpose.identifiers.items():
            if number not in objects:
                continue
            for value in known.get(item.name, ()):
                shaped = item.apply(msgspec.json.encode(value))
                if shaped is not None:
                    given.setdefault(item.name, set()).add(str(msgspec.json.decode(shaped)))
    return {name: tuple(sorted(values)) for name, values in sorted(given.items())}
