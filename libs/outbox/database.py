"""One service's database: SQLite (one replica) or Postgres, with writers that queue instead of colliding."""

import asyncio
import fcntl
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from libs.contracts.envelope import Envelope
from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.outbox.failures import database_errors
from libs.outbox.sqlite import SHORT, connector
from libs.outbox.tables import inbox_table, outbox_table
from libs.outbox.unit import UnitOfWork

_BUSY_MILLISECONDS = 5000
_CONNECT_SECONDS = 10.0
_TURN_MILLISECONDS = 15_000
_IDLE_MILLISECONDS = 60_000
_READ_ONLY, _SHORT = "pawl_read_only", "pawl_short"


class Database:
    """The database of one service; its tables are `metadata` plus inbox and outbox (added here).

    SQLite: WAL, synchronous=FULL (a commit survives power loss), foreign keys on, and an exclusive lock file beside
    the database: a second process is refused with FailedPrecondition, since SQLite means one replica. Postgres: tables
    live in the schema named after the service; any number of replicas.

    On both, writers of one service take turns: a decision may read before it writes and needs no locks of its own, and
    rows enter the outbox in the order in which they are committed.

    Args:
        url: `sqlite:///file` or `postgresql://user:password@host/database`.
        metadata: The service's tables.
        service: Its name: CloudEvents source, Postgres schema.
        short: No statement of its transactions is long: on SQLite they are then run on the event loop itself, which
            spares a decision of a dozen statements two switches between threads for each.
        bulk: Its rows are many and their keys lie anywhere: SQLite holds more pages at hand and writes them back in
            bulk, for which one commit in many takes longer.
    """

    def __init__(
        self, url: str, *, metadata: MetaData, service: str = "pawl", short: bool = False, bulk: bool = False
    ) -> None:
        self.url = normalise(url)
        self.metadata = metadata
        self.service = service
        self.short = short
        self.bulk = bulk
        self.outbox = outbox_table(metadata)
        self.inbox = inbox_table(metadata)
        self.outbox_written = asyncio.Event()
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine: AsyncEngine | None = None
        self._held = ExitStack()
        # Queueing here is fair where SQLite's busy wait is not, and takes up no connection of Postgres.
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[Any] | None = None

    async def open(self) -> None:
        """Take the lock file (SQLite), connect and check; run `migrate` before."""
        if self._engine is not None:
            return
        path = sqlite_path(self.url) if self.is_sqlite else None
        try:
            if path is not None:
                self._held.enter_context(file_lock(path))
            self._engine = make_engine(self.url, self.service, patient=False, bulk=self.bulk)
            short = {_SHORT: self.short}
            self._write = async_sessionmaker(self._engine.execution_options(**short), expire_on_commit=False)
            snapshot = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
            read_only = self._engine.execution_options(**{_READ_ONLY: True}, **snapshot)
            self._read = async_sessionmaker(read_only, expire_on_commit=False)
            self._read_short = async_sessionmaker(read_only.execution_options(**short), expire_on_commit=False)
            await self.ping()
            # Rows left by the process before this one must go out without waiting for a new one.
            self.outbox_written.set()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close connections and free the lock file."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None
        self._held.close()

    async def ping(self) -> None:
        """Ask the database for a sign of life; Unavailable when there is none."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    @asynccontextmanager
    async def reading(self, *, short: bool = False) -> AsyncIterator[AsyncSession]:
        """A session that sees one snapshot and never waits for writers; changes in it are discarded.

        `short`: its statements are no longer than those of a transaction.
        """
        self._require()
        with database_errors():
            async with (self._read_short if short else self._read)() as session:
                yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose block commits as a whole or not at all, alone among the service's writers.

        Raises ResourceExhausted when the disk is full, Busy when another replica does not end its turn.
        """
        self._require()
        async with self._turn_to_write():
            with database_errors():
                async with self._write() as session, session.begin():
                    if not self.is_sqlite:
                        await session.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": self._turn})
                    yield session

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[AsyncSession]:
        """A transaction that takes no turn, for work that may be slow; its rows must be of no concern to other writers.

        Postgres only: SQLite has one writer.
        """
        self._require()
        with database_errors():
            async with self._write() as session, session.begin():
                yield session

    @asynccontextmanager
    async def unit(self, cause: Envelope[Any] | None = None, consumer: str | None = None) -> AsyncIterator[UnitOfWork]:
        """A transaction of state, inbox and outbox together; see `UnitOfWork`.

        With `cause` and `consumer` the event's id goes into the inbox; when it is there already,
        `unit.already_handled` is True and the block must do nothing.
        """
        async with self.transaction() as session:
            unit = UnitOfWork(session, self.outbox, self.inbox, service=self.service, cause=cause, consumer=consumer)
            await unit.enter()
            yield unit
            await unit.flush()
        if unit.emitted:
            self.outbox_written.set()

    @asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        if task is not None and task is self._writer:
            raise FailedPrecondition("a transaction inside a transaction would wait for itself", reason="NESTED_WRITE")
        async with self._writing:
            self._writer = task
            try:
                yield
            finally:
                self._writer = None

    @property
    def _turn(self) -> int:
        return zlib.crc32(f"pawl-writer-{self.service}".encode())

    def _require(self) -> None:
        if self._engine is None:
            raise FailedPrecondition("the database is not open", reason="DATABASE_CLOSED")


