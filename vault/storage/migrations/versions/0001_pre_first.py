"""The first schema, whole: every stored format of design section 13 has its table. Frozen; later shapes are later files.

Storage parameters are those that performance section 8.1 measured: sealed bytes stay in the row, uncompressed (they do not
compress), and rows that ingest rewrites leave room on their page for the next version.
"""

import secrets
import time
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
deploy = "pre"  # runs before the new code does

STATEMENTS: Final = (
    "CREATE SCHEMA keys",
    """CREATE TABLE subject (
        subject_id UUID NOT NULL,
        root UUID NOT NULL,
        version BIGINT NOT NULL,
        state BYTEA NOT NULL,
        PRIMARY KEY (subject_id)
    ) WITH (fillfactor = 70)""",
    "CREATE INDEX subject_root ON subject (root)",
    "ALTER TABLE subject ALTER COLUMN state SET STORAGE EXTERNAL",
    """CREATE TABLE keys.subject_key (
        subject_id UUID NOT NULL,
        version INTEGER NOT NULL,
        wraps BYTEA NOT NULL,
        PRIMARY KEY (subject_id)
    ) WITH (fillfactor = 90, toast_tuple_target = 8160)""",
    "ALTER TABLE keys.subject_key ALTER COLUMN wraps SET STORAGE EXTERNAL",
    """CREATE TABLE compartment (
        subject_id UUID NOT NULL,
        purposes BIGINT NOT NULL,
        generation SMALLINT NOT NULL,
        compartment_id BYTEA NOT NULL,
        version INTEGER NOT NULL,
        fields BYTEA NOT NULL,
        PRIMARY KEY (subject_id, purposes, generation)
    ) WITH (fillfactor = 75, toast_tuple_target = 8160)""",
    "ALTER TABLE compartment ALTER COLUMN fields SET STORAGE EXTERNAL",
    """CREATE TABLE event (
        subject_id UUID NOT NULL,
        event_key BYTEA NOT NULL,
        purposes BIGINT NOT NULL,
        generation SMALLINT NOT NULL,
        at BIGINT NOT NULL,
        received_at BIGINT NOT NULL,
        kind INTEGER NOT NULL,
        ct BYTEA NOT NULL,
        PRIMARY KEY (subject_id, event_key, purposes)
    )""",
    "ALTER TABLE event ALTER COLUMN ct SET STORAGE EXTERNAL",
    """CREATE TABLE ledger (
        subject_id UUID NOT NULL,
        sequence INTEGER NOT NULL,
        entry BYTEA NOT NULL,
        evidence BYTEA,
        PRIMARY KEY (subject_id, sequence)
    )""",
    """CREATE TABLE identifier (
        subject_id UUID NOT NULL,
        tag BYTEA NOT NULL,
        kind SMALLINT NOT NULL,
        source_id INTEGER NOT NULL,
        first_at BIGINT NOT NULL,
        confirmed BOOLEAN NOT NULL,
        PRIMARY KEY (subject_id, tag)
    )""",
    """CREATE TABLE link (
        subject_id UUID NOT NULL,
        root UUID NOT NULL,
        event_key BYTEA NOT NULL,
        source_id INTEGER NOT NULL,
        rule SMALLINT NOT NULL,
        kind SMALLINT NOT NULL,
        confirmed BOOLEAN NOT NULL,
        at BIGINT NOT NULL,
        undone_at BIGINT,
        PRIMARY KEY (subject_id, root, event_key)
    )""",
    "CREATE INDEX link_root ON link (root)",
    """CREATE TABLE disclosure (
        subject_id UUID NOT NULL,
        destination INTEGER NOT NULL,
        page UUID NOT NULL,
        at BIGINT NOT NULL,
        number BIGINT NOT NULL,
        policy INTEGER NOT NULL,
        salt BYTEA NOT NULL,
        detail BYTEA NOT NULL,
        PRIMARY KEY (subject_id, destination, page)
    )""",
    """CREATE TABLE disclosure_state (
        subject_id UUID NOT NULL,
        destination INTEGER NOT NULL,
        fields BYTEA NOT NULL,
        gone BYTEA NOT NULL,
        gone_number BIGINT,
        removed_number BIGINT,
        reason TEXT,
        into_root UUID,
        acknowledged_at BIGINT,
        PRIMARY KEY (subject_id, destination)
    ) WITH (fillfactor = 80)""",
    "ALTER TABLE disclosure_state ALTER COLUMN fields SET STORAGE EXTERNAL",
    "ALTER TABLE disclosure_state ALTER COLUMN gone SET STORAGE EXTERNAL",
    """CREATE INDEX disclosure_state_removed ON disclosure_state (destination, removed_number)
        WHERE removed_number IS NOT NULL""",
    """CREATE TABLE audit_salt (
        subject_id UUID NOT NULL,
        entry_id UUID NOT NULL,
        salt BYTEA NOT NULL,
        PRIMARY KEY (subject_id, entry_id)
    )""",
    """CREATE TABLE due (
        at BIGINT NOT NULL,
        subject_id UUID NOT NULL,
        what SMALLINT NOT NULL,
        PRIMARY KEY (at, subject_id, what)
    )""",
    "CREATE INDEX due_subject ON due (subject_id)",
    """CREATE TABLE identity (
        tag BYTEA NOT NULL,
        subject_id UUID NOT NULL,
        PRIMARY KEY (tag) INCLUDE (subject_id)
    )""",
    """CREATE TABLE dedup (
        event_key BYTEA NOT NULL,
        digest BYTEA NOT NULL,
        day INTEGER NOT NULL,
        PRIMARY KEY (event_key) INCLUDE (digest, day)
    )""",
    "CREATE INDEX dedup_day ON dedup (day)",
    """CREATE TABLE tombstone (
        tag BYTEA NOT NULL,
        key_version SMALLINT NOT NULL,
        until BIGINT NOT NULL,
        suppress BOOLEAN NOT NULL,
        objected BIGINT NOT NULL,
        PRIMARY KEY (tag)
    )""",
    """CREATE TABLE erased (
        subject_id UUID NOT NULL,
        at BIGINT NOT NULL,
        request_id UUID NOT NULL,
        PRIMARY KEY (subject_id)
    )""",
    """CREATE TABLE change_in (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        subject_id UUID NOT NULL,
        PRIMARY KEY (id)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)""",
    """CREATE TABLE change (
        subject_id UUID NOT NULL,
        number BIGINT NOT NULL,
        PRIMARY KEY (subject_id)
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)""",
    "CREATE UNIQUE INDEX change_number ON change (number)",
    """CREATE TABLE lease (
        name TEXT NOT NULL,
        holder UUID,
        fencing BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (name)
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE instance (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (name)
    )""",
    """CREATE TABLE audit_in (
        entry_id UUID NOT NULL,
        leaf BYTEA NOT NULL,
        PRIMARY KEY (entry_id)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)""",
    """CREATE TABLE audit (
        number BIGINT NOT NULL,
        entry_id UUID NOT NULL,
        leaf BYTEA NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (entry_id)
    )""",
    """CREATE TABLE audit_node (
        level SMALLINT NOT NULL,
        position BIGINT NOT NULL,
        hash BYTEA NOT NULL,
        PRIMARY KEY (level, position)
    )""",
    """CREATE TABLE checkpoint (
        size BIGINT NOT NULL,
        at BIGINT NOT NULL,
        note TEXT NOT NULL,
        PRIMARY KEY (size)
    )""",
    """CREATE TABLE policy_version (
        number INTEGER NOT NULL,
        digest BYTEA NOT NULL,
        files BYTEA NOT NULL,
        applied_at BIGINT NOT NULL,
        applied_by TEXT NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (digest)
    )""",
    """CREATE TABLE source (
        source_id INTEGER GENERATED BY DEFAULT AS IDENTITY,
        name TEXT NOT NULL,
        server BOOLEAN NOT NULL,
        key_hash BYTEA NOT NULL,
        created_at BIGINT NOT NULL,
        disabled_at BIGINT,
        PRIMARY KEY (source_id),
        UNIQUE (name),
        UNIQUE (key_hash)
    )""",
    """CREATE TABLE dropped (
        source_id INTEGER NOT NULL,
        day INTEGER NOT NULL,
        type TEXT NOT NULL,
        name TEXT NOT NULL,
        reason TEXT NOT NULL,
        count BIGINT NOT NULL,
        PRIMARY KEY (source_id, day, type, name, reason)
    )""",
    """CREATE TABLE destination_token (
        token_hash BYTEA NOT NULL,
        destination INTEGER NOT NULL,
        created_at BIGINT NOT NULL,
        revoked_at BIGINT,
        PRIMARY KEY (token_hash)
    )""",
    """CREATE TABLE webhook (
        destination INTEGER NOT NULL,
        url TEXT NOT NULL,
        cursor TEXT,
        failures INTEGER NOT NULL,
        next_at BIGINT NOT NULL,
        disabled_at BIGINT,
        delivered_at BIGINT,
        PRIMARY KEY (destination)
    )""",
    """CREATE TABLE staff (
        staff_id UUID NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        disabled_at BIGINT,
        PRIMARY KEY (staff_id),
        UNIQUE (name)
    )""",
    """CREATE TABLE staff_token (
        token_hash BYTEA NOT NULL,
        staff_id UUID NOT NULL,
        created_at BIGINT NOT NULL,
        revoked_at BIGINT,
        PRIMARY KEY (token_hash),
        FOREIGN KEY (staff_id) REFERENCES staff (staff_id)
    )""",
    """CREATE TABLE request (
        request_id UUID NOT NULL,
        type TEXT NOT NULL,
        state TEXT NOT NULL,
        step TEXT NOT NULL,
        subject_id UUID,
        received_at BIGINT NOT NULL,
        due_at BIGINT NOT NULL,
        finished_at BIGINT,
        opened_by UUID NOT NULL,
        detail BYTEA NOT NULL,
        PRIMARY KEY (request_id)
    )""",
    """CREATE TABLE archive (
        request_id UUID NOT NULL,
        sealed BYTEA NOT NULL,
        expires_at BIGINT NOT NULL,
        PRIMARY KEY (request_id)
    )""",
    """CREATE TABLE casefile (
        request_id UUID NOT NULL,
        sealed BYTEA NOT NULL,
        expires_at BIGINT NOT NULL,
        PRIMARY KEY (request_id)
    )""",
    """CREATE TABLE recipient_notice (
        request_id UUID NOT NULL,
        destination INTEGER NOT NULL,
        subject_id UUID NOT NULL,
        told_at BIGINT,
        acknowledged_at BIGINT,
        deadline BIGINT NOT NULL,
        PRIMARY KEY (request_id, destination, subject_id)
    )""",
    """CREATE TABLE certificate (
        request_id UUID NOT NULL,
        revision INTEGER NOT NULL,
        document BYTEA NOT NULL,
        entry_id UUID NOT NULL,
        PRIMARY KEY (request_id, revision)
    )""",
)


def upgrade() -> None:
    """Creates everything, and names this instance."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))
    names = {
        "created_at": str(time.time_ns() // 1000),  # microseconds
        "incarnation": secrets.token_hex(16),  # part of every cursor
        "log": secrets.token_hex(8),  # part of the audit log's name, kept for as long as the log
    }
    insert = sa.text("INSERT INTO instance (name, value) VALUES (:name, :value)")
    for name, value in names.items():
        op.execute(insert.bindparams(name=name, value=value))


def downgrade() -> None:
    """There is nothing before the first schema."""
    raise RuntimeError("there is no way back before the first schema; restore a backup instead")
