"""What reviewers, operators, judges and erased subjects decided; which ledger a dataset version has."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _owner():
    return sa.Column("tenant", sa.String(63), primary_key=True), sa.Column("task", sa.String(63), primary_key=True)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("ledger_digest", sa.String(80), nullable=False, server_default=""))
    op.add_column("datasets", sa.Column("quarantined", sa.Text, nullable=True))
    op.create_table(
        "tasks",
        *_owner(),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("base_digest", sa.String(80), nullable=False),
    )
    op.create_table(
        "review",
        *_owner(),
        sa.Column("item_id", sa.String(40), primary_key=True),
        sa.Column("row_id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=True),
        sa.Column("suggestion", sa.Text, nullable=False),
        sa.Column("doubt", sa.Float, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("user", sa.String(80), nullable=False),
        sa.Column("dataset", sa.Integer, nullable=False),
        sa.Column("new_input", sa.Text, nullable=True),
        sa.Column("new_answer", sa.Text, nullable=True),
        sa.Column("new_category", sa.Text, nullable=True),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("decided_at", sa.Float, nullable=True),
    )
    op.create_table(
        "overrides",
        *_owner(),
        sa.Column("rule", sa.String(63), primary_key=True),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_at", sa.Float, nullable=False),
    )
    op.create_table(
        "verdicts",
        *_owner(),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("score", sa.Integer, nullable=False),
    )
    op.create_table(
        "erasures",
        *_owner(),
        sa.Column("user", sa.String(80), primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("row_ids", sa.Text, nullable=False),
        sa.Column("touched", sa.Text, nullable=False),
        sa.Column("garbage", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
    )
    op.create_index("review_by_value", "review", ["tenant", "task", "state", "value"])
    op.create_index("review_by_row", "review", ["tenant", "task", "row_id"])


def downgrade() -> None:
    for table in ("erasures", "verdicts", "overrides", "review", "tasks"):
        op.drop_table(table)
    for column in ("quarantined", "ledger_digest"):
        op.drop_column("datasets", column)
