"""A column by which a role may hold a row without the right to change it; codes beside rows that decide without one."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know these columns leaves the codes empty, and the next one refuses such rows

STATEMENTS: Final = (
    "ALTER TABLE subject ADD COLUMN pin BOOLEAN",
    "ALTER TABLE keys.subject_key ADD COLUMN pin BOOLEAN",
    "ALTER TABLE change ADD COLUMN pin BOOLEAN",
    "ALTER TABLE source ADD COLUMN code BYTEA",
    "ALTER TABLE destination_token ADD COLUMN code BYTEA",
    "ALTER TABLE staff ADD COLUMN code BYTEA",
    "ALTER TABLE staff_token ADD COLUMN code BYTEA",
    "ALTER TABLE identity ADD COLUMN code BYTEA",
)
BEFORE: Final = (
    "ALTER TABLE identity DROP COLUMN code",
    "ALTER TABLE staff_token DROP COLUMN code",
    "ALTER TABLE staff DROP COLUMN code",
    "ALTER TABLE destination_token DROP COLUMN code",
    "ALTER TABLE source DROP COLUMN code",
    "ALTER TABLE change DROP COLUMN pin",
    "ALTER TABLE keys.subject_key DROP COLUMN pin",
    "ALTER TABLE subject DROP COLUMN pin",
)


def upgrade() -> None:
    """Columns without a default: no table is rewritten."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Rows are believed as they stand, as before."""
    for statement in BEFORE:
        op.execute(sa.text(statement))
