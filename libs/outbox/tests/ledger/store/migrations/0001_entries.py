"""Entries, outbox and inbox."""

import sqlalchemy as sa
from alembic import op

from libs.outbox.tables import create_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_v1(op)
    op.create_table(
        "entries",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("amount", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("entries")
