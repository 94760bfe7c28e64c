"""What the state audit found: a row each, so that it is said once in the log and shown for as long as it is so."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know the table leaves it empty

STATEMENTS: Final = (
    """CREATE TABLE integrity_finding (
        subject_id UUID NOT NULL,
        found SMALLINT NOT NULL,
        count INTEGER NOT NULL,
        first_at BIGINT NOT NULL,
        seen_at BIGINT NOT NULL,
        code BYTEA NOT NULL,
        PRIMARY KEY (subject_id, found)
    )""",
)
BEFORE: Final = ("DROP TABLE integrity_finding",)


def upgrade() -> None:
    """One small table."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Findings are told by the audit log alone."""
    for statement in BEFORE:
        op.execute(sa.text(statement))
