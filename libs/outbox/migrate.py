"""Brings a service's schema to its newest revision; revisions lie in `services/<name>/store/migrations/`."""

import asyncio
import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.outbox.database import file_lock, make_engine, make_home, normalise, sqlite_path
from libs.outbox.failures import database_errors
from libs.telemetry import get_logger

log = get_logger(__name__)

_ENVIRONMENT = Path(__file__).parent / "alembic"
_VERSION_TABLE = "schema_version"


async def migrate(database_url: str, package: str, *, schema: str | None = None) -> str:
    """Upgrade to the newest revision and return it; running it twice, or twice at once on Postgres, is harmless.

    Args:
        database_url: As for `Database`.
        package: Import path of the service (`services.registry`); its revisions are `<package>/store/migrations/*.py`.
        schema: Postgres schema; by default the last part of `package`.
    """
    service = schema or package.rsplit(".", 1)[-1]
    config = _config(package)
    url = normalise(database_url)
    path = sqlite_path(url) if url.get_backend_name() == "sqlite" else None
    if path is not None:
        make_home(path)
    engine = make_engine(url, service)
    try:
        with database_errors():
            async with engine.begin() as connection:
                if url.get_backend_name() != "sqlite":
                    await connection.execute(text("SELECT pg_advisory_xact_lock(7061776)"))
                    await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{service}"'))
                await connection.run_sync(_upgrade, config, path)
    finally:
        await engine.dispose()
    head = ScriptDirectory.from_config(config).get_current_head() or ""
    log.info("schema up to date", service=service, revision=head)
    return head


def migrate_now(database_url: str, package: str) -> str:
    """`migrate` for callers without an event loop."""
    return asyncio.run(migrate(database_url, package))


async def drift(database_url: str, package: str, metadata: MetaData) -> list[str]:
    """What the migrated schema and `metadata` disagree about; a service's tests assert that this is empty."""
    engine = make_engine(normalise(database_url), package.rsplit(".", 1)[-1])
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_compare, metadata)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, config: Config, path: Path | None) -> None:
    config.attributes["connection"] = connection
    held = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE}).get_current_revision()
    try:
        if held == ScriptDirectory.from_config(config).get_current_head():
            return
        # Not under the feet of a running process: its code means the schema it started with.
        with file_lock(path) if path is not None else nullcontext():
            command.upgrade(config, "head")
    except CommandError as error:
        raise FailedPrecondition(
            f"the database is of a newer or another version: {error}", reason="SCHEMA", field="database_url"
        ) from error


def _compare(connection: Connection, metadata: MetaData) -> list[str]:
    def ours(name: str | None, kind: str, _: Any) -> bool:
        return not (kind == "table" and name == _VERSION_TABLE)

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_name": ours, "version_table": _VERSION_TABLE}
    )
    return [str(difference) for difference in compare_metadata(context, metadata)]


def _config(package: str) -> Config:
    try:
        home = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise InvalidInput(f"no service package {package!r}", field="service") from error
    versions = Path(next(iter(home.__path__))) / "store" / "migrations"
    if not versions.is_dir():
        raise InvalidInput(f"{package} keeps no state: {versions} does not exist", field="service")
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "newline")
    return config
