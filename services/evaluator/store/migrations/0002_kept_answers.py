"""Answers under the digest of all they depend on, kept from report to report; evaluations asked for by hand."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_answers",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("task", sa.String(63), nullable=False),
        sa.Column("item_id", sa.String(200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("made_in", sa.String(120), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_kept_answers_used_at", "kept_answers", ["used_at"])
    op.create_index("ix_kept_answers_item", "kept_answers", ["tenant", "task", "item_id"])
    op.create_table(
        "asked",
        sa.Column("report_id", sa.String(120), primary_key=True),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("held_until", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("asked")
    op.drop_table("kept_answers")
