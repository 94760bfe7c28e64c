"""Who belongs to which company or household: a row finds the members of an account; what is known of it lies sealed with them."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
deploy = "pre"  # code that does not know the table never asks for it

STATEMENTS: Final = (
    """CREATE TABLE membership (
        subject_id UUID NOT NULL,
        tag BYTEA NOT NULL,
        event_key BYTEA NOT NULL,
        source_id INTEGER NOT NULL,
        at BIGINT NOT NULL,
        PRIMARY KEY (subject_id, tag)
    )""",
    "CREATE INDEX membership_tag ON membership (tag, subject_id)",
)


def upgrade() -> None:
    """A table more, empty: group calls before this release left events, which stay as they are."""
    for statement in STATEMENTS:
        op.execute(sa.text(statement))


def downgrade() -> None:
    """The table goes. Account traits stay sealed with the people who said them, and are found by nothing."""
    op.execute(sa.text("DROP TABLE membership"))
