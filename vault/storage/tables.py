"""The whole schema on one page. `migrations/` creates exactly this; a test compares the two.

Rules that every table keeps (design section 13):
- What a person has is keyed by `subject_id` first. The exceptions (identity, dedup, tombstone, audit, change_in) are
  keyed by a tag or number of their own.
- Times are `bigint` microseconds since 1970 UTC, given by the application; ids come from the application.
- Personal values appear in `bytea` columns only, sealed. Text columns hold names from policies, codes and labels that
  operators choose for sources and staff.
- No index on a column that ordinary ingest changes: every such update stays HOT.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

metadata = MetaData()
KEYS_SCHEMA = "keys"  # a data backup can leave this schema out


def _key(name: str, kind: object, **options: object) -> Column:  # type: ignore[type-arg]
    return Column(name, kind, primary_key=True, **options)  # type: ignore[arg-type]


# --- one person ------------------------------------------------------------------------------------------------------

subject = Table(
    "subject",
    metadata,
    _key("subject_id", Uuid),
    # The root of the profile: the subject itself when it is one. Copied from `state`, for finding members; readers trust
    # `state` only.
    Column("root", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),  # docs/formats/state.md
    Index("subject_root", "root"),
)

subject_key = Table(
    "subject_key",
    metadata,
    _key("subject_id", Uuid),
    Column("version", Integer, nullable=False),
    Column("wraps", LargeBinary, nullable=False),  # docs/formats/wraps.md
    schema=KEYS_SCHEMA,
)

compartment = Table(
    "compartment",
    metadata,
    _key("subject_id", Uuid),
    _key("purposes", BigInteger),
    _key("generation", SmallInteger),
    Column("compartment_id", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fields", LargeBinary, nullable=False),  # docs/formats/fields.md
)

event = Table(
    "event",
    metadata,
    _key("subject_id", Uuid),
    _key("event_key", LargeBinary),
    _key("purposes", BigInteger),
    Column("generation", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # corrected time at which it was said
    Column("received_at", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),  # catalogue number; 0 where the name itself is sensitive and sealed
    Column("ct", LargeBinary, nullable=False),  # docs/formats/event.md
)

ledger = Table(
    "ledger",
    metadata,
    _key("subject_id", Uuid),
    _key("sequence", Integer),
    Column("entry", LargeBinary, nullable=False),  # docs/formats/ledger.md: choices, times, names; no personal value
    Column("evidence", LargeBinary),  # sealed
)

identifier = Table(
    "identifier",
    metadata,
    _key("subject_id", Uuid),
    _key("tag", LargeBinary),
    Column("kind", SmallInteger, nullable=False),
    Column("source_id", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("confirmed", Boolean, nullable=False),
)

link = Table(
    "link",
    metadata,
    _key("subject_id", Uuid),  # the member
    _key("root", Uuid),
    _key("event_key", LargeBinary),  # the message that gave the evidence
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
    _key("subject_id", Uuid),
    _key("tag", LargeBinary),  # keyed tag of the account, shared by its members (ADR 0075)
    Column("event_key", LargeBinary, nullable=False),  # the message that gave the evidence
    Column("source_id", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("membership_tag", "tag", "subject_id"),
)

disclosure = Table(
    "disclosure",
    metadata,
    _key("subject_id", Uuid),  # the root of the profile at the time
    _key("destination", Integer),
    _key("page", Uuid),
    Column("at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),  # change number
    Column("policy", Integer, nullable=False),  # policy_version.number
    Column("salt", LargeBinary, nullable=False),  # of its leaf under the page's audit entry
    Column("detail", LargeBinary, nullable=False),  # docs/formats/disclosure.md: purposes, bases, fields, transforms
)

disclosure_state = Table(
    "disclosure_state",
    metadata,
    _key("subject_id", Uuid),
    _key("destination", Integer),
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
    _key("subject_id", Uuid),
    _key("entry_id", Uuid),
    Column("salt", LargeBinary, nullable=False),
)

due = Table(
    "due",
    metadata,
    _key("at", BigInteger),
    _key("subject_id", Uuid),
    _key("what", SmallInteger),
    Index("due_subject", "subject_id"),
)

# --- found by a key of their own -------------------------------------------------------------------------------------

identity = Table("identity", metadata, _key("tag", LargeBinary), Column("subject_id", Uuid, nullable=False))

dedup = Table(
    "dedup",
    metadata,
    _key("event_key", LargeBinary),
    Column("digest", LargeBinary, nullable=False),
    Column("day", Integer, nullable=False),
    Index("dedup_day", "day"),
)

tombstone = Table(
    "tombstone",
    metadata,
    _key("tag", LargeBinary),
    Column("key_version", SmallInteger, nullable=False),
    Column("until", BigInteger, nullable=False),  # events said before the end of that day are dropped as late
    Column("suppress", Boolean, nullable=False),
    Column("objected", BigInteger, nullable=False),  # mask of objections that outlive the erasure
)

erased = Table(
    "erased",
    metadata,
    _key("subject_id", Uuid),
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
    _key("subject_id", Uuid),  # one row a profile: the latest change only
    Column("number", BigInteger, nullable=False),
    Index("change_number", "number", unique=True),
)

lease = Table(
    "lease",
    metadata,
    _key("name", Text),
    Column("holder", Uuid),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),  # the sequencer's last number, the log's last index
)

instance = Table("instance", metadata, _key("name", Text), Column("value", Text, nullable=False))  # incarnation, log

_leaf, _code = Column("leaf", LargeBinary, nullable=False), Column("code", LargeBinary)  # audit.store.waiting_code
audit_in = Table("audit_in", metadata, _key("entry_id", Uuid), _leaf, _code)

audit = Table(
    "audit",
    metadata,
    _key("number", BigInteger),  # index of the leaf, from 0
    Column("entry_id", Uuid, nullable=False, unique=True),
    Column("leaf", LargeBinary, nullable=False),  # docs/formats/audit-entry.md
)

_hash = Column("hash", LargeBinary, nullable=False)  # complete subtrees only
audit_node = Table("audit_node", metadata, _key("level", SmallInteger), _key("position", BigInteger), _hash)

checkpoint = Table(
    "checkpoint",
    metadata,
    _key("size", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("note", Text, nullable=False),  # C2SP signed note
)

# --- who may speak to the vault --------------------------------------------------------------------------------------

policy_version = Table(
    "policy_version",
    metadata,
    _key("number", Integer),
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
)

dropped = Table(
    "dropped",
    metadata,
    _key("source_id", Integer),
    _key("day", Integer),
    _key("type", Text),  # of the message, or `property:TYPE:EVENT`, or trait
    _key("name", Text),  # catalogue or fit name, else `(unfit name)` or `(sensitive name)`
    _key("reason", Text),
    Column("count", BigInteger, nullable=False),
)

# A command that looks on, and what it is told: unlogged, gone within minutes (ADR 0053).
_expiry, _unlogged = Column("expires_at", BigInteger, nullable=False), ["UNLOGGED"]
watch = Table("watch", metadata, _key("source_id", Integer), _key("watcher", Uuid), _expiry, prefixes=_unlogged)

watched = Table(
    "watched",
    metadata,
    _key("source_id", Integer),
    _key("at", BigInteger),
    _key("body_id", Uuid),
    Column("lines", Text, nullable=False),  # JSON: types, fit names and codes, as in `dropped`; vault.sources.watched
    prefixes=_unlogged,
)

destination_token = Table(
    "destination_token",
    metadata,
    _key("token_hash", LargeBinary),
    Column("destination", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

webhook = Table(
    "webhook",
    metadata,
    _key("destination", Integer),
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
    _key("staff_id", Uuid),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

staff_token = Table(
    "staff_token",
    metadata,
    _key("token_hash", LargeBinary),
    Column("staff_id", Uuid, ForeignKey("staff.staff_id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

# --- requests of the people ------------------------------------------------------------------------------------------

request = Table(
    "request",
    metadata,
    _key("request_id", Uuid),
    Column("type", Text, nullable=False),  # access, portability, erasure
    Column("state", Text, nullable=False),  # rights.request.State
    Column("step", Text, nullable=False),  # the next step of its journey
    Column("subject_id", Uuid),  # null once erased
    Column("received_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("opened_by", Uuid, nullable=False),  # staff_id
    Column("detail", LargeBinary, nullable=False),  # canonical JSON: counts, stores, recipients; no personal value
    Column("code", LargeBinary),  # rights.codes
    Index("request_subject", "subject_id", postgresql_where=text("subject_id IS NOT NULL")),
)


def _of_request(name: str) -> Table:
    sealed, ends = Column("sealed", LargeBinary, nullable=False), Column("expires_at", BigInteger, nullable=False)
    return Table(name, metadata, _key("request_id", Uuid), sealed, ends)


archive, casefile = _of_request("archive"), _of_request("casefile")

recipient_notice = Table(
    "recipient_notice",
    metadata,
    _key("request_id", Uuid),
    _key("destination", Integer),
    _key("subject_id", Uuid),  # the erased root whose pseudonym the recipient knows
    Column("told_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("deadline", BigInteger, nullable=False),
    Column("told_code", LargeBinary),  # rights.codes
    Column("acknowledged_code", LargeBinary),
)

certificate = Table(
    "certificate",
    metadata,
    _key("request_id", Uuid),
    _key("revision", Integer),
    Column("document", LargeBinary, nullable=False),  # docs/formats/certificate.md
    Column("entry_id", Uuid, nullable=False),  # its leaf
)
