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
MAINTAIN: Final = "MAINTAIN"
"""What PostgreSQL can grant on a table; the last only from 17 on."""

_WRITER: Final = "ingest due"
_DESK: Final = "desk requests"
_RELEASE: Final = "feed webhooks"
_ALL: Final = " ".join(PARTS)

TABLES: Final[dict[str, dict[str, str]]] = {
    # one person
    "subject": {
        "ingest": "select insert update",
        "due": "select update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select update:pin",
    },
    "keys.subject_key": {
        "ingest": "select insert update",
        "due": "select insert update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select update:pin",
    },
    "keys.epoch": {_ALL: "select"},
    "compartment": {
        _WRITER: "select insert update delete",
        _DESK: "select insert update delete",
        _RELEASE: "select",
    },
    "event": {
        "ingest": "select insert",
        "due": "select delete",
        _DESK: "select insert delete",
        _RELEASE: "select",
    },
    "ledger": {_WRITER: "select insert", _DESK: "select insert delete", _RELEASE: "select"},
    "identifier": {
        "ingest": "select insert delete",
        "due": "select delete",
        _DESK: "select delete",
    },
    "link": {"ingest": "select insert", "due": "select", _DESK: "select delete"},
    "membership": {"ingest": "select insert", _DESK: "select delete", "feed": "select"},
    "disclosure": {_DESK: "select delete", _RELEASE: "insert"},
    "disclosure_state": {
        "ingest": "select update:acknowledged_at,acknowledged_code",
        _DESK: "select update delete",
        _RELEASE: "select insert update",
    },
    "audit_salt": {"ingest": "insert", "due": "select insert", _DESK: "select insert delete", _RELEASE: "insert"},
    "due": {"ingest": "insert select", "due": "select insert delete", _DESK: "select insert delete"},
    # found by a key of its own
    "identity": {
        "ingest": "select insert delete",
        "due": "select delete",
        _DESK: "select delete",
        "feed": "select",
    },
    "dedup": {"ingest": "select insert", "due": "select", _DESK: "select"},
    "tombstone": {
        "ingest": "select",
        "due": "select insert update",
        _DESK: "select insert update",
    },
    "erased": {_WRITER: "select", _DESK: "select insert", _RELEASE: "select"},
    # change numbers, leases, audit
    "change_in": {
        _WRITER: "select insert",
        _DESK: "select insert delete",
        "changes": "select delete",
        _RELEASE: "select",
        "audit": "select",
    },
    "change": {"changes": "select insert update", _DESK: "select delete", _RELEASE: "select update:pin", "due": "select"},
    "lease": {_ALL: "select", "changes audit webhooks due requests": "select insert update"},
    "instance": {_ALL: "select", _DESK: "select insert update:value"},  # how far the journal was compared
    "audit_in": {_WRITER: "select insert", _DESK: "select insert", _RELEASE: "select insert",
                 "audit": "select insert delete", "changes": "select"},
    "audit": {_ALL: "select", "audit": "select insert"},
    "audit_node": {_ALL: "select", "audit": "select insert"},
    "checkpoint": {_ALL: "select", "audit": "select insert"},
    # what the state audit found; its sweep is a duty of the desk
    "integrity_finding": {_ALL: "select", "requests": "insert update", _DESK: "delete"},
    # who may speak to the vault
    "policy_version": {_ALL: "select"},
    "source": {"ingest": "select", _DESK: "select"},
    "dropped": {"ingest": "select insert update", "desk": "select"},
    "watch": {"ingest": "select", "changes": "select delete"},
    "watched": {"ingest": "select insert", "changes": "select delete"},
    "destination_token": {"ingest feed": "select"},
    "webhook": {"webhooks": "select update:cursor,failures,next_at,disabled_at,delivered_at"},
    "staff": {"desk": "select"},
    "staff_token": {"desk": "select"},
    # what people ask for
    "request": {_DESK: "select insert update"},
    "archive": {_DESK: "select insert delete"},
    "casefile": {_DESK: "select insert update:sealed,expires_at delete"},
    "recipient_notice": {
        _DESK: "select insert update delete",
        _RELEASE: "select:destination,subject_id,told_at update:told_at,told_code",
    },
    "certificate": {_DESK: "select insert"},
    # of the migrations
    "alembic_version": {_ALL: "select"},
}  # fmt: skip


MAINTAINED: Final = (
    "subject", "keys.subject_key", "compartment", "event", "ledger", "identifier", "link", "membership", "disclosure",
    "disclosure_state", "audit_salt", "due", "identity", "change", "change_in", "integrity_finding", "casefile", "archive",
    "request", "recipient_notice",
)  # fmt: skip
"""Tables that an erasure deletes from: the duty `requests` vacuums them (PostgreSQL 16 and older have no such right)."""


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
    ) | {Privilege("requests", table, MAINTAIN) for table in MAINTAINED if "requests" in parts}


def unnamed() -> set[str]:
    """Tables of the schema that this page says nothing of: there must be none."""
    return {table.fullname for table in metadata.tables.values()} - TABLES.keys()


def _split(right: str) -> tuple[str, list[str]]:
    kind, _, columns = right.partition(":")
    return kind.upper(), columns.split(",")
