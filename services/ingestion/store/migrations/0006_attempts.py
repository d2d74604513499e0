"""An import counts its attempts: one that was overtaken stages and ends nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("imports", sa.Column("attempt", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("imports", "attempt")
