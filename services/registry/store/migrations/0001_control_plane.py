"""Tasks, versions, turns and the audit log."""

import sqlalchemy as sa
from alembic import op

from libs.outbox.tables import create_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text(name: str, size: int, **options: object) -> sa.Column:
    return sa.Column(name, sa.String(size), nullable=False, **options)


def number(name: str, *, big: bool = False, **options: object) -> sa.Column:
    return sa.Column(name, sa.BigInteger() if big else sa.Integer(), nullable=False, **options)


def upgrade() -> None:
    create_v1(op)
    op.create_table(
        "tasks",
        text("tenant", 63, primary_key=True),
        text("name", 63, primary_key=True),
        number("revision"),
        sa.Column("spec", sa.JSON(), nullable=False),
        text("base_digest", 80),
        text("salt", 80),
        number("generation", big=True),
        sa.Column("turn_id", sa.String(80), nullable=True),
        number("watermark", big=True),
        number("consumed", big=True),
        number("corrections", big=True),
        number("import_watermark", big=True),
        text("trigger_traceparent", 80),
        number("datasets"),
    )
    op.create_table(
        "versions",
        text("tenant", 63, primary_key=True),
        text("task", 63, primary_key=True),
        number("number", primary_key=True),
        text("digest", 80),
        text("base_digest", 80),
        text("adapter_digest", 80),
        text("status", 20),
        text("grounds", 20),
        text("dataset_digest", 80),
        text("run_id", 80),
        text("run_manifest_digest", 80),
        text("report_id", 80),
        text("report_digest", 80),
        text("turn_id", 80),
        text("traceparent", 80),
        sa.Column("open_gates", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
    )
    op.create_table(
        "turns",
        text("turn_id", 80, primary_key=True),
        text("tenant", 63),
        text("task", 63),
        text("trigger", 20),
        text("state", 20),
        sa.Column("reason", sa.Text(), nullable=False),
        text("traceparent", 80),
        number("watermark", big=True),
        number("opened_at", big=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        number("dataset_number"),
        text("dataset_digest", 80),
        text("suite_digest", 80),
        text("run_id", 80),
        number("run_epoch", big=True),
        text("wish", 20),
        number("wish_number"),
        number("version"),
        text("report_id", 80),
        number("share"),
        number("generation", big=True),
        sa.Column("approvals", sa.JSON(), nullable=False),
        sa.Column("assessment", sa.JSON(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
    )
    op.create_index("ix_turns_task", "turns", ["tenant", "task", "opened_at"])
    op.create_table(
        "turn_steps",
        text("turn_id", 80, primary_key=True),
        number("position", primary_key=True),
        text("state", 20),
        sa.Column("reason", sa.Text(), nullable=False),
        number("at", big=True),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.turn_id"]),
    )
    op.create_table(
        "decisions",
        sa.Column("sequence", ROW_ID, primary_key=True, autoincrement=True),
        text("tenant", 63),
        text("task", 63),
        text("turn_id", 80),
        number("at", big=True),
        text("action", 40),
        text("by", 200),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_task", "decisions", ["tenant", "task", "sequence"])


def downgrade() -> None:
    for table in ("decisions", "turn_steps", "turns", "versions", "tasks", "outbox", "inbox"):
        op.drop_table(table)
