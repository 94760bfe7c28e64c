"""Codes of the rows that a certificate rests on: who writes to the database and holds no key makes none of them.

A request's row is vouched for by the key `request`, which only those hold who answer requests; what a recipient was told or
said by the key `state`, since release and ingest write it down. Why: ADR 0095.
"""

from typing import Any, Final
from uuid import UUID

from vault.canonical import canonical_json
from vault.clock import Micros
from vault.crypto.mac import mac

REQUEST: Final = "request/1"
TOLD: Final = "told/1"
ANSWERED: Final = "answered/1"
_NUMBER: Final = 8


def request_code(key: bytes, row: dict[str, Any]) -> bytes:
    """Over every column of a row of `request` but the code itself; `key` is `request`."""
    plain = {name: value for name, value in row.items() if name not in ("code", "detail")}
    text = {name: None if value is None else str(value) for name, value in plain.items()}
    return mac(key, REQUEST, canonical_json(text), bytes(row["detail"]))


def told_code(key: bytes, destination: int, subject: UUID, at: Micros) -> bytes:
    """When a recipient was told of an erased root; `key` is `state`."""
    return mac(key, TOLD, _number(destination), subject.bytes, _number(at))


def answered_code(key: bytes, request_id: UUID, destination: int, subject: UUID, at: Micros) -> bytes:
    """When a recipient's answer was taken up for a certificate; `key` is `request`."""
    return mac(key, ANSWERED, request_id.bytes, _number(destination), subject.bytes, _number(at))


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER, "big")
