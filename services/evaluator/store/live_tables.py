"""Tables of the live view: every answered request without its text, closed user-windows and the drops they showed.

Times are seconds since 1970.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from services.evaluator.store.tables import METADATA, POSITION

live_tasks = Table(
    "live_tasks",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("closed_until", Float, nullable=False),
    Column("windows", BigInteger, nullable=False),
    Column("watch_from", BigInteger, nullable=False),
)

live_requests = Table(
    "live_requests",
    METADATA,
    Column("position", POSITION, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("role", String(20), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("explicit", Boolean, nullable=False),
    Column("unit", String(200), nullable=False),
    Column("segment", String(200), nullable=True),
    Column("pair_id", String(200), nullable=True),
    Column("answer_digest", String(80), nullable=False),
    Column("valid", Boolean, nullable=True),
    Column("failed", Boolean, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("first_token_ms", Float, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("input_chars", Integer, nullable=False),
    Column("output_chars", Integer, nullable=False),
    Column("language", String(10), nullable=False),
    Column("category", String(100), nullable=True),
    Column("sketch", LargeBinary(64), nullable=False),
    Column("answered_at", Float, nullable=False),
    UniqueConstraint("tenant", "task", "request_id", "role", "sequence", name="uq_live_requests_sequence"),
    sqlite_autoincrement=True,
)
Index("ix_live_requests_answered_at", live_requests.c.tenant, live_requests.c.task, live_requests.c.answered_at)
Index("ix_live_requests_version", live_requests.c.tenant, live_requests.c.task, live_requests.c.version)

live_windows = Table(
    "live_windows",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("unit", String(200), nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("good", Boolean, nullable=False),
    Column("requests_position", BigInteger, nullable=False),
    Column("outcomes_position", BigInteger, nullable=False),
)
Index("ix_live_windows_unit", live_windows.c.tenant, live_windows.c.task, live_windows.c.unit, live_windows.c.ended_at)

live_drops = Table(
    "live_drops",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("began_after", BigInteger, nullable=False),
)
