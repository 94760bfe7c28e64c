"""Compartments and wraps are packed closer; the requests of a person are found without walking all that ever were."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
deploy = "pre"  # any code reads and writes rows wherever they lie

# What lies there already is moved by its next writes, or all at once by VACUUM (FULL) when somebody has the time.
STATEMENTS: Final = (
    "ALTER TABLE compartment SET (fillfactor = 90)",
    "ALTER TABLE keys.subject_key SET (fillfactor = 100)",
    "CREATE INDEX request_subject ON request (subject_id) WHERE subject_id IS NOT NULL",
)
BEFORE: Final = (
    "DROP INDEX request_subject",
    "ALTER TABLE keys.subject_key SET (fillfactor = 90)",
    "ALTER TABLE compartment SET (fillfactor = 75)",
)


def upgrade() -> None:
    """Room that updates did not need, and one small index."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """Only where rows go from now on."""
    for statement in BEFORE:
        op.execute(sa.text(statement))
