"""The table of what the state audit found. Rules: `column`."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Table, Uuid

from vault.storage.column import key, metadata

# Each finding once, for as long as it is found; the audit log keeps that it was.
integrity_finding = Table(
    "integrity_finding",
    metadata,
    key("subject_id", Uuid),  # all zeros: nobody's in particular
    key("found", SmallInteger),  # flows.sweep.finding.NUMBERS
    Column("count", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("code", LargeBinary, nullable=False),  # keyed with `state`: a row that nobody here wrote silences nothing
)
