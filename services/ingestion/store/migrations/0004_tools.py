"""An inference that used tools is remembered with them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inferences", sa.Column("messages", sa.Text, nullable=True))
    op.add_column("inferences", sa.Column("tools", sa.Text, nullable=True))


def downgrade() -> None:
    op.drop_column("inferences", "tools")
    op.drop_column("inferences", "messages")
