"""The names of all keys in the key store. Who may fetch which, and what a loss or a leak means: docs/reference/keys.md."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from vault.catalogue.numbers import RIGHTS

STATE: Final = "state"
DEDUP: Final = "dedup"
EVENT: Final = "event"
TOMBSTONE: Final = "tombstone"
PSEUDONYM: Final = "pseudonym"
CURSOR: Final = "cursor"
REFERENCE: Final = "reference"
JOURNAL: Final = "journal"
SALT: Final = "salt"
REQUEST: Final = "request"
ROWS: Final = "rows"

SIGNING_USES: Final = ("audit", "certificate", "receipt")
LASTING: Final = (STATE, DEDUP, EVENT, TOMBSTONE, PSEUDONYM, CURSOR, REFERENCE, JOURNAL, SALT, REQUEST, ROWS)
"""Keys that every vault has from its first start, beside epoch, index and signing keys."""

PASSING: Final = ("case-", "archive-")
"""Fronts of the names of keys that belong to one request. They are read at each use and kept in no memory, so that
destroying one in the store is destroying it in every process; and they leave no trace when destroyed."""

ADOPTING: Final = "case-rows"
"""The key `rows` while codes are put beside rows from before it: it becomes `rows` once they are there (`flows.adopt`)."""

_PURPOSE: Final = "purpose-"
_RIGHTS: Final = "rights"


def epochs(purpose: int) -> str:
    """The epoch keys of a purpose; a key's version is its epoch."""
    return _RIGHTS if purpose == RIGHTS else f"{_PURPOSE}{purpose}"


def purpose_of(name: str) -> int | None:
    """The purpose whose epoch keys have this name, if any has."""
    if name == _RIGHTS:
        return RIGHTS
    digits = name.removeprefix(_PURPOSE)
    if digits == name or not digits.isascii() or not digits.isdigit():
        return None
    number = int(digits)
    return number if number < RIGHTS and epochs(number) == name else None


def index(kind: str) -> str:
    """The key of the blind index of one identifier kind."""
    return f"index-{kind}"


def tagging(name: str) -> bool:
    """True for a key that makes tags by which something is found."""
    return name == TOMBSTONE or name.startswith(index(""))


def signing(use: str) -> str:
    """The Ed25519 key of one use."""
    return f"signing-{use}"


def webhook(destination: str) -> str:
    """The secret that signs webhooks to one destination."""
    return f"webhook-{destination}"


def needed(purposes: Iterable[int], kinds: Iterable[str]) -> list[str]:
    """The lasting names of a vault with these purposes and identifier kinds."""
    names = [epochs(purpose) for purpose in (*purposes, RIGHTS)]
    names += [index(kind) for kind in kinds]
    names += [*LASTING, *(signing(use) for use in SIGNING_USES)]
    return list(dict.fromkeys(names))


def case(request_id: UUID) -> str:
    """The key of an erasure's case file."""
    return f"case-{request_id}"


def archive(request_id: UUID) -> str:
    """The key of an access archive."""
    return f"archive-{request_id}"
