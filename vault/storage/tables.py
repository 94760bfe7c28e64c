"""The tables of people, of what is found by a key of its own, of change numbers and of the audit log. Rules: `column`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from vault.storage.column import key, metadata

KEYS_SCHEMA = "keys"  # a data backup can leave this schema out

# --- one person ------------------------------------------------------------------------------------------------------

subject = Table(
    "subject",
    metadata,
    key("subject_id", Uuid),
    # The root of the profile: the subject itself when it is one. Copied from `state`, for finding members; readers trust
    # `state` only.
    Column("root", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),  # docs/formats/state.md
    Column("pin", Boolean),  # never written: storage.privileges
    Index("subject_root", "root"),
)

subject_key = Table(
    "subject_key",
    metadata,
    key("subject_id", Uuid),
    Column("version", Integer, nullable=False),
    Column("wraps", LargeBinary, nullable=False),  # docs/formats/wraps.md
    Column("pin", Boolean),
    schema=KEYS_SCHEMA,
)

epoch = Table(  # one a rotation; who makes wraps or tags states the highest turn that it knows (ADR 0105)
    "epoch",
    metadata,
    key("name", Text),  # as in the key store
    key("version", Integer),
    Column("turn", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("position", Uuid),  # rows up to this subject are done, as far as nobody wrote between
    Column("moved", BigInteger, nullable=False),
    Column("done_at", BigInteger),  # nothing of an older version was left
    schema=KEYS_SCHEMA,
)

compartment = Table(
    "compartment",
    metadata,
    key("subject_id", Uuid),
    key("purposes", BigInteger),
    key("generation", SmallInteger),
    Column("compartment_id", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fields", LargeBinary, nullable=False),  # docs/formats/fields.md
)

event = Table(
    "event",
    metadata,
    key("subject_id", Uuid),
    key("event_key", LargeBinary),
    key("purposes", BigInteger),
    Column("generation", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # corrected time at which it was said
    Column("received_at", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),  # catalogue number; 0 where the name itself is sensitive and sealed
    Column("ct", LargeBinary, nullable=False),  # docs/formats/event.md
)

ledger = Table(
    "ledger",
    metadata,
    key("subject_id", Uuid),
    key("sequence", Integer),
    Column("entry", LargeBinary, nullable=False),  # docs/formats/ledger.md: choices, times, names; no personal value
    Column("evidence", LargeBinary),  # sealed
)

identifier = Table(
    "identifier",
    metadata,
    key("subject_id", Uuid),
    key("tag", LargeBinary),
    Column("kind", SmallInteger, nullable=False),
    Column("source_id", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("confirmed", Boolean, nullable=False),
)

link = Table(
    "link",
    metadata,
    key("subject_id", Uuid),  # the member
    key("root", Uuid),
    key("event_key", LargeBinary),  # the message that gave the evidence
    Column("source_id", Integer, nullable=False),
    Column("rule", SmallInteger, nullable=False),  # identity.graph.Rule
    Column("kind", SmallInteger, nullable=False),  # identifier kind that joined them
    Column("confirmed", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("undone_at", BigInteger),
    Index("link_root", "root"),
)

membership = Table(
    "membership",
    metadata,
    key("subject_id", Uuid),
    key("tag", LargeBinary),  # keyed tag of the account, shared by its members (ADR 0075)
    Column("event_key", LargeBinary, nullable=False),  # the message that gave the evidence
    Column("source_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("membership_tag", "tag", "subject_id"),
)

disclosure = Table(
    "disclosure",
    metadata,
    key("subject_id", Uuid),  # the root of the profile at the time
    key("destination", Integer),
    key("page", Uuid),
    Column("at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),  # change number
    Column("policy", Integer, nullable=False),  # policy_version.number
    Column("salt", LargeBinary, nullable=False),  # of its leaf under the page's audit entry
    Column("detail", LargeBinary, nullable=False),  # docs/formats/disclosure.md: purposes, bases, fields, transforms
)

disclosure_state = Table(
    "disclosure_state",
    metadata,
    key("subject_id", Uuid),
    key("destination", Integer),
    Column("fields", LargeBinary, nullable=False),  # object numbers now held there, two bytes each
    Column("gone", LargeBinary, nullable=False),  # object numbers once held and retracted
    Column("gone_number", BigInteger),  # change number of the latest retraction
    Column("removed_number", BigInteger),  # change number of the `remove` line, when nothing is held any more
    Column("reason", Text),  # why it was removed
    Column("into_root", Uuid),  # for reason `merged`
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_code", LargeBinary),  # disclosures.store
    # What a destination was told to delete, in the order in which it is repeated.
    Index(
        "disclosure_state_removed", "destination", "removed_number", postgresql_where=text("removed_number IS NOT NULL")
    ),
)

audit_salt = Table(
    "audit_salt",
    metadata,
    key("subject_id", Uuid),
    key("entry_id", Uuid),
    Column("salt", LargeBinary, nullable=False),
)

due = Table(
    "due",
    metadata,
    key("at", BigInteger),
    key("subject_id", Uuid),
    key("what", SmallInteger),
    Index("due_subject", "subject_id"),
)

# --- found by a key of their own -------------------------------------------------------------------------------------

identity = Table(
    "identity",
    metadata,
    key("tag", LargeBinary),
    Column("subject_id", Uuid, nullable=False),
    Column("code", LargeBinary),  # flows.tags.Finder
)

dedup = Table(
    "dedup",
    metadata,
    key("event_key", LargeBinary),
    Column("digest", LargeBinary, nullable=False),
    Column("day", Integer, nullable=False),
    Index("dedup_day", "day"),
)

tombstone = Table(
    "tombstone",
    metadata,
    key("tag", LargeBinary),
    Column("key_version", SmallInteger, nullable=False),
    Column("until", BigInteger, nullable=False),  # events said before the end of that day are dropped as late
    Column("suppress", Boolean, nullable=False),
    Column("objected", BigInteger, nullable=False),  # mask of objections that outlive the erasure
)

erased = Table(
    "erased",
    metadata,
    key("subject_id", Uuid),
    Column("at", BigInteger, nullable=False),
    Column("request_id", Uuid, nullable=False),
)

# --- change numbers, leases, audit -----------------------------------------------------------------------------------

change_in = Table(
    "change_in",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("subject_id", Uuid, nullable=False),
)

change = Table(
    "change",
    metadata,
    key("subject_id", Uuid),  # one row a profile: the latest change only
    Column("number", BigInteger, nullable=False),
    Column("pin", Boolean),
    Index("change_number", "number", unique=True),
)

lease = Table(
    "lease",
    metadata,
    key("name", Text),
    Column("holder", Uuid),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),  # the sequencer's last number, the log's last index
)

instance = Table("instance", metadata, key("name", Text), Column("value", Text, nullable=False))  # incarnation, log

_leaf, _code = Column("leaf", LargeBinary, nullable=False), Column("code", LargeBinary)  # audit.store.waiting_code
audit_in = Table("audit_in", metadata, key("entry_id", Uuid), _leaf, _code)

audit = Table(
    "audit",
    metadata,
    key("number", BigInteger),  # index of the leaf, from 0
    Column("entry_id", Uuid, nullable=False, unique=True),
    Column("leaf", LargeBinary, nullable=False),  # docs/formats/audit-entry.md
)

_hash = Column("hash", LargeBinary, nullable=False)  # complete subtrees only
audit_node = Table("audit_node", metadata, key("level", SmallInteger), key("position", BigInteger), _hash)

checkpoint = Table(
    "checkpoint",
    metadata,
    key("size", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("note", Text, nullable=False),  # C2SP signed note
)
