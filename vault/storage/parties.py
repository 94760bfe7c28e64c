"""The tables of who may speak to the vault, and of what it was told by whom. Rules: `column`."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Identity, Integer, LargeBinary, Table, Text, Uuid

from vault.storage.column import key, metadata

policy_version = Table(
    "policy_version",
    metadata,
    key("number", Integer),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("files", LargeBinary, nullable=False),  # canonical JSON of {path: text}
    Column("applied_at", BigInteger, nullable=False),
    Column("applied_by", Text, nullable=False),
)

source = Table(
    "source",
    metadata,
    Column("source_id", Integer, Identity(always=False), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("server", Boolean, nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of the write key
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("code", LargeBinary),  # crypto.rowcode, as in the tables below
)

dropped = Table(
    "dropped",
    metadata,
    key("source_id", Integer),
    key("day", Integer),
    key("type", Text),  # of the message, or `property:TYPE:EVENT`, or trait
    key("name", Text),  # catalogue or fit name, else `(unfit name)` or `(sensitive name)`
    key("reason", Text),
    Column("count", BigInteger, nullable=False),
)

# A command that looks on, and what it is told: unlogged, gone within minutes (ADR 0053).
_expiry, _unlogged = Column("expires_at", BigInteger, nullable=False), ["UNLOGGED"]
watch = Table("watch", metadata, key("source_id", Integer), key("watcher", Uuid), _expiry, prefixes=_unlogged)

watched = Table(
    "watched",
    metadata,
    key("source_id", Integer),
    key("at", BigInteger),
    key("body_id", Uuid),
    Column("lines", Text, nullable=False),  # JSON: types, fit names and codes, as in `dropped`; vault.sources.watched
    prefixes=_unlogged,
)

destination_token = Table(
    "destination_token",
    metadata,
    key("token_hash", LargeBinary),
    Column("destination", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("code", LargeBinary),
)

webhook = Table(
    "webhook",
    metadata,
    key("destination", Integer),
    Column("url", Text, nullable=False),
    Column("cursor", Text),
    Column("failures", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("delivered_at", BigInteger),
    Column("code", LargeBinary),  # over destination and URL, keyed with the webhook's secret
)

staff = Table(
    "staff",
    metadata,
    key("staff_id", Uuid),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("code", LargeBinary),
)

staff_token = Table(
    "staff_token",
    metadata,
    key("token_hash", LargeBinary),
    Column("staff_id", Uuid, ForeignKey("staff.staff_id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("code", LargeBinary),
)
