"""Every record of the ledger has a place in it, and a closed window says what it was judged on."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REQUESTS = (
    "tenant, task, request_id, role, turn_id, generation, version, unit, rho, pair_id, answer_digest, valid, failed, "
    "answered_at, sequence"
)
OUTCOMES = "tenant, task, source, feedback_id, request_id, signal, kind, reference_digest, sequence, arrived_at"


def text(name: str, size: int, *, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.String(size), nullable=nullable)


def upgrade() -> None:
    for table in ("requests", "outcomes"):
        op.rename_table(table, f"{table}_before")
    for index in ("ix_requests_turn_id_role", "ix_requests_window"):
        op.drop_index(index, "requests_before")
    op.drop_index("ix_outcomes_request", "outcomes_before")
    op.create_table(
        "requests",
        sa.Column("position", POSITION, primary_key=True, autoincrement=True),
        text("tenant", 63),
        text("task", 63),
        text("request_id", 200),
        text("role", 20),
        text("turn_id", 120),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        text("unit", 200),
        sa.Column("rho", sa.Float(), nullable=False),
        text("pair_id", 200, nullable=True),
        text("answer_digest", 80),
        sa.Column("valid", sa.Boolean(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("tenant", "task", "request_id", "role", "sequence", name="uq_requests_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_requests_turn_id_role", "requests", ["turn_id", "role"])
    op.create_index("ix_requests_window", "requests", ["tenant", "task", "generation", "unit"])
    op.create_table(
        "outcomes",
        sa.Column("position", POSITION, primary_key=True, autoincrement=True),
        text("tenant", 63),
        text("task", 63),
        text("source", 100),
        text("feedback_id", 255),
        text("request_id", 200),
        text("signal", 20),
        text("kind", 20),
        text("reference_digest", 80, nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("tenant", "task", "source", "feedback_id", name="uq_outcomes_feedback"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outcomes_request", "outcomes", ["tenant", "task", "request_id"])
    # Names of our own, no input: see REQUESTS and OUTCOMES.
    op.execute(
        f"INSERT INTO requests ({REQUESTS}, whole) "  # noqa: S608
        f"SELECT {REQUESTS}, NOT failed FROM requests_before ORDER BY sequence"
    )
    op.execute(
        f"INSERT INTO outcomes ({OUTCOMES}) SELECT {OUTCOMES} FROM outcomes_before ORDER BY sequence"  # noqa: S608
    )
    op.drop_table("requests_before")
    op.drop_table("outcomes_before")
    op.add_column("windows", sa.Column("requests_position", sa.BigInteger(), nullable=True))
    op.add_column("windows", sa.Column("outcomes_position", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("windows") as windows:
        windows.drop_column("outcomes_position")
        windows.drop_column("requests_position")
    for table, key in (
        ("requests", ["tenant", "task", "request_id", "role"]),
        ("outcomes", ["tenant", "task", "source", "feedback_id"]),
    ):
        first = f"SELECT min(position) FROM {table} GROUP BY {', '.join(key)}"  # noqa: S608 - names of our own
        op.execute(f"DELETE FROM {table} WHERE position NOT IN ({first})")  # noqa: S608
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint("uq_requests_sequence" if table == "requests" else "uq_outcomes_feedback")
            batch.drop_column("position")
            if table == "requests":
                batch.drop_column("whole")
            batch.create_primary_key(f"pk_{table}", key)
