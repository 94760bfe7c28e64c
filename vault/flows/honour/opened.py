"""A whole profile as the rights desk sees it: every member, every value that still opens, under the rights wrap alone.

Promises: nothing is believed before the state row vouches for it; each value is opened with the permit of one request.
Events of a compartment whose keys are gone are skipped: they are nobody's any more and wait for the sweep.
"""

from collections.abc import AsyncIterator, Collection, Iterator
from typing import Final, NamedTuple
from uuid import UUID

from vault.catalogue.numbers import RIGHTS
from vault.clock import Micros
from vault.errors import NotFound, Unreadable
from vault.flows.people.read import Stored, profiles
from vault.flows.vault import Vault
from vault.keys import names
from vault.keys.compartments import Compartment, Opener
from vault.policy.permit import Permit
from vault.profile.sealing import open_event, open_fields
from vault.profile.values import FieldHead, parse_fields
from vault.storage.session import Raw

BATCH: Final = 1000  # events a statement: about half a megabyte


class Value(NamedTuple):
    """One opened field."""

    subject: UUID
    purposes: int  # what it was collected for and may still be used for
    head: FieldHead
    plaintext: bytes

    def __repr__(self) -> str:
        return f"Value({self.head.field})"


class Part(NamedTuple):
    """One opened part of an event."""

    subject: UUID
    event_key: bytes
    purposes: int  # what it was collected for and may still be used for
    at: Micros
    received_at: Micros
    kind: int
    plaintext: bytes

    def __repr__(self) -> str:
        return f"Part({self.kind})"


class Desk:
    """Opens one profile for one request."""

    def __init__(self, vault: Vault, members: list[Stored], permit: Permit) -> None:
        """`members`: the root first. `permit`: `gate.rights` for the request."""
        self.members = members
        self.subjects = [member.state.subject for member in members]
        self._permit = permit
        self._places = {
            (member.state.subject, wrapped.purposes, wrapped.generation): wrapped
            for member in members
            for wrapped in member.wrapped
        }
        self._openers = {subject: Opener(vault.keyring, subject) for subject in self.subjects}
        self._opened: dict[tuple[UUID, int, int], Compartment] = {}

    @property
    def root(self) -> UUID:
        """The subject by which the profile is found."""
        return self.subjects[0]

    def values(self, only: Collection[int] | None = None) -> Iterator[Value]:
        """Every field of every member, or those of some numbers. Raises `Unreadable` for one that does not open.

        A compartment that holds none of them is not opened.
        """
        for member in self.members:
            subject = member.state.subject
            for row in member.compartments:
                member.state.check_row(row.purposes, row.generation, row.version, row.blob)
                place = (subject, row.purposes, row.generation)
                wrapped = self._places.get(place)
                if wrapped is None or wrapped.compartment_id != row.compartment_id:
                    raise Unreadable
                fields = list(zip(*parse_fields(row.blob), strict=True))
                if only is not None:
                    fields = [one for one in fields if one[0].field in only]
                    if not fields:
                        continue
                opened = open_fields(self._compartment(place), fields, self._permit)
                for head, plaintext in opened:
                    yield Value(subject, wrapped.held, head, plaintext)

    async def parts(self, connection: Raw, *, purpose: int | None = None) -> AsyncIterator[Part]:
        """Every part of every event, by member and message; with `purpose`, only those collected for it."""
        mask = -1 if purpose is None else 1 << purpose
        for subject in self.subjects:
            after, of = b"", -1
            while rows := await connection.fetch(_EVENTS, subject, after, of, mask, BATCH):
                after, of = rows[-1][0], rows[-1][1]
                for key, purposes, generation, at, received_at, kind, sealed in rows:
                    place = (subject, purposes, generation)
                    wrapped = self._places.get(place)
                    if wrapped is None:
                        continue
                    plaintext = open_event(self._compartment(place), key, kind, sealed, self._permit)
                    yield Part(subject, key, wrapped.held, at, received_at, kind, plaintext)

    def _compartment(self, place: tuple[UUID, int, int]) -> Compartment:
        opened = self._opened.get(place)
        if opened is None:
            opened = self._opened[place] = self._openers[place[0]].open(self._places[place], RIGHTS)
        return opened

    def __repr__(self) -> str:
        return f"Desk({len(self.members)} members)"


_EVENTS: Final = """
SELECT event_key, purposes, generation, at, received_at, kind, ct FROM event
WHERE subject_id = $1 AND (event_key, purposes) > ($2, $3) AND purposes & $4 <> 0
ORDER BY event_key, purposes LIMIT $5
"""


async def profile_of(vault: Vault, connection: Raw, subject: UUID) -> list[Stored]:
    """The members of the profile that the subject belongs to, the root first.

    Raises `NotFound` if there is none, `Unreadable` if its rows do not agree.
    """
    vault.keyring.refresh()
    found, broken = await profiles(connection, [subject], vault.keyring.key(names.STATE))
    if broken:
        raise Unreadable
    if subject not in found:
        raise NotFound
    return sorted(found.values(), key=lambda member: (not member.state.is_root, member.state.subject))
