"""A ledger on SQLite, and on Postgres where this machine has one."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.tests.ledger.store import METADATA
from libs.testing.servers import die_with_parent, free_port

LEDGER = "libs.outbox.tests.ledger"


def _postgres() -> Path | None:
    initdb = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    found = initdb or (Path(where) if (where := shutil.which("initdb")) else None)
    if found is None:
        return None
    # initdb refuses to run as root; then it needs somebody else to be.
    users = {entry.pw_name for entry in pwd.getpwall()}
    return found.resolve().parent if os.geteuid() != 0 or "postgres" in users else None


POSTGRES = _postgres()
BACKENDS = ["sqlite", "sqlite-short", *(["postgres"] if POSTGRES else [])]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres cluster of the session's own."""
    assert POSTGRES is not None
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="pawl-postgres-"))
    port = free_port()
    if user:
        shutil.chown(home, user)
    try:
        subprocess.run(
            [str(POSTGRES / "initdb"), "-D", str(home / "data"), "-U", "pawl", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=home,
        )  # fmt: skip
        server = subprocess.Popen(
            [str(POSTGRES / "postgres"), "-D", str(home / "data"), "-p", str(port), "-k", str(home), "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=home,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded before the fork
        )  # fmt: skip
        try:
            ready = [str(POSTGRES / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "20"]
            for _ in range(100):
                if subprocess.run(ready, capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
            yield f"postgresql+asyncpg://pawl@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends sessions instead of waiting for them
            server.wait(20)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database nobody has used."""
    if request.param.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    cluster: str = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex}"
    host, port = cluster.rsplit("@", 1)[1].split("/", maxsplit=1)[0].split(":")
    assert POSTGRES is not None
    subprocess.run([POSTGRES / "createdb", "-h", host, "-p", port, "-U", "pawl", name], check=True)
    return cluster.rsplit("/", 1)[0] + f"/{name}"


async def opened(url: str, *, short: bool = False) -> Database:
    """A migrated, open ledger."""
    await migrate(url, LEDGER)
    database = Database(url, metadata=METADATA, service="ledger", short=short)
    await database.open()
    return database


@pytest_asyncio.fixture
async def ledger(ledger_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """An open ledger on each backend."""
    kind = request.node.callspec.params["ledger_url"]
    database = await opened(ledger_url, short=kind == "sqlite-short")
    yield database
    await database.close()


async def rows(ledger: Database) -> Sequence[Any]:
    async with ledger.reading() as session:
        return (await session.execute(select(ledger.outbox).order_by(ledger.outbox.c.id))).all()


async def count(ledger: Database, table: Any) -> int:
    async with ledger.reading() as session:
        return len((await session.execute(select(table))).all())
