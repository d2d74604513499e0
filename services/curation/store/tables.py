"""Tables of curation; JSON columns are text, times epoch seconds."""

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, Text

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
)
outbox_table(METADATA)
inbox_table(METADATA)
