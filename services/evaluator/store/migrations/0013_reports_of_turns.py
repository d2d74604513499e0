"""Reports say which turn they were made for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reports", sa.Column("turn_id", sa.String(120), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("reports", "turn_id")
