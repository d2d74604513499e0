"""The live view: requests without text, closed user-windows, drops."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text(name: str, size: int, *, nullable: bool = False, key: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.String(size), nullable=nullable, primary_key=key)


def number(name: str, *, big: bool = False, key: bool = False) -> "sa.Column[int]":
    kind = sa.BigInteger() if big else sa.Integer()
    if key:
        return sa.Column(name, kind, primary_key=True, autoincrement=False)
    return sa.Column(name, kind, nullable=False)


def flag(name: str, *, nullable: bool = False) -> "sa.Column[bool]":
    return sa.Column(name, sa.Boolean(), nullable=nullable)


def real(name: str) -> "sa.Column[float]":
    return sa.Column(name, sa.Float(), nullable=False)


def whose() -> "tuple[sa.Column[str], ...]":
    return text("tenant", 63, key=True), text("task", 63, key=True)


def upgrade() -> None:
    op.create_table(
        "live_tasks",
        *whose(),
        number("revision"),
        sa.Column("spec", sa.JSON(), nullable=False),
        real("closed_until"),
        number("windows", big=True),
        number("watch_from", big=True),
    )
    op.create_table(
        "live_requests",
        sa.Column("position", POSITION, primary_key=True, autoincrement=True),
        text("tenant", 63),
        text("task", 63),
        text("request_id", 200),
        text("role", 20),
        number("sequence", big=True),
        number("version"),
        number("generation", big=True),
        flag("explicit"),
        text("unit", 200),
        text("segment", 200, nullable=True),
        text("pair_id", 200, nullable=True),
        text("answer_digest", 80),
        flag("valid", nullable=True),
        flag("failed"),
        flag("whole"),
        flag("refused"),
        real("latency_ms"),
        real("first_token_ms"),
        number("prompt_tokens"),
        number("completion_tokens"),
        number("input_chars"),
        number("output_chars"),
        text("language", 10),
        text("category", 100, nullable=True),
        sa.Column("sketch", sa.LargeBinary(64), nullable=False),
        real("answered_at"),
        sa.UniqueConstraint("tenant", "task", "request_id", "role", "sequence", name="uq_live_requests_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_live_requests_answered_at", "live_requests", ["tenant", "task", "answered_at"])
    op.create_index("ix_live_requests_version", "live_requests", ["tenant", "task", "version"])
    op.create_table(
        "live_windows",
        *whose(),
        number("number", big=True, key=True),
        number("version"),
        text("unit", 200),
        real("ended_at"),
        flag("good"),
        number("requests_position", big=True),
        number("outcomes_position", big=True),
    )
    op.create_index("ix_live_windows_unit", "live_windows", ["tenant", "task", "unit", "ended_at"])
    op.create_table(
        "live_drops",
        *whose(),
        number("number", key=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        number("began_after", big=True),
    )


def downgrade() -> None:
    for table in ("live_drops", "live_windows", "live_requests", "live_tasks"):
        op.drop_table(table)
