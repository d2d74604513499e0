"""Which objects are audits of a task, so that an erasure finds what they quote."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(80), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("audits")
