"""State of the test service."""

from sqlalchemy import Column, Integer, MetaData, String, Table

METADATA = MetaData()
ENTRIES = Table(
    "entries",
    METADATA,
    Column("name", String(50), primary_key=True),
    Column("amount", Integer, nullable=False),
)
