"""Tables of the evaluator: reports, the answers they rest on, and the append-only ledger of live evidence.

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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

POSITION = BigInteger().with_variant(Integer(), "sqlite")
"""Place in the ledger: rises with every row, in the order of commits, since the writers of a service take turns."""

reports = Table(
    "reports",
    METADATA,
    Column("report_id", String(120), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("suite_digest", String(80), nullable=False),
    Column("state", String(20), nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("report_digest", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=True),
    Column("turn_id", String(120), nullable=False, server_default=""),
)
Index("ix_reports_task_started_at", reports.c.task, reports.c.started_at)

kept_answers = Table(
    "kept_answers",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("key", String(80), primary_key=True),
    Column("task", String(63), nullable=False),
    Column("item_id", String(200), nullable=False),
    Column("text", Text, nullable=False),
    Column("error", Text, nullable=True),
    Column("provenance", JSON, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("made_in", String(120), nullable=False),
    Column("used_at", Float, nullable=False),
)
Index("ix_kept_answers_used_at", kept_answers.c.used_at)
Index("ix_kept_answers_item", kept_answers.c.tenant, kept_answers.c.task, kept_answers.c.item_id)

asked = Table(
    "asked",
    METADATA,
    Column("report_id", String(120), primary_key=True),
    Column("command", JSON, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("held_until", Float, nullable=False),
)

watches = Table(
    "watches",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("turn_id", String(120), nullable=False),
    Column("stage", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("stable_version", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("traceparent", String(80), nullable=True),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=True),
)
Index("ix_watches_ended_at", watches.c.ended_at)

requests = Table(
    "requests",
    METADATA,
    Column("position", POSITION, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("role", String(20), nullable=False),
    Column("turn_id", String(120), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("unit", String(200), nullable=False),
    Column("rho", Float, nullable=False),
    Column("pair_id", String(200), nullable=True),
    Column("answer_digest", String(80), nullable=False),
    Column("valid", Boolean, nullable=True),
    Column("failed", Boolean, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("answered_at", Float, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    UniqueConstraint("tenant", "task", "request_id", "role", "sequence", name="uq_requests_sequence"),
    sqlite_autoincrement=True,
)
Index("ix_requests_turn_id_role", requests.c.turn_id, requests.c.role)
Index("ix_requests_window", requests.c.tenant, requests.c.task, requests.c.generation, requests.c.unit)

outcomes = Table(
    "outcomes",
    METADATA,
    Column("position", POSITION, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=False),
    Column("task", String(63), nullable=False),
    Column("source", String(100), nullable=False),
    Column("feedback_id", String(255), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("signal", String(20), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("reference_digest", String(80), nullable=True),
    Column("sequence", BigInteger, nullable=False),
    Column("arrived_at", Float, nullable=False),
    UniqueConstraint("tenant", "task", "source", "feedback_id", name="uq_outcomes_feedback"),
    sqlite_autoincrement=True,
)
Index("ix_outcomes_request", outcomes.c.tenant, outcomes.c.task, outcomes.c.request_id)

windows = Table(
    "windows",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("unit", String(200), primary_key=True),
    Column("turn_id", String(120), nullable=False),
    Column("role", String(20), nullable=False),
    Column("rho", Float, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closes_at", Float, nullable=False),
    Column("number", BigInteger, nullable=True),
    Column("bad", Boolean, nullable=True),
    Column("requests_position", BigInteger, nullable=True),
    Column("outcomes_position", BigInteger, nullable=True),
    Column("segment", String(200), nullable=True),
)
Index("ix_windows_turn_id_number", windows.c.turn_id, windows.c.number)

assessments = Table(
    "assessments",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("task", String(63), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("assessed_at", Float, nullable=False),
)

cursors = Table(
    "cursors",
    METADATA,
    Column("stream", String(40), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)
