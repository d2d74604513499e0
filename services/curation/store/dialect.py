"""What the tables share: whose rows, and an insert that may meet a row that is there."""

from typing import Any

from sqlalchemy import Table, and_
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession


def of(table: Table, tenant: str, task: str) -> Any:
    """Rows of one task."""
    return and_(table.c.tenant == tenant, table.c.task == task)


def insert(session: AsyncSession, table: Table) -> Any:
    """An insert with `on_conflict_...`, in the dialect of the session."""
    dialect = session.get_bind().dialect.name
    return sqlite_insert(table) if dialect == "sqlite" else postgres_insert(table)
