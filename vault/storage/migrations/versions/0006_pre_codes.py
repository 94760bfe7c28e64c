"""Codes beside what certificates and deliveries rest on, so that a row which nobody with a key wrote is not believed."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know these columns leaves them empty, and the next one refuses such rows

STATEMENTS: Final = (
    "ALTER TABLE request ADD COLUMN code BYTEA",
    "ALTER TABLE recipient_notice ADD COLUMN told_code BYTEA",
    "ALTER TABLE recipient_notice ADD COLUMN acknowledged_code BYTEA",
    "ALTER TABLE disclosure_state ADD COLUMN acknowledged_code BYTEA",
    "ALTER TABLE webhook ADD COLUMN code BYTEA",
    "ALTER TABLE audit_in ADD COLUMN code BYTEA",
)
BEFORE: Final = (
    "ALTER TABLE audit_in DROP COLUMN code",
    "ALTER TABLE webhook DROP COLUMN code",
    "ALTER TABLE disclosure_state DROP COLUMN acknowledged_code",
    "ALTER TABLE recipient_notice DROP COLUMN acknowledged_code",
    "ALTER TABLE recipient_notice DROP COLUMN told_code",
    "ALTER TABLE request DROP COLUMN code",
)


def upgrade() -> None:
    """Six columns, none of which rewrites a table."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Rows are believed as they stand, as before."""
    for statement in BEFORE:
        op.execute(sa.text(statement))
