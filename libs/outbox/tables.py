"""The two tables every stateful service has: what it handled and what it has to say."""

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

OUTBOX = "outbox"
INBOX = "inbox"

# SQLite numbers rows by itself only for a column declared INTEGER.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")


def outbox_table(metadata: MetaData) -> Table:
    """The outbox: rows go out in order of `id`. `kind` is event or kv; times are epoch seconds.

    `msg_id` is unique: an effect derived from one cause is stored once. `refused` holds why a row can never be sent.
    """
    if OUTBOX in metadata.tables:
        return metadata.tables[OUTBOX]
    table = Table(
        OUTBOX,
        metadata,
        Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        Column("kind", String(8), nullable=False),
        Column("msg_id", String(255), nullable=False, unique=True),
        Column("subject", String(512), nullable=False),
        Column("headers", Text, nullable=False),
        Column("payload", LargeBinary, nullable=True),
        Column("generation", BigInteger, nullable=True),
        Column("created_at", Float, nullable=False),
        Column("sent_at", Float, nullable=True),
        Column("refused", Text, nullable=True),
        sqlite_autoincrement=True,
    )
    Index("ix_outbox_sent_at_id", table.c.sent_at, table.c.id)
    return table


def inbox_table(metadata: MetaData) -> Table:
    """The inbox: event ids each consumer has handled; a replayed history meets it and stops."""
    if INBOX in metadata.tables:
        return metadata.tables[INBOX]
    return Table(
        INBOX,
        metadata,
        Column("consumer", String(100), primary_key=True),
        Column("event_id", String(255), primary_key=True),
        Column("handled_at", Float, nullable=False),
    )


def create_v1(op: Any) -> None:
    """For a service's first Alembic revision: `create_v1(op)` makes both tables as they were in version 1.

    Written out, not derived from the live tables: a revision must stay what it was.
    """
    op.create_table(
        OUTBOX,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        Column("kind", String(8), nullable=False),
        Column("msg_id", String(255), nullable=False, unique=True),
        Column("subject", String(512), nullable=False),
        Column("headers", Text, nullable=False),
        Column("payload", LargeBinary, nullable=True),
        Column("generation", BigInteger, nullable=True),
        Column("created_at", Float, nullable=False),
        Column("sent_at", Float, nullable=True),
        Column("refused", Text, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_sent_at_id", OUTBOX, ["sent_at", "id"])
    op.create_table(
        INBOX,
        Column("consumer", String(100), primary_key=True),
        Column("event_id", String(255), primary_key=True),
        Column("handled_at", Float, nullable=False),
    )
