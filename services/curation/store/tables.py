"""Tables of curation; JSON columns are text, times epoch seconds."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

from libs.outbox.tables import inbox_table, outbox_table

METADATA = MetaData()


def _owner() -> tuple[Column[str], Column[str]]:
    return Column("tenant", String(63), primary_key=True), Column("task", String(63), primary_key=True)


SEGMENTS = Table(
    "segments",
    METADATA,
    *_owner(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("rows", Integer, nullable=False),
)
SUITES = Table(
    "suites",
    METADATA,
    *_owner(),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False),
    Column("items", Integer, nullable=False),
    Column("dataset", Integer, nullable=False),
)
DATASETS = Table(
    "datasets",
    METADATA,
    *_owner(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("watermark", BigInteger, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("report_digest", String(80), nullable=False),
    Column("suite_digest", String(80), nullable=False),
    Column("suite_version", Integer, nullable=False),
    Column("fractions", Text, nullable=False),
    Column("splits", Text, nullable=False),
    Column("removed", Text, nullable=False),
    Column("categories", Text, nullable=False),
    Column("refused", Text, nullable=True),
    Column("built_at", Float, nullable=False),
    Column("ledger_digest", String(80), nullable=False, server_default=""),
    Column("quarantined", Text, nullable=True),
)
TASKS = Table(
    "tasks",
    METADATA,
    *_owner(),
    Column("revision", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("base_digest", String(80), nullable=False),
)
REVIEW = Table(
    "review",
    METADATA,
    *_owner(),
    Column("item_id", String(40), primary_key=True),
    Column("row_id", String(200), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("category", Text, nullable=True),
    Column("suggestion", Text, nullable=False),
    Column("doubt", Float, nullable=False),
    Column("value", Float, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("user", String(80), nullable=False),
    Column("dataset", Integer, nullable=False),
    Column("new_input", Text, nullable=True),
    Column("new_answer", Text, nullable=True),
    Column("new_category", Text, nullable=True),
    Column("decided_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("decided_at", Float, nullable=True),
    Index("review_by_value", "tenant", "task", "state", "value"),
    Index("review_by_row", "tenant", "task", "row_id"),
)
OVERRIDES = Table(
    "overrides",
    METADATA,
    *_owner(),
    Column("rule", String(63), primary_key=True),
    Column("undone", Boolean, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", Float, nullable=False),
)
VERDICTS = Table(
    "verdicts",
    METADATA,
    *_owner(),
    Column("key", String(64), primary_key=True),
    Column("score", Integer, nullable=False),
)
ERASURES = Table(
    "erasures",
    METADATA,
    *_owner(),
    Column("user", String(80), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("row_ids", Text, nullable=False),
    Column("touched", Text, nullable=False),
    Column("garbage", Text, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", Float, nullable=False),
)
# What an audit quotes is the rows' own: each is known, so that an erasure finds it.
AUDITS = Table("audits", METADATA, *_owner(), Column("digest", String(80), primary_key=True))
# What a build puts lies in no version until it is recorded: each object is known before it is there.
STAGED = Table("staged", METADATA, *_owner(), Column("digest", String(80), primary_key=True))
outbox_table(METADATA)
inbox_table(METADATA)
