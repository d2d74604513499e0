"""Statements that differ between the two databases."""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession


def insert_new(session: AsyncSession, table: Table) -> Any:
    """INSERT that leaves rows alone whose key is there already: what was delivered again changes nothing."""
    return _insert(session, table).on_conflict_do_nothing()


def insert_highest(session: AsyncSession, table: Table, key: str, column: str) -> Any:
    """INSERT that keeps the greater value of `column` where `key` is there already."""
    statement = _insert(session, table)
    held, given = table.c[column], statement.excluded[column]
    return statement.on_conflict_do_update(index_elements=[key], set_={column: given}, where=given > held)


def insert_or_replace(session: AsyncSession, table: Table) -> Any:
    """INSERT that gives a row whose key is there already its new values."""
    statement = _insert(session, table)
    keys = [column.name for column in table.primary_key]
    news = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=news)


def _insert(session: AsyncSession, table: Table) -> Any:
    return sqlite_insert(table) if session.get_bind().dialect.name == "sqlite" else postgres_insert(table)
