"""What one purpose sees of a person: of each field the newest value, over members and generations. Pure.

Takes what `sealing` opened for one purpose; opens nothing. Newest means: the higher authority, then the later said, then
the larger event key, so that every process picks the same. A newest value of `null` is a deletion: nothing older shows.
Must not know: contracts, transforms, consent.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from vault.catalogue.computed import Computed
from vault.catalogue.numbers import ACCOUNTS, ACCUMULATORS, MEMBERSHIPS, identifier_object
from vault.errors import Unreadable
from vault.profile.accounts import Entries, Entry, joined, read_accounts
from vault.profile.computed import Accumulator, join, read_states, visible
from vault.profile.sightings import Sighting, Which, choose, read_sightings
from vault.profile.values import FieldHead

T = TypeVar("T")

_FIRST_IDENTIFIER: Final = identifier_object(0)
_numbers: Final = msgspec.json.Decoder(frozenset[int])


class View(msgspec.Struct, frozen=True):
    """One person for one purpose. Object numbers to raw JSON; shows nothing of itself."""

    traits: dict[int, bytes]
    identifiers: dict[int, list[Sighting]]  # of every member; `identifiers_of` applies a contract's `which`
    states: list[dict[int, Accumulator]]  # computed traits, one dict a member and compartment
    audiences: frozenset[int]  # audience numbers
    accounts: tuple[Entries, ...] = ()  # one a member and compartment; `accounts_of` joins them

    def __repr__(self) -> str:
        return "View(...)"


def newest(fields: Iterable[tuple[FieldHead, T]]) -> dict[int, tuple[FieldHead, T]]:
    """Of each field the newest. Works on sealed values too, so that only what is shown need be opened."""
    found: dict[int, tuple[FieldHead, T]] = {}
    for entry in fields:
        head = entry[0]
        other = found.get(head[0])
        if other is None or rank(head) > rank(other[0]):
            found[head[0]] = entry
    return found


def rank(head: FieldHead) -> tuple[int, int, bytes]:
    """The order of values of one field: authority, time said, event key."""
    return head[4], head[5], head[3]


def view(opened: Iterable[tuple[FieldHead, bytes]]) -> View:
    """The view over all fields opened for one purpose: every member, every generation.

    Memberships are a value of the root: give those of the root only. Raises `Unreadable` for a malformed plaintext.
    """
    traits: dict[int, tuple[FieldHead, bytes]] = {}
    identifiers: dict[int, list[Sighting]] = {}
    states: list[dict[int, Accumulator]] = []
    judged: tuple[FieldHead, bytes] | None = None
    accounts: list[Entries] = []
    for entry in opened:
        head, value = entry
        field = head[0]
        if field < _FIRST_IDENTIFIER:
            other = traits.get(field)
            if other is None or rank(head) > rank(other[0]):
                traits[field] = entry
        elif field < ACCUMULATORS:
            identifiers.setdefault(field, []).extend(read_sightings(value))
        elif field == ACCUMULATORS:
            states.append(read_states(value))
        elif field == MEMBERSHIPS:
            if judged is None or rank(head) > rank(judged[0]):
                judged = entry
        elif field == ACCOUNTS:
            accounts.append(read_accounts(value))
        else:
            raise Unreadable
    shown = {field: value for field, (_, value) in traits.items() if value != b"null"}
    return View(
        shown, identifiers, states, frozenset() if judged is None else read_memberships(judged[1]), tuple(accounts)
    )


def identifiers_of(seen: View, which: Mapping[int, Which]) -> dict[int, tuple[str, ...]]:
    """For each identifier object that `which` names, the values that it asks for; without those that have none."""
    chosen = {field: choose(seen.identifiers.get(field, ()), how) for field, how in which.items()}
    return {field: values for field, values in chosen.items() if values}


def computed_of(seen: View, wanted: Iterable[Computed]) -> dict[int, bytes]:
    """Number of the computed trait to its value as raw JSON, joined over members; without those that have none."""
    values: dict[int, bytes] = {}
    for computed in wanted:
        value = visible(computed, join(computed, [part.get(computed.number) for part in seen.states]))
        if value is not None:
            values[computed.number] = value
    return values


def accounts_of(parts: Iterable[Entries]) -> Entries:
    """Every account with its newest traits, joined over members and compartments; deleted traits are left out."""
    found: dict[str, list[Entry]] = {}
    for entries in parts:
        for tag, entry in entries.items():
            found.setdefault(tag, []).append(entry)
    return {tag: joined(found[tag]) for tag in sorted(found)}


def read_memberships(plaintext: bytes) -> frozenset[int]:
    """The audience numbers of a sealed membership. Raises `Unreadable`."""
    try:
        return _numbers.decode(plaintext)
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def write_memberships(numbers: Iterable[int]) -> bytes:
    """The JSON of a sealed membership: numbers in rising order."""
    return msgspec.json.encode(sorted(set(numbers)))
