"""Tables of the registry; the audit log is only ever added to."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

METADATA = MetaData()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """An aware UTC time as microseconds since 1970: SQLite has no type that keeps the zone."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=int(value))


_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

tasks = Table(
    "tasks",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("base_digest", String(80), nullable=False),
    Column("salt", String(80), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("turn_id", String(80), nullable=True),
    Column("watermark", BigInteger, nullable=False),
    Column("consumed", BigInteger, nullable=False),
    Column("corrections", BigInteger, nullable=False),
    Column("import_watermark", BigInteger, nullable=False),
    Column("trigger_traceparent", String(80), nullable=False),
    Column("datasets", Integer, nullable=False),
    Column("drop_reason", Text, nullable=False, server_default=""),
)

versions = Table(
    "versions",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("base_digest", String(80), nullable=False),
    Column("adapter_digest", String(80), nullable=False),
    Column("status", String(20), nullable=False),
    Column("grounds", String(20), nullable=False),
    Column("dataset_digest", String(80), nullable=False),
    Column("run_id", String(80), nullable=False),
    Column("run_manifest_digest", String(80), nullable=False),
    Column("report_id", String(80), nullable=False),
    Column("report_digest", String(80), nullable=False),
    Column("turn_id", String(80), nullable=False),
    Column("traceparent", String(80), nullable=False),
    Column("open_gates", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
)

turns = Table(
    "turns",
    METADATA,
    Column("turn_id", String(80), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("traceparent", String(80), nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment, nullable=True),
    Column("dataset_number", Integer, nullable=False),
    Column("dataset_digest", String(80), nullable=False),
    Column("suite_digest", String(80), nullable=False),
    Column("run_id", String(80), nullable=False),
    Column("run_epoch", BigInteger, nullable=False),
    Column("wish", String(20), nullable=False),
    Column("wish_number", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("report_id", String(80), nullable=False),
    Column("share", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("approvals", JSON, nullable=False),
    Column("held_by", String(200), nullable=False, server_default=""),
    Column("assessment", JSON(none_as_null=True), nullable=True),
    Column("progress", JSON, nullable=False),
)
Index("ix_turns_task", turns.c.tenant, turns.c.task, turns.c.opened_at)

turn_steps = Table(
    "turn_steps",
    METADATA,
    Column("turn_id", String(80), ForeignKey("turns.turn_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

decisions = Table(
    "decisions",
    METADATA,
    Column("sequence", _ROW_ID, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("turn_id", String(80), nullable=False),
    Column("at", Moment, nullable=False),
    Column("action", String(40), nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_decisions_task", decisions.c.tenant, decisions.c.task, decisions.c.sequence)