def make_home(path: Path) -> None:
    """Make the directory of a SQLite file and see that it can be written; FailedPrecondition when not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise FailedPrecondition(
            f"cannot use {path} as a database: {error.strerror}", reason="DATABASE_PATH", field="database_url"
        ) from error


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` alone; FailedPrecondition when another process does. It frees itself when its holder dies."""
    make_home(path)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FailedPrecondition(
                f"another process holds {path}: SQLite means one replica, more need Postgres",
                reason="SECOND_REPLICA",
                field="database_url",
            ) from error
        yield
    finally:
        os.close(descriptor)


def normalise(url: str) -> URL:
    """The URL with the driver used here; InvalidInput for a database that is not supported."""
    try:
        parsed = make_url(url)
    except (ValueError, ArgumentError) as error:
        raise InvalidInput(f"{url!r} is not a database URL", field="database_url") from error
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    driver = drivers.get(parsed.get_backend_name())
    if driver is None:
        raise InvalidInput(f"{parsed.get_backend_name()} is neither sqlite nor postgresql", field="database_url")
    return parsed.set(drivername=driver)


def sqlite_path(url: URL) -> Path | None:
    """File of a SQLite database; None for one in memory."""
    return None if url.database in (None, "", ":memory:") else Path(str(url.database))


def make_engine(url: URL, service: str, *, patient: bool = True, bulk: bool = False) -> AsyncEngine:
    """An engine with the settings every process uses; migrations are `patient` and wait for locks without end."""
    if url.get_backend_name() != "sqlite":
        settings = {"search_path": service, "application_name": f"pawl-{service}"}
        if not patient:
            settings["lock_timeout"] = str(_TURN_MILLISECONDS)
            # A replica that froze, or whose machine is gone, must not keep the turn from the others.
            settings["idle_in_transaction_session_timeout"] = str(_IDLE_MILLISECONDS)
        return create_async_engine(
            url,
            pool_pre_ping=True,
            pool_size=8,
            connect_args={"server_settings": settings, "timeout": _CONNECT_SECONDS},
        )
    path = sqlite_path(url)
    engine = create_async_engine(url, async_creator=connector(path)) if path is not None else create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    if bulk:
        event.listen(engine.sync_engine, "connect", _prepare_bulk)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver must not begin transactions on its own: _begin_sqlite says which kind.
    connection.isolation_level = None
    _set(
        connection,
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_MILLISECONDS}",
        "temp_store=MEMORY",
    )


def _prepare_bulk(connection: Any, _: Any) -> None:
    # A page that is written for each batch anew goes to the log alone, and to the file once in 64 MiB.
    _set(connection, "cache_size=-65536", "wal_autocheckpoint=16384")


def _set(connection: Any, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and writes later fails at once where another wrote meanwhile; IMMEDIATE waits.
    options = connection.get_execution_options()
    kind = "BEGIN" if options.get(_READ_ONLY, False) else "BEGIN IMMEDIATE"
    connection.exec_driver_sql(f"{kind}{SHORT if options.get(_SHORT, False) else ''}")
