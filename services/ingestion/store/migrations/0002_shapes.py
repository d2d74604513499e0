"""An import says which shape its records had and where its quarantine lies."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("imports", sa.Column("shape", sa.String(40), nullable=False, server_default=""))
    op.add_column("imports", sa.Column("quarantine", sa.String(80), nullable=True))


def downgrade() -> None:
    op.drop_column("imports", "quarantine")
    op.drop_column("imports", "shape")
