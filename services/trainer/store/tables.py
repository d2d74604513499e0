"""Tables of the trainer: runs under their fencing epoch, and the checkpoints committed for them."""

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()

runs = Table(
    "runs",
    METADATA,
    Column("run_id", String(100), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("turn_id", String(100), nullable=False),
    Column("base_digest", String(80), nullable=False),
    Column("dataset_digest", String(80), nullable=False),
    Column("status", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("total_steps", Integer, nullable=False),
    Column("loss", Float, nullable=False),
    Column("tokens_per_second", Float, nullable=False),
    Column("eta_seconds", Float, nullable=False),
    Column("resumed_at_step", Integer, nullable=False),
    Column("killed_at_step", Integer, nullable=False),
    Column("adapter_digest", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("run_manifest_digest", String(80), nullable=False, server_default=""),
    Column("details", JSON, nullable=False, server_default="{}"),
)
Index("ix_runs_task", runs.c.task, runs.c.created_at)

checkpoints = Table(
    "checkpoints",
    METADATA,
    Column("run_id", String(100), ForeignKey("runs.run_id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("created_at", Float, nullable=False),
)
