"""The answer to an access or portability request, as JSON values, from what the vault really holds and did. Opens nothing.

Access is GDPR Art. 15 in full; portability is what the person provided and what was observed of them, held on consent or
contract, without anything that was worked out (Art. 20). Numbers keep the decimals that they were sent with.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import ACCOUNTS, ACCUMULATORS, MEMBERSHIPS, identifier_object
from vault.clock import Micros, isoformat
from vault.consent.decision import meet
from vault.consent.ledger import Choice
from vault.disclosures.held import Held
from vault.disclosures.store import Disclosure
from vault.errors import Unreadable
from vault.flows.honour import words
from vault.flows.honour.opened import Part, Value
from vault.flows.honour.recipients import consents, recipients
from vault.profile.accounts import NULL, read_accounts
from vault.profile.computed import Accumulator, join, read_states, visible
from vault.profile.sightings import read_sightings
from vault.profile.view import read_memberships
from vault.rights.archive import Table
from vault.rights.store import Request
from vault.state.record import State

Json = dict[str, Any]
PORTABLE: Final = frozenset({"consent", "contract"})

_any: Final = msgspec.json.Decoder(float_hook=Decimal)
_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class Gathered(msgspec.Struct, frozen=True):
    """Everything that was read and opened for one request."""

    request: Request
    now: Micros
    states: Sequence[State]
    values: Sequence[Value]
    parts: Sequence[Part]
    choices: Mapping[UUID, Sequence[Choice]]
    disclosures: Sequence[Disclosure]
    held: Sequence[Held]
    sources: Mapping[int, str]
    missing: int = 0  # parts of events that the state rows count and that are not there
    account_ids: Mapping[str, str] = {}  # tag of an account in hex -> its id, where a server source said it

    def __repr__(self) -> str:
        return "Gathered(...)"


def access_answer(catalogue: Catalogue, all_: Gathered) -> Json:
    """Art. 15 in full. The keys are the headings of the readable page."""
    used = 0
    for value in all_.values:
        used |= value.purposes
    for part in all_.parts:
        used |= part.purposes
    return {
        "about_this_answer": _about(all_, "Access (GDPR Art. 15)"),
        **({"incomplete": words.INCOMPLETE.format(all_.missing)} if all_.missing else {}),
        "your_data": traits(catalogue, all_),
        "identifiers": identifiers(catalogue, all_),
        "accounts": accounts(catalogue, all_),
        "computed_about_you": computed(catalogue, all_),
        "audiences": audiences(catalogue, all_),
        "events": events(catalogue, all_),
        "purposes": _purposes(catalogue, all_, used),
        "recipients": recipients(catalogue, all_.disclosures, all_.held),
        "consents": consents(catalogue, all_.choices, all_.sources),
        "sources": sorted({all_.sources.get(value.head.source, "the vault") for value in all_.values}),
        "automated_decisions": words.AUTOMATED,
        "your_rights": words.RIGHTS,
        "complaint": words.COMPLAINT,
    }


def portable_answer(catalogue: Catalogue, all_: Gathered) -> tuple[Json, list[Table]]:
    """Art. 20: the same rows as JSON and as CSV."""
    mask = 0
    for purpose in catalogue.purposes.values():
        mask |= purpose.mask if purpose.legal_basis in PORTABLE else 0
    some = msgspec.structs.replace(
        all_,
        values=[value for value in all_.values if value.purposes & mask],
        parts=[part for part in all_.parts if part.purposes & mask],
    )
    rows = {
        "traits": traits(catalogue, some),
        "identifiers": identifiers(catalogue, some),
        "accounts": accounts(catalogue, some),
        "events": events(catalogue, some),
    }
    return {"about_this_answer": _about(all_, "Portability (GDPR Art. 20)"), **rows}, [
        _table(name, table) for name, table in rows.items()
    ]


# --- what is held ---------------------------------------------------------------------------------------------------


def traits(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """Every stored value of every trait, the newest first. That a trait was deleted is no value."""
    known = {trait.number: trait for trait in catalogue.traits.values()}
    rows = []
    for value in sorted(all_.values, key=lambda v: (v.head.field, -v.head.said_at, v.head.event_key)):
        if value.head.field >= identifier_object(0) or value.plaintext == NULL:
            continue
        trait = known.get(value.head.field)
        rows.append(
            {
                "trait": trait.name if trait else f"trait {value.head.field} (no longer collected)",
                "value": _json(value.plaintext),
                "category": trait.category if trait else "",
                "purposes": list(catalogue.names(value.purposes)),
                "source": all_.sources.get(value.head.source, "the vault"),
                "said_at": isoformat(Micros(value.head.said_at)),
            }
        )
    return rows


def identifiers(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """Every identifier, with the first and the last time it was said."""
    known = {identifier_object(kind.number): kind for kind in catalogue.identifiers.values()}
    rows: list[Json] = []
    for value in all_.values:
        field = value.head.field
        if not identifier_object(0) <= field < ACCUMULATORS:
            continue
        kind = known.get(field)
        what = {
            "kind": kind.name if kind else f"identifier {field - identifier_object(0)} (no longer collected)",
            "category": kind.category if kind else "",
            "purposes": list(catalogue.names(value.purposes)),
        }
        rows.extend(
            {
                **what,
                "value": sighting.value,
                "source": all_.sources.get(sighting.source, "the vault"),
                "first_said_at": isoformat(Micros(sighting.first_said_at)),
                "last_said_at": isoformat(Micros(sighting.last_said_at)),
            }
            for sighting in read_sightings(value.plaintext)
        )
    return sorted(rows, key=lambda row: (row["kind"], row["value"], row["purposes"]))


def accounts(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """Every company or household that the person's calls named, with what they said of it, a row a set of purposes.

    What other members said is theirs. An account that a browser alone named has no id here: it is a claim.
    """
    known = {trait.number: trait for trait in catalogue.account_traits.values()}
    rows: list[Json] = []
    for value in all_.values:
        if value.head.field != ACCOUNTS:
            continue
        for tag, entry in read_accounts(value.plaintext).items():
            rows.append(
                {
                    "account": all_.account_ids.get(tag),
                    "confirmed": entry.confirmed,
                    "purposes": list(catalogue.names(value.purposes)),
                    "source": all_.sources.get(entry.source, "the vault"),
                    "first_said_at": isoformat(Micros(entry.first_said_at)),
                    "last_said_at": isoformat(Micros(entry.last_said_at)),
                    "traits": [
                        {
                            "trait": known[n].name if n in known else f"account trait {n} (no longer collected)",
                            "value": _json(bytes(told.value)),
                            "category": known[n].category if n in known else "",
                            "source": all_.sources.get(told.source, "the vault"),
                            "said_at": isoformat(Micros(told.said_at)),
                        }
                        for n, told in entry.traits.items()
                    ],
                }
            )
    return sorted(rows, key=lambda row: (row["account"] or "", row["first_said_at"], row["purposes"]))


def computed(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """What was worked out from events, and how."""
    states: list[dict[int, Accumulator]] = [
        read_states(value.plaintext) for value in all_.values if value.head.field == ACCUMULATORS and value.purposes
    ]
    rows: list[Json] = []
    for one in catalogue.computed.values():
        raw = visible(one, join(one, [part.get(one.number) for part in states]))
        if raw is not None:
            rows.append(
                {
                    "trait": one.name,
                    "title": one.title,
                    "value": _json(raw),
                    "category": one.category,
                    "purposes": list(catalogue.names(one.purposes)),
                    "logic": words.logic_of(catalogue, one),
                }
            )
    return rows


def audiences(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """The audiences that the profile is in. Memberships are a value of the root."""
    root = all_.states[0].subject
    numbers: set[int] = set()
    for value in all_.values:
        if value.head.field == MEMBERSHIPS and value.subject == root and value.purposes:
            numbers |= read_memberships(value.plaintext)
    return [
        {"audience": one.name, "title": one.title, "logic": words.logic_of_audience(catalogue, one)}
        for one in catalogue.audiences.values()
        if one.number in numbers
    ]


def events(catalogue: Catalogue, all_: Gathered) -> list[Json]:
    """Every event, the oldest first; its parts show which properties serve which purposes."""
    found: dict[tuple[UUID, bytes], Json] = {}
    for part in sorted(all_.parts, key=lambda p: (p.at, p.event_key, p.purposes)):
        body = _json(part.plaintext)
        if not isinstance(body, dict):
            raise Unreadable
        event = found.setdefault(
            (part.subject, part.event_key),
            {
                "type": body.get("type"),
                "event": body.get("name"),
                "said_at": isoformat(part.at),
                "received_at": isoformat(part.received_at),
                "message_id": body.get("messageId"),
                "parts": [],
            },
        )
        event["parts"].append(
            {"purposes": list(catalogue.names(part.purposes)), "properties": body.get("properties", {})}
        )
    return list(found.values())


def _purposes(catalogue: Catalogue, all_: Gathered, used: int) -> list[Json]:
    live = meet(catalogue, all_.states, all_.now)
    return [
        {
            "purpose": one.name,
            "title": one.title,
            "legal_basis": one.legal_basis,
            "dpv": one.dpv,
            "in_use_now": bool(live & one.mask),
            "retention": words.retention_of(one),
            "may_be_objected_to": one.objection is not None,
        }
        for one in catalogue.purposes.values()
        if used & one.mask
    ]


def _about(all_: Gathered, what: str) -> Json:
    return {
        "answer_to": what,
        "controller": words.CONTROLLER,
        "request": str(all_.request.request_id),
        "received_at": isoformat(all_.request.received_at),
        "made_at": isoformat(all_.now),
        "restricted": any(state.restricted for state in all_.states),
    }


def _table(name: str, rows: Sequence[Json]) -> Table:
    head = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(name, head, tuple(tuple(_cell(row.get(key)) for key in head) for row in rows))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _encoder.encode(value).decode()


def _json(raw: bytes) -> Any:
    try:
        return _any.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Unreadable from None
