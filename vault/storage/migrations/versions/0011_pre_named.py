"""The row that names the audit log is nobody's to write but the owner's: the desk writes other rows of that table."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
deploy = "pre"  # older code reads and writes the same rows

# Whoever owns the table is bound by none of them. Rights are given by table and column as before: these only take away.
STATEMENTS: Final = (
    "ALTER TABLE instance ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY everybody_reads ON instance FOR SELECT USING (true)",
    "CREATE POLICY no_new_log ON instance FOR INSERT WITH CHECK (name <> 'log')",
    "CREATE POLICY no_other_log ON instance FOR UPDATE USING (name <> 'log')",
)
BEFORE: Final = (
    "DROP POLICY no_other_log ON instance",
    "DROP POLICY no_new_log ON instance",
    "DROP POLICY everybody_reads ON instance",
    "ALTER TABLE instance DISABLE ROW LEVEL SECURITY",
)


def upgrade() -> None:
    """No row is read or written."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """A right on the table is one on every row again."""
    for statement in BEFORE:
        op.execute(sa.text(statement))
