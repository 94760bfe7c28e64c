"""The tables of what people ask for, and of what they were answered. Rules: `column`."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, Uuid, text

from vault.storage.column import key, metadata

request = Table(
    "request",
    metadata,
    key("request_id", Uuid),
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
    return Table(name, metadata, key("request_id", Uuid), sealed, ends)


archive, casefile = _of_request("archive"), _of_request("casefile")

recipient_notice = Table(
    "recipient_notice",
    metadata,
    key("request_id", Uuid),
    key("destination", Integer),
    key("subject_id", Uuid),  # the erased root whose pseudonym the recipient knows
    Column("told_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("deadline", BigInteger, nullable=False),
    Column("told_code", LargeBinary),  # rights.codes
    Column("acknowledged_code", LargeBinary),
)

certificate = Table(
    "certificate",
    metadata,
    key("request_id", Uuid),
    key("revision", Integer),
    Column("document", LargeBinary, nullable=False),  # docs/formats/certificate.md
    Column("entry_id", Uuid, nullable=False),  # its leaf
)
