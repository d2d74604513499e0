"""Blind campaigns: items, committed order, chained ballots, reservations and judgements."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0003"
branch_labels = None
depends_on = None


def text(name: str, size: int, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.String(size), nullable=False, **options)


def of_campaign() -> "sa.Column[str]":
    return sa.Column(
        "campaign_id", sa.String(80), sa.ForeignKey("campaigns.campaign_id", ondelete="CASCADE"), primary_key=True
    )


def upgrade() -> None:
    op.create_table(
        "campaigns",
        text("campaign_id", 80, primary_key=True),
        text("tenant", 63),
        text("task", 63),
        text("report_id", 120),
        text("treatment", 80),
        text("control", 80),
        text("name", 200),
        sa.Column("guidelines", sa.Text(), nullable=False),
        text("state", 20),
        text("commitment", 80),
        text("nonce", 80),
        text("head", 80),
        sa.Column("design", sa.JSON(), nullable=False),
        text("opened_by", 200),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("closed_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_campaigns_task_opened_at", "campaigns", ["task", "opened_at"])
    op.create_table(
        "campaign_items",
        of_campaign(),
        text("item_id", 200, primary_key=True),
        sa.Column("place", sa.Integer(), nullable=False),
        text("category", 200),
        text("cluster", 300),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("treatment", sa.Text(), nullable=False),
        sa.Column("control", sa.Text(), nullable=False),
        sa.Column("agreed", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
    )
    op.create_table(
        "campaign_slots",
        of_campaign(),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        text("item_id", 200),
        text("kind", 20),
        text("treatment", 10),
        text("left_digest", 80),
        text("right_digest", 80),
        sa.Column("repeats", sa.Integer(), nullable=True),
    )
    op.create_table(
        "campaign_ballots",
        of_campaign(),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("document", sa.JSON(), nullable=False),
        text("hash", 80),
    )
    op.create_table(
        "campaign_reservations",
        of_campaign(),
        sa.Column("slot", sa.Integer(), primary_key=True, autoincrement=False),
        text("reviewer", 200),
        text("ticket", 80),
        sa.Column("until", sa.Float(), nullable=False),
    )
    op.create_table(
        "campaign_judgements",
        of_campaign(),
        text("judge", 200, primary_key=True),
        text("item_id", 200, primary_key=True),
        sa.Column("preference", sa.Float(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    for table in ("judgements", "reservations", "ballots", "slots", "items"):
        op.drop_table(f"campaign_{table}")
    op.drop_table("campaigns")
