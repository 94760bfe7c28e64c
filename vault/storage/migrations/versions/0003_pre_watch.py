"""Who watches which source now, and what became of the messages since: short-lived, outside the WAL, without personal data."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know these tables never asks for them

# Unlogged: a verdict is worth nothing after a crash, and writing it down must cost the ingest path no flush.
STATEMENTS: Final = (
    """CREATE UNLOGGED TABLE watch (
        source_id INTEGER NOT NULL,
        watcher UUID NOT NULL,
        expires_at BIGINT NOT NULL,
        PRIMARY KEY (source_id, watcher)
    )""",
    """CREATE UNLOGGED TABLE watched (
        source_id INTEGER NOT NULL,
        at BIGINT NOT NULL,
        body_id UUID NOT NULL,
        lines TEXT NOT NULL,
        PRIMARY KEY (source_id, at, body_id)
    )""",
)


def upgrade() -> None:
    """Two tables more."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Nothing of lasting worth is in them."""
    for name in ("watched", "watch"):
        op.execute(sa.text(f"DROP TABLE {name}"))
