"""First tables of curation."""

import sqlalchemy as sa
from alembic import op

from libs.outbox.tables import create_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _owner():
    return sa.Column("tenant", sa.String(63), primary_key=True), sa.Column("task", sa.String(63), primary_key=True)


def upgrade() -> None:
    create_v1(op)
    op.create_table(
        "segments",
        *_owner(),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
    )
    op.create_table(
        "suites",
        *_owner(),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("dataset", sa.Integer, nullable=False),
    )
    op.create_table(
        "datasets",
        *_owner(),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("report_digest", sa.String(80), nullable=False),
        sa.Column("suite_digest", sa.String(80), nullable=False),
        sa.Column("suite_version", sa.Integer, nullable=False),
        sa.Column("fractions", sa.Text, nullable=False),
        sa.Column("splits", sa.Text, nullable=False),
        sa.Column("removed", sa.Text, nullable=False),
        sa.Column("categories", sa.Text, nullable=False),
        sa.Column("refused", sa.Text, nullable=True),
        sa.Column("built_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    for table in ("datasets", "suites", "segments", "inbox", "outbox"):
        op.drop_table(table)
