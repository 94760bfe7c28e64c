"""Somebody holds an old backup and every key that still exists, and tries all of them on everything. What opens?

Nothing is argued: each key of a key store, whatever it is for, is tried as an epoch key on each wrap of each person, and as
the key of each sealed file. A data key that opens is used, so that what is called open was read. The same attempt with the
key store of before succeeds: that is the control.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.crypto.services.local import LocalKeyService
from vault.crypto.wrap import place_of, unwrap, wrapping_key
from vault.errors import Unreadable
from vault.keys.compartments import Compartment, parse_wraps
from vault.keys.keystore import KeyStore
from vault.policy import permit as permits
from vault.profile.sealing import open_event, open_field
from vault.profile.values import parse_fields
from vault.rights.archive import open_archive
from vault.rights.casefile import open_case

Sql = Callable[..., list[Any]]
TABLES: Final = {
    "wraps": "SELECT subject_id, wraps FROM keys.subject_key WHERE subject_id = ANY ($1)",
    "fields": "SELECT subject_id, purposes, generation, fields FROM compartment WHERE subject_id = ANY ($1)",
    "events": "SELECT subject_id, purposes, generation, event_key, kind, ct FROM event WHERE subject_id = ANY ($1)",
    "archives": "SELECT request_id, sealed FROM archive",
    "cases": "SELECT request_id, sealed FROM casefile",
}


class Taken(NamedTuple):
    """What is in a backup of some people, still sealed."""

    rows: dict[str, list[Any]]

    @property
    def wraps(self) -> int:
        """How many wrapped keys there are."""
        return sum(len(one.wraps) for row in self.rows["wraps"] for one in parse_wraps(row["wraps"]))

    @property
    def blobs(self) -> dict[str, bytes]:
        """The wrapped keys, for a search."""
        return {
            f"wrapped key {number}.{wrap.purpose}": wrap.blob
            for number, row in enumerate(self.rows["wraps"])
            for one in parse_wraps(row["wraps"])
            for wrap in one.wraps
        }


class Attempt(NamedTuple):
    """How it went."""

    keys: int
    tries: int
    opened: int  # wrapped keys and sealed files that opened
    read: list[bytes]  # what could be read with them

    def reads(self, value: str) -> bool:
        """Was this value among it?"""
        return any(value.encode() in one for one in self.read)


def take(sql: Sql, people: Sequence[UUID]) -> Taken:
    """Everything sealed of these people that a database holds, and every sealed file."""
    rows = {name: sql(query, list(people)) if "$1" in query else sql(query) for name, query in TABLES.items()}
    return Taken(rows)


def keys_in(keyring: Path, key_file: Path) -> dict[str, bytes]:
    """Every key of a key store, by name and version, and the key that seals them all."""
    store = KeyStore(keyring, LocalKeyService.from_key_file(key_file))
    found = {f"{name} {version}": key for name in store.names() for version, key in store.read(name).items()}
    return {**found, "root": bytes.fromhex(key_file.read_text())}


def try_all(taken: Taken, keys: Mapping[str, bytes]) -> Attempt:
    """Every key on everything."""
    tries = opened = 0
    read: list[bytes] = []
    compartments: dict[tuple[UUID, int, int], Compartment] = {}
    for row in taken.rows["wraps"]:
        subject = UUID(str(row["subject_id"]))
        for one in parse_wraps(row["wraps"]):
            place = place_of(one.compartment_id, subject.bytes, one.purposes, one.generation)
            for wrap in one.wraps:
                for key in keys.values():
                    tries += 1
                    cipher = wrapping_key(key, subject.bytes, wrap.purpose, wrap.epoch)
                    try:
                        field_key = unwrap(cipher, wrap.blob, place, one.commitment, wrap.purpose, wrap.epoch)
                    except Unreadable:
                        continue
                    opened += 1
                    compartments[subject, one.purposes, one.generation] = Compartment(subject, one, field_key)
    read += _values(taken, compartments)
    for name, opener in (("archives", open_archive), ("cases", open_case)):
        for row in taken.rows[name]:
            request = UUID(str(row["request_id"]))
            for key in keys.values():
                tries += 1
                try:
                    content = opener(key, request, row["sealed"])
                except Unreadable:
                    continue
                opened += 1
                read.append(content if isinstance(content, bytes) else repr(vars_of(content)).encode())
    return Attempt(len(keys), tries, opened, read)


def vars_of(struct: Any) -> Any:
    """The content of a struct that shows nothing of itself."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _values(taken: Taken, compartments: Mapping[tuple[UUID, int, int], Compartment]) -> Iterable[bytes]:
    """Whatever the compartments hold, by a permit that nobody gave: a thief does not ask the gate."""
    permit = permits._issue(actor="vault", purpose=63, objects=None, policy=0, reason="compute")
    for row in taken.rows["fields"]:
        compartment = compartments.get((UUID(str(row["subject_id"])), row["purposes"], row["generation"]))
        if compartment is not None:
            for head, sealed in zip(*parse_fields(row["fields"]), strict=True):
                yield open_field(compartment, head, sealed, permit)
    for row in taken.rows["events"]:
        compartment = compartments.get((UUID(str(row["subject_id"])), row["purposes"], row["generation"]))
        if compartment is not None:
            yield open_event(compartment, row["event_key"], row["kind"], row["ct"], permit)
