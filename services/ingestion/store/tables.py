"""Tables of ingestion; times are epoch seconds."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.outbox.tables import inbox_table, outbox_table

Owner = tuple[str, str]
"""Tenant and task."""

METADATA = MetaData()


def _owner() -> tuple[Column[str], Column[str]]:
    return Column("tenant", String(63), primary_key=True), Column("task", String(63), primary_key=True)


# The row of a task is what makes segment numbers gapless: whoever writes a segment holds it until the commit.
INTAKES = Table(
    "intakes",
    METADATA,
    *_owner(),
    Column("watermark", BigInteger, nullable=False, default=0),
    Column("duplicates", BigInteger, nullable=False, default=0),
)
KINDS = Table(
    "kinds",
    METADATA,
    *_owner(),
    Column("kind", String(32), primary_key=True),
    Column("counted", BigInteger, nullable=False),
)
SEGMENTS = Table(
    "segments",
    METADATA,
    *_owner(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("import_id", String(80), nullable=True),
    Column("written_at", Float, nullable=False),
    Column("bytes", BigInteger, nullable=True),
)
# One row for each signal that counts, for good: `key` stands for tenant, task, source and id (`domain.signals.key_of`).
# Records of the inference log that no signal can be joined to have one too.
COUNTED = Table(
    "counted",
    METADATA,
    Column("key", LargeBinary(16), primary_key=True),
    Column("stream_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
# What the signals on one response said, while others may join them; a revision is written once.
SAID = Table(
    "said",
    METADATA,
    Column("response", LargeBinary(16), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("stored_at", Float, nullable=False),
    Column("said", LargeBinary, nullable=False),
)
Index("ix_said_stored_at", SAID.c.stored_at)
REJECTED = Table(
    "rejected", METADATA, *_owner(), Column("stream_seq", BigInteger, primary_key=True, autoincrement=False)
)
WAITING = Table(
    "waiting",
    METADATA,
    *_owner(),
    Column("source", String(200), primary_key=True),
    Column("id", String(300), primary_key=True),
    Column("request_id", String(200), nullable=False),
    Column("payload", Text, nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("traceparent", String(64), nullable=True),
    Column("arrived_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)
Index("ix_waiting_expires_at", WAITING.c.expires_at)
INFERENCES = Table(
    "inferences",
    METADATA,
    *_owner(),
    Column("request_id", String(200), primary_key=True),
    Column("system", Text, nullable=True),
    Column("history", Text, nullable=True),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("unit", String(300), nullable=False),
    Column("segment", String(200), nullable=True),
    Column("answered_at", Float, nullable=False),
    Column("stored_at", Float, nullable=False),
    Column("messages", Text, nullable=True),
    Column("tools", Text, nullable=True),
)
Index("ix_inferences_stored_at", INFERENCES.c.stored_at)
INFERENCE_SEGMENTS = Table(
    "inference_segments",
    METADATA,
    *_owner(),
    Column("digest", String(80), primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("written_at", Float, nullable=False),
    Column("bytes", BigInteger, nullable=True),
)
IMPORTS = Table(
    "imports",
    METADATA,
    Column("import_id", String(80), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("name", String(500), nullable=False),
    Column("format", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("already_seen", BigInteger, nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("shape", String(40), nullable=False, server_default=""),
    Column("quarantine", String(80), nullable=True),
    Column("seen_at", Float, nullable=True),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    Column("unread", Text, nullable=True),
)
STAGED = Table(
    "staged",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("import_id", String(80), nullable=False),
)
Index("ix_staged_import_id", STAGED.c.import_id)
QUARANTINE = Table(
    "quarantine",
    METADATA,
    Column("import_id", String(80), primary_key=True),
    Column("row", BigInteger, primary_key=True, autoincrement=False),
    Column("field", String(200), nullable=False),
    Column("reason", Text, nullable=False),
)
# Rows of an import that has not ended are staged: they count for nobody else until it completes.
IMPORTED = Table(
    "imported",
    METADATA,
    *_owner(),
    Column("row_id", String(64), primary_key=True),
    Column("import_id", String(80), nullable=False),
    # Of rows that came with a word on consent: the record that they are a version of, and that word.
    Column("record", String(64), nullable=True),
    Column("consent", Boolean, nullable=True),
)
Index("ix_imported_import_id", IMPORTED.c.import_id)
_TOLD = IMPORTED.c.record.is_not(None)
Index("ix_imported_record", IMPORTED.c.record, sqlite_where=_TOLD, postgresql_where=_TOLD)

outbox_table(METADATA)
inbox_table(METADATA)


def insert(session: AsyncSession, table: Table):  # type: ignore[no-untyped-def]
    """An INSERT of the session's dialect, which knows `on_conflict_*`."""
    dialect = session.get_bind().dialect.name
    return sqlite_insert(table) if dialect == "sqlite" else postgres_insert(table)
