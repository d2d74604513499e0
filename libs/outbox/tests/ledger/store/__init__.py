"""State of the test service."""

from sqlalchemy import Column, Integer, MetaData, String, Table

from libs.outbox.tables import inbox_table, outbox_table

METADATA = MetaData()
ENTRIES = Table(
    "entries",
    METADATA,
    Column("name", String(50), primary_key=True),
    Column("amount", Integer, nullable=False),
)
outbox_table(METADATA)
inbox_table(METADATA)
