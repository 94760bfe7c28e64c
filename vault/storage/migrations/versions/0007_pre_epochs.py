"""Which epochs a rotation opened, and how far it came: closes the older ones to whoever has not heard of it."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know the table rotates nothing, and no rotation may run beside it

EPOCH: Final = """
CREATE TABLE keys.epoch (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    turn BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    position UUID,
    moved BIGINT NOT NULL,
    done_at BIGINT,
    PRIMARY KEY (name, version)
)
"""


def upgrade() -> None:
    """An empty table."""
    op.execute(sa.text(EPOCH))


def downgrade() -> None:
    """Nothing says any more which epochs are closed: only where no rotation ever ran."""
    op.execute(sa.text("DROP TABLE keys.epoch"))
