"""A user-window says in which segment its user was."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("windows", sa.Column("segment", sa.String(200), nullable=True))
