"""${message}. Frozen once released."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
deploy = "pre"  # "pre": before the new code runs; "post": once the old code is gone


def upgrade() -> None:
    """Say what changes, and why it is safe beside the code that runs."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """A released schema goes forward only."""
    raise NotImplementedError("restore a backup instead")
