"""What a run was made of and what came of it: its manifest, its plan, its samples, its figures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("run_manifest_digest", sa.String(80), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("details", sa.JSON, nullable=False, server_default="{}"))
