"""Who got what, and what was said about it: disclosures and choices as JSON rows, for the access answer and for staff.

Names come from the policies as they are now; a thing that left them is shown by its number. Holds no value of a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from vault.catalogue.load import Catalogue
from vault.clock import isoformat
from vault.consent.ledger import Choice
from vault.destinations.transform import numbered
from vault.disclosures.held import Held
from vault.disclosures.record import Basis
from vault.disclosures.store import Disclosure
from vault.flows.honour import words
from vault.rights.store import Transaction
from vault.sources import store as sources

Json = dict[str, Any]


async def source_names(connection: Transaction) -> dict[int, str]:
    """Source id to name, disabled ones too."""
    return {row.source.source_id: row.source.name for row in await sources.everyone(connection)}


def recipients(catalogue: Catalogue, disclosures: Iterable[Disclosure], held: Iterable[Held]) -> list[Json]:
    """Who really got what, when, for what, in which form; and what they hold now, in the forms in which it last left."""
    by_destination: dict[int, list[Json]] = {}
    latest: dict[tuple[UUID, int, int], set[int]] = {}
    for one in sorted(disclosures, key=lambda row: row.at):
        by_destination.setdefault(one.destination, []).extend(disclosure_rows(catalogue, one))
        forms: dict[int, set[int]] = {}
        for number, transform in (item for released in one.released for item in released.items):
            forms.setdefault(number, set()).add(transform)
        latest.update({(one.subject_id, one.destination, number): some for number, some in forms.items()})
    holds: dict[int, set[tuple[int, int | None]]] = {}
    open_: dict[int, set[tuple[int, int | None]]] = {}  # told to delete, and has not said that it did
    for now in held:
        if now.told:
            open_.setdefault(now.destination, set()).update((number, None) for number in now.gone)
        items = holds.setdefault(now.destination, set())
        for number in now.fields:
            items |= {(number, form) for form in latest.get((now.subject_id, now.destination, number), {None})}
    rows = []
    for number in sorted(by_destination.keys() | holds.keys() | open_.keys()):
        contract = catalogue.contracts_by_number.get(number)
        rows.append(
            {
                "recipient": contract.recipient if contract else f"destination {number} (contract ended)",
                "destination": contract.name if contract else None,
                "role": contract.role if contract else None,
                "country": contract.country if contract else None,
                "safeguard": contract.transfer if contract else None,
                "contact": contract.contact if contract else None,
                "may_keep": words.period(contract.keep) if contract and contract.keep is not None else None,
                "holds_now": fields(catalogue, holds.get(number, ())),
                "told_to_delete_and_not_confirmed": fields(catalogue, open_.get(number, ())),
                "disclosures": by_destination.get(number, []),
            }
        )
    return rows


def disclosure_rows(catalogue: Catalogue, one: Disclosure) -> list[Json]:
    """One record of a disclosure, a row a purpose."""
    return [
        {
            "at": isoformat(one.at),
            "purpose": ", ".join(catalogue.names(1 << released.purpose)) or f"purpose {released.purpose}",
            "legal_basis": Basis(released.basis).title,
            "fields": fields(catalogue, released.items),
        }
        for released in one.released
    ]


def fields(catalogue: Catalogue, items: Iterable[tuple[int, int | None]]) -> list[Json]:
    """Each object and form once, also of those that left the policies. `form` is None where it is not on record."""
    kinds = {number: rule.partition(":")[0] for rule, number in catalogue.rule_objects.items()}
    found = {
        (
            kinds.get(number, "field"),
            catalogue.objects.get(number, f"field {number}"),
            numbered(transform).name if transform is not None else "",
        )
        for number, transform in items
    }
    return [{"kind": kind, "name": name, "form": form or None} for kind, name, form in sorted(found)]


def consents(catalogue: Catalogue, choices: Mapping[UUID, Sequence[Choice]], sources: Mapping[int, str]) -> list[Json]:
    """Every entry of the ledger, in the order in which it was received."""
    everything = [(subject, n, choice) for subject, some in choices.items() for n, choice in enumerate(some, start=1)]
    rows = []
    for _, sequence, choice in sorted(everything, key=lambda row: (row[2].received_at, row[0], row[1])):
        purpose = catalogue.purpose_by_number.get(choice.purpose)
        rows.append(
            {
                "purpose": purpose.name if purpose else f"purpose {choice.purpose}",
                "decision": choice.decision.name.lower(),
                "how": choice.how.name.lower(),
                "authority": choice.authority.name.lower(),
                "source": sources.get(choice.source),
                "said_at": isoformat(choice.said_at),
                "received_at": isoformat(choice.received_at),
                "notice": choice.notice,
                "language": choice.language,
                "claimed": choice.claimed,
                "sequence": sequence,
            }
        )
    return rows
