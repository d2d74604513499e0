"""First tables of ingestion."""

import sqlalchemy as sa
from alembic import op

from libs.outbox.tables import create_v1

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _owner():
    return sa.Column("tenant", sa.String(63), primary_key=True), sa.Column("task", sa.String(63), primary_key=True)


def upgrade() -> None:
    create_v1(op)
    op.create_table(
        "intakes",
        *_owner(),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "kinds",
        *_owner(),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("counted", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "segments",
        *_owner(),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("import_id", sa.String(80), nullable=True),
        sa.Column("written_at", sa.Float, nullable=False),
    )
    op.create_table(
        "signals",
        *_owner(),
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("id", sa.String(300), primary_key=True),
        sa.Column("stream_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rejected", *_owner(), sa.Column("stream_seq", sa.BigInteger, primary_key=True, autoincrement=False)
    )
    op.create_table(
        "waiting",
        *_owner(),
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("id", sa.String(300), primary_key=True),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("stream_seq", sa.BigInteger, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=True),
        sa.Column("arrived_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("ix_waiting_expires_at", "waiting", ["expires_at"])
    op.create_table(
        "inferences",
        *_owner(),
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("system", sa.Text, nullable=True),
        sa.Column("history", sa.Text, nullable=True),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("unit", sa.String(300), nullable=False),
        sa.Column("segment", sa.String(200), nullable=True),
        sa.Column("answered_at", sa.Float, nullable=False),
        sa.Column("stored_at", sa.Float, nullable=False),
    )
    op.create_index("ix_inferences_stored_at", "inferences", ["stored_at"])
    op.create_table(
        "inference_segments",
        *_owner(),
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("written_at", sa.Float, nullable=False),
    )
    op.create_table(
        "imports",
        sa.Column("import_id", sa.String(80), primary_key=True),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("task", sa.String(63), nullable=False),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("quarantined", sa.BigInteger, nullable=False),
        sa.Column("already_seen", sa.BigInteger, nullable=False),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
    )
    op.create_table(
        "quarantine",
        sa.Column("import_id", sa.String(80), primary_key=True),
        sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("field", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "imported",
        *_owner(),
        sa.Column("row_id", sa.String(64), primary_key=True),
        sa.Column("import_id", sa.String(80), nullable=False),
    )
    op.create_index("ix_imported_import_id", "imported", ["import_id"])


def downgrade() -> None:
    for table in (
        "imported", "quarantine", "imports", "inference_segments", "inferences", "waiting", "rejected", "signals",
        "segments", "kinds", "intakes", "inbox", "outbox",
    ):  # fmt: skip
        op.drop_table(table)
