"""Which part of the vault may do what to which table: the whole of it, as data. Every table is named here.

A part is a door or a duty (`vault.keys.roles`). For each there is a role of PostgreSQL that cannot log in (`group_of`); the
role by which a process connects is a member of those of its parts, and of nothing else. Who owns the database migrates,
grants, makes keys and runs commands. No part may create, alter, truncate or grant anything. Why: ADR 0125.

    "table": {"part part": "select insert update:column,column delete"}

`update:pin` is the right to hold a row (`FOR SHARE`), which PostgreSQL gives only to who may update some column of it:
`pin` is a column that means nothing.
"""

from typing import Final, NamedTuple

from vault.storage.column import metadata

PREFIX: Final = "profile_vault_"
PARTS: Final = ("ingest", "feed", "desk", "changes", "audit", "webhooks", "requests", "due")
KINDS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
"""What PostgreSQL can grant on a table (`MAINTAIN` of 17 is checked with them where it exists)."""

_WRITER: Final = "ingest due"
_DESK: Final = "desk requests"
_RELEASE: Final = "feed webhooks"
_ALL: Final = " ".join(PARTS)

TABLES: Final[dict[str, dict[str, str]]] = {
    # one person
    "subject": {
        _WRITER: "select insert update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select update:pin",
    },
    "keys.subject_key": {
        _WRITER: "select insert update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select update:pin",
    },
    "keys.epoch": {_WRITER: "select", _DESK: "select", _RELEASE: "select"},  # rotations are a command of the owner
    "compartment": {
        _WRITER: "select insert update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select",
    },
    "event": {_WRITER: "select insert delete", _DESK: "select insert delete", _RELEASE: "select"},
    "ledger": {_WRITER: "select insert", _DESK: "select insert delete", _RELEASE: "select"},
    "identifier": {_WRITER: "select insert delete", _DESK: "select insert delete", _RELEASE: "select"},
    "link": {_WRITER: "select insert", _DESK: "select insert delete", _RELEASE: "select"},
    "membership": {_WRITER: "select insert", _DESK: "select insert delete", _RELEASE: "select"},
    "disclosure": {_DESK: "select delete", _RELEASE: "insert"},
    "disclosure_state": {
        "ingest": "select update:acknowledged_at,acknowledged_code",
        _DESK: "select update delete",
        _RELEASE: "select insert update",
    },
    "audit_salt": {_WRITER: "insert", _DESK: "select insert delete", _RELEASE: "insert"},
    "due": {_WRITER: "select insert delete", _DESK: "select insert delete"},
    # found by a key of its own
    "identity": {_WRITER: "select insert delete", _DESK: "select insert delete", _RELEASE: "select"},
    "dedup": {_WRITER: "select insert"},
    "tombstone": {_WRITER: "select insert update", _DESK: "select insert update"},
    "erased": {_WRITER: "select", _DESK: "select insert", _RELEASE: "select"},
    # change numbers, leases, audit
    "change_in": {
        _WRITER: "select insert",
        _DESK: "select insert delete",
        "changes": "select delete",
        _RELEASE: "select",
        "audit": "select",
    },
    "change": {"changes": "select insert update", _DESK: "select delete", _RELEASE: "select update:pin"},
    "lease": {_WRITER: "select insert update", _DESK: "select insert update", "feed": "select",
              "webhooks changes audit": "select insert update"},
    "instance": {_ALL: "select", _DESK: "select insert update"},  # how far the journal was replayed
    "audit_in": {_WRITER: "select insert", _DESK: "select insert", _RELEASE: "select insert",
                 "audit": "select insert delete", "changes": "select"},
    "audit": {_ALL: "select", "audit": "select insert"},
    "audit_node": {_ALL: "select", "audit": "select insert"},
    "checkpoint": {_ALL: "select", "audit": "select insert"},
    # who may speak to the vault
    "policy_version": {_ALL: "select"},
    "source": {_WRITER: "select", _DESK: "select"},
    "dropped": {_WRITER: "select insert update", _DESK: "select"},
    "watch": {_WRITER: "select", "changes": "select delete"},
    "watched": {_WRITER: "select insert", "changes": "select delete"},
    "destination_token": {"ingest feed": "select"},
    "webhook": {"webhooks": "select update:cursor,failures,next_at,disabled_at,delivered_at"},
    "staff": {"desk": "select"},
    "staff_token": {"desk": "select"},
    # what people ask for
    "request": {_DESK: "select insert update"},
    "archive": {_DESK: "select insert delete"},
    "casefile": {_DESK: "select insert update:expires_at delete"},
    "recipient_notice": {
        _DESK: "select insert update delete",
        _RELEASE: "select:destination,subject_id,told_at update:told_at,told_code",
    },
    "certificate": {_DESK: "select insert"},
    # of the migrations
    "alembic_version": {_ALL: "select"},
}  # fmt: skip


class Privilege(NamedTuple):
    """One right of one part. `column` is empty where it holds for the whole table."""

    part: str
    table: str  # with its schema where that is not `public`
    kind: str  # one of KINDS
    column: str = ""


def group_of(part: str) -> str:
    """The role of PostgreSQL that has the rights of a part."""
    return PREFIX + part


def wanted(parts: frozenset[str] = frozenset(PARTS)) -> frozenset[Privilege]:
    """Every right of these parts."""
    return frozenset(
        Privilege(part, table, kind, column)
        for table, given in TABLES.items()
        for some, rights in given.items()
        for part in some.split()
        if part in parts
        for kind, columns in (_split(right) for right in rights.split())
        for column in columns
    )


def unnamed() -> set[str]:
    """Tables of the schema that this page says nothing of: there must be none."""
    return {table.fullname for table in metadata.tables.values()} - TABLES.keys()


def _split(right: str) -> tuple[str, list[str]]:
    kind, _, columns = right.partition(":")
    return kind.upper(), columns.split(",")
