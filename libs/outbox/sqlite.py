"""SQLite's own thread, visited once a statement, or only to begin and to commit where statements are short."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiosqlite

SHORT = " -- short"
"""Ends the statement that begins a transaction whose others each take less time than a visit."""
Ran = tuple[Sequence[Any] | None, int, int | None, list[Any]]
"""Description, row count, last row id and rows of a statement."""


def connector(path: Path) -> Callable[[], aiosqlite.Connection]:
    """A maker of connections to the file, for SQLAlchemy's `async_creator`."""

    def connect() -> aiosqlite.Connection:
        made = _Connection(lambda: sqlite3.connect(path, check_same_thread=False), 64)
        made._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: a process that ends must not wait for it
        return made

    return connect


class _Connection(aiosqlite.Connection):
    """Hands out cursors that make one visit to the connection's thread a statement, where the library's make four.

    A visit is two switches between threads. On a busy machine each of them waits for its turn, and a decision of a
    dozen statements spent most of its time so. Within a transaction that says so (SHORT) statements are run where they
    are asked for; what may wait for the disk or another writer, BEGIN IMMEDIATE and COMMIT, still goes to the thread.
    """

    short = False
    begun = False
    """A BEGIN is on its way or has been: whoever is cancelled meanwhile leaves one behind that has to be ended."""

    async def commit(self) -> None:
        """As aiosqlite's."""
        await super().commit()
        self.begun = False

    async def rollback(self) -> None:
        """End what was begun; the pool asks for it after a commit, too, when there is nothing to end."""
        if self.begun:
            await super().rollback()
            self.begun = False

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        return _Cursor(self)


@dataclass
class _Cursor:
    """What SQLAlchemy uses of a cursor."""

    connection: _Connection
    description: Sequence[Any] | None = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1
    rows: Iterable[Any] = ()

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        await self._visit(sqlite3.Cursor.execute, statement, parameters)

    async def executemany(self, statement: str, parameters: Any) -> None:
        await self._visit(sqlite3.Cursor.executemany, statement, parameters)

    async def fetchall(self) -> Iterable[Any]:
        """The rows: they came along with the statement."""
        return self.rows

    async def close(self) -> None:
        """Nothing: the cursor was closed where it ran."""

    async def _visit(self, run: Callable[..., Any], statement: str, parameters: Any) -> None:
        connection = self.connection._conn  # noqa: SLF001

        def visit() -> Ran:
            cursor = connection.cursor()
            try:
                run(cursor, statement, parameters)
                rows = cursor.fetchall() if cursor.description else []
                return cursor.description, cursor.rowcount, cursor.lastrowid, rows
            finally:
                cursor.close()

        if statement.startswith("BEGIN"):
            self.connection.begun, self.connection.short = True, statement.endswith(SHORT)
        if self.connection.short and not statement.startswith("BEGIN IMMEDIATE"):
            ran = visit()
        else:
            ran = await self.connection._execute(visit)  # type: ignore[no-untyped-call]  # noqa: SLF001
        self.description, self.rowcount, self.lastrowid, self.rows = ran
