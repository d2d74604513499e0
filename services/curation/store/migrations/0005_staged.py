"""Which objects a build is about to put, so that an erasure finds what a killed one left."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "staged",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(80), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("staged")
