"""The objects of an import are named before they are put, and an import says that it lives."""

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
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("import_id", sa.String(80), nullable=False),
    )
    op.create_index("ix_staged_import_id", "staged", ["import_id"])
    op.add_column("imports", sa.Column("seen_at", sa.Float, nullable=True))


def downgrade() -> None:
    op.drop_column("imports", "seen_at")
    op.drop_table("staged")
