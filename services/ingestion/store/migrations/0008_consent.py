"""Imported rows say whether they came with consent: who takes it back later is told from who says the same again.

And an import names the columns that it did not read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("imported", sa.Column("record", sa.String(64), nullable=True))
    op.add_column("imported", sa.Column("consent", sa.Boolean, nullable=True))
    op.add_column("imports", sa.Column("unread", sa.Text, nullable=True))
    told = sa.text("record IS NOT NULL")
    op.create_index("ix_imported_record", "imported", ["record"], sqlite_where=told, postgresql_where=told)


def downgrade() -> None:
    op.drop_index("ix_imported_record", "imported")
    op.drop_column("imports", "unread")
    for column in ("record", "consent"):
        op.drop_column("imported", column)
