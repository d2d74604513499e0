"""Database failures in the terms of the error tree."""

from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from libs.contracts.errors import Busy, Conflict, FailedPrecondition, PawlError, ResourceExhausted, Unavailable

_FULL = ("disk is full", "disk full", "no space left", "could not extend file")
_LOCKED = ("database is locked", "database table is locked", "deadlock detected", "could not serialize", "lock timeout")
# SQLSTATE of Postgres, classes by prefix: connection exceptions, shutting down or starting up, too few resources, a
# session that idled too long, a standby that is not the primary yet.
_AWAY_STATES = ("08", "57P", "53", "25P03", "25006")
# A statement cancelled, a lock not got in time, a serialisation failure or a deadlock.
_BUSY_STATES = ("57014", "55P03", "40")
_SCHEMA = ("no such table", "no such column", "undefinedtable", "undefinedcolumn", "does not exist")


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise what the database refused as ResourceExhausted, Conflict, Busy, FailedPrecondition or Unavailable."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Busy("all database connections are in use", reason="DATABASE_BUSY") from error
    except DBAPIError as error:
        raise translate(error) from error
    except (ConnectionError, TimeoutError, gaierror) as error:
        # asyncpg lets a refused connection, or a name that means nothing for now, through as it is.
        raise Unavailable(f"the database does not answer: {error}", reason="DATABASE_UNAVAILABLE") from error


def translate(error: DBAPIError) -> PawlError:
    """The error of the tree for one database error."""
    text = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    lowered = f"{type(error.orig).__name__} {error.orig}".lower()
    if any(mark in lowered for mark in _FULL):
        return ResourceExhausted(f"the database's disk is full: {text}", reason="DISK_FULL")
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith(_AWAY_STATES):
        return Unavailable(f"the database does not answer: {text}", reason="DATABASE_UNAVAILABLE")
    if state.startswith(_BUSY_STATES):
        return Busy(f"the database is busy: {text}", reason="DATABASE_BUSY")
    if isinstance(error, IntegrityError):
        return Conflict(f"the database already holds something else there: {text}", reason="INTEGRITY")
    if any(mark in lowered for mark in _LOCKED):
        return Busy(f"the database is busy: {text}", reason="DATABASE_BUSY")
    if any(mark in lowered for mark in _SCHEMA):
        return FailedPrecondition(f"the schema is not migrated: {text}", reason="SCHEMA")
    if error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError)):
        return Unavailable(f"the database does not answer: {text}", reason="DATABASE_UNAVAILABLE")
    return FailedPrecondition(f"the database refuses: {text}", reason="DATABASE_REFUSED")
