"""Many rows at a stroke: on SQLite without a look by SQLAlchemy at each of them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.outbox.unit import UnitOfWork
from services.ingestion.store.tables import insert

# SQLite binds at most 32,766 values in one statement.
CHUNK = 500
_KEYS = 5000


async def by_keys(
    session: AsyncSession, table: Any, key: Any, columns: Sequence[Any], keys: Collection[bytes]
) -> list[Any]:
    """The rows of these keys."""
    found: list[Any] = []
    wanted = list(keys)
    for at in range(0, len(wanted), _KEYS):
        chunk = wanted[at : at + _KEYS]
        if session.get_bind().dialect.name != "sqlite":
            found += (await session.execute(select(*columns).where(key.in_(chunk)))).all()
            continue
        names = ", ".join(column.name for column in columns)
        marks = ", ".join("?" * len(chunk))
        statement = f"SELECT {names} FROM {table.name} WHERE {key.name} IN ({marks})"  # noqa: S608 - names of ours
        found += (await (await session.connection()).exec_driver_sql(statement, tuple(chunk))).all()
    return found


async def insert_new(unit: UnitOfWork, table: Any, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows; one that somebody else wrote meanwhile fails the transaction, and the batch is read anew."""
    session = unit.session
    if session.get_bind().dialect.name != "sqlite":
        await session.execute(insert(session, table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    # The driver takes values as they are; SQLAlchemy would look at each of them twice.
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names of ours
    await (await session.connection()).exec_driver_sql(statement, list(rows))


def chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The items, few enough at a time for one statement."""
    return (items[at : at + CHUNK] for at in range(0, len(items), CHUNK))
