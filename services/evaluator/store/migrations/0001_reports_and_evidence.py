"""Reports, answers and the ledger of live evidence."""

import sqlalchemy as sa
from alembic import op

from libs.outbox.tables import create_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_v1(op)
    op.create_table(
        "reports",
        sa.Column("report_id", sa.String(120), primary_key=True),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("task", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("suite_digest", sa.String(80), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("report_digest", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_reports_task_started_at", "reports", ["task", "started_at"])
    op.create_table(
        "answers",
        sa.Column(
            "report_id", sa.String(120), sa.ForeignKey("reports.report_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("item_id", sa.String(200), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("provenance", sa.JSON(), nullable=False),
    )
    op.create_table(
        "watches",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True),
        sa.Column("turn_id", sa.String(120), nullable=False),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("stable_version", sa.Integer(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("traceparent", sa.String(80), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_watches_ended_at", "watches", ["ended_at"])
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("role", sa.String(20), primary_key=True),
        sa.Column("turn_id", sa.String(120), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(200), nullable=False),
        sa.Column("rho", sa.Float(), nullable=False),
        sa.Column("pair_id", sa.String(200), nullable=True),
        sa.Column("answer_digest", sa.String(80), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_requests_turn_id_role", "requests", ["turn_id", "role"])
    op.create_index("ix_requests_window", "requests", ["tenant", "task", "generation", "unit"])
    op.create_table(
        "outcomes",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("source", sa.String(100), primary_key=True),
        sa.Column("feedback_id", sa.String(255), primary_key=True),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("signal", sa.String(20), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("reference_digest", sa.String(80), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_outcomes_request", "outcomes", ["tenant", "task", "request_id"])
    op.create_table(
        "windows",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True),
        sa.Column("unit", sa.String(200), primary_key=True),
        sa.Column("turn_id", sa.String(120), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("rho", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("closes_at", sa.Float(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("bad", sa.Boolean(), nullable=True),
    )
    op.create_index("ix_windows_turn_id_number", "windows", ["turn_id", "number"])
    op.create_table(
        "assessments",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(63), primary_key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("assessed_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("stream", sa.String(40), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cursors")
    op.drop_table("assessments")
    op.drop_table("windows")
    op.drop_table("outcomes")
    op.drop_table("requests")
    op.drop_table("watches")
    op.drop_table("answers")
    op.drop_table("reports")
    op.drop_table("inbox")
    op.drop_table("outbox")
