"""Tables of blind campaigns; ballots are only ever added. Times are seconds since 1970."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from services.evaluator.store.tables import METADATA


def _of_campaign() -> Column[str]:
    return Column("campaign_id", ForeignKey("campaigns.campaign_id", ondelete="CASCADE"), primary_key=True)


campaigns = Table(
    "campaigns",
    METADATA,
    Column("campaign_id", String(80), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("report_id", String(120), nullable=False),
    Column("treatment", String(80), nullable=False),
    Column("control", String(80), nullable=False),
    Column("name", String(200), nullable=False),
    Column("guidelines", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("commitment", String(80), nullable=False),
    Column("nonce", String(80), nullable=False),
    Column("head", String(80), nullable=False),
    Column("design", JSON, nullable=False),
    Column("opened_by", String(200), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float, nullable=True),
)
Index("ix_campaigns_task_opened_at", campaigns.c.task, campaigns.c.opened_at)

campaign_items = Table(
    "campaign_items",
    METADATA,
    _of_campaign(),
    Column("item_id", String(200), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("category", String(200), nullable=False),
    Column("cluster", String(300), nullable=False),
    Column("messages", JSON, nullable=False),
    Column("treatment", Text, nullable=False),
    Column("control", Text, nullable=False),
    Column("agreed", Boolean, nullable=False),
    Column("wanted", Integer, nullable=False),
)

campaign_slots = Table(
    "campaign_slots",
    METADATA,
    _of_campaign(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("item_id", String(200), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("treatment", String(10), nullable=False),
    Column("left_digest", String(80), nullable=False),
    Column("right_digest", String(80), nullable=False),
    Column("repeats", Integer, nullable=True),
)

campaign_ballots = Table(
    "campaign_ballots",
    METADATA,
    _of_campaign(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    Column("hash", String(80), nullable=False),
)

campaign_reservations = Table(
    "campaign_reservations",
    METADATA,
    _of_campaign(),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("reviewer", String(200), nullable=False),
    Column("ticket", String(80), nullable=False),
    Column("until", Float, nullable=False),
)

campaign_judgements = Table(
    "campaign_judgements",
    METADATA,
    _of_campaign(),
    Column("judge", String(200), primary_key=True),
    Column("item_id", String(200), primary_key=True),
    Column("preference", Float, nullable=False),
    Column("added_at", Float, nullable=False),
)
