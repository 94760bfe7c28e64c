"""What one subject's calls said of accounts: companies and households. One field a compartment; its JSON is one entry each.

An entry lies under the keyed tag of the account, never under its `group_id`: that is sealed for purposes of its own. Each
trait keeps who said it and when, so that the newest of all members can be found. `confirmed` is true once a server source
has said that the subject belongs to the account; a client source's word alone is a claim. Pure.
Must not know: choices, contracts, the database.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Final

import msgspec

from vault.errors import Unreadable

NULL: Final = b"null"  # a deletion: nothing older shows


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One trait of an account as one message said it."""

    authority: int
    said_at: int  # microseconds since 1970 UTC
    event_key: str  # hex
    source: int
    value: msgspec.Raw  # the JSON value as it came

    @property
    def rank(self) -> tuple[int, int, str]:
        """The order of two values of one trait, as of any field: authority, time said, event key."""
        return self.authority, self.said_at, self.event_key

    def __repr__(self) -> str:
        return "Told(...)"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one account in one compartment. Times in microseconds since 1970 UTC."""

    confirmed: bool  # a server source said that the subject belongs to it
    first_said_at: int
    last_said_at: int
    source: int  # of the latest word
    traits: dict[int, Told] = {}  # by number of the account trait

    def __repr__(self) -> str:
        return f"Entry({len(self.traits)} traits)"


Entries = dict[str, Entry]  # tag of the account in hex -> entry

_decoder: Final = msgspec.json.Decoder(Entries)
_encoder: Final = msgspec.json.Encoder()


def read_accounts(plaintext: bytes) -> Entries:
    """The entries of a field. Raises `Unreadable`."""
    try:
        return _decoder.decode(plaintext)
    except (msgspec.MsgspecError, ValueError):
        raise Unreadable from None


def write_accounts(entries: Mapping[str, Entry]) -> bytes:
    """The JSON of a field, in order of tag and trait, so that the same entries give the same bytes."""
    return _encoder.encode({tag: _ordered(entries[tag]) for tag in sorted(entries)})


def joined(entries: Iterable[Entry]) -> Entry:
    """One entry of an account over compartments and members: of each trait the newest, deletions left out.

    Raises TypeError for no entry at all.
    """
    found = reduce(both, entries)
    return msgspec.structs.replace(found, traits={n: t for n, t in found.traits.items() if bytes(t.value) != NULL})


def both(a: Entry, b: Entry) -> Entry:
    """Two entries of one account as one; deletions still stand."""
    later = max(a, b, key=lambda one: (one.last_said_at, one.source))
    traits = dict(a.traits)
    for number, told in b.traits.items():
        other = traits.get(number)
        if other is None or told.rank > other.rank:
            traits[number] = told
    first = min(a.first_said_at, b.first_said_at)
    return Entry(a.confirmed or b.confirmed, first, later.last_said_at, later.source, traits)


def only(entries: Mapping[str, Entry], traits: frozenset[int]) -> Entries:
    """The entries with these traits alone."""
    return {
        tag: msgspec.structs.replace(one, traits={n: told for n, told in one.traits.items() if n in traits})
        for tag, one in entries.items()
    }


def _ordered(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, traits=dict(sorted(entry.traits.items())))
