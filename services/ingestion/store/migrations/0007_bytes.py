"""A segment says how many bytes it holds unpacked; of older ones nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("segments", "inference_segments"):
        op.add_column(table, sa.Column("bytes", sa.BigInteger, nullable=True))


def downgrade() -> None:
    for table in ("segments", "inference_segments"):
        op.drop_column(table, "bytes")
