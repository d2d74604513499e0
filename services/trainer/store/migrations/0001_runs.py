"""Runs and their checkpoints."""

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
        "runs",
        sa.Column("run_id", sa.String(100), primary_key=True),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("task", sa.String(63), nullable=False),
        sa.Column("turn_id", sa.String(100), nullable=False),
        sa.Column("base_digest", sa.String(80), nullable=False),
        sa.Column("dataset_digest", sa.String(80), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("total_steps", sa.Integer, nullable=False),
        sa.Column("loss", sa.Float, nullable=False),
        sa.Column("tokens_per_second", sa.Float, nullable=False),
        sa.Column("eta_seconds", sa.Float, nullable=False),
        sa.Column("resumed_at_step", sa.Integer, nullable=False),
        sa.Column("killed_at_step", sa.Integer, nullable=False),
        sa.Column("adapter_digest", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("ix_runs_task", "runs", ["task", "created_at"])
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.String(100), sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
