"""An import from its first byte to its facts: spool, read, quarantine, store, and become visible as a whole."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, ResourceExhausted
from libs.contracts.ids import derived_id
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.ingestion.clients import Tasks
from services.ingestion.compute import files
from services.ingestion.compute.segments import rows_to_parquet
from services.ingestion.domain.columns import Columns, resolve, settle
from services.ingestion.domain.records import BadRowError, Origin, row_of
from services.ingestion.domain.rows import Row, count
from services.ingestion.store import imports as store
from services.ingestion.store.imports import COMPLETED, BadRow, ImportRecord
from services.ingestion.store.segments import Stored

log = get_logger(__name__)

APPLY_SECONDS = 3.0
"""What the word of a task just applied may take to come round."""

_SHOWN_REASONS = 5
_MAX_NAME = 300


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What the caller says of a file; `columns` overrides the task's map, field by field."""

    tenant: str
    task: str
    name: str
    format: str
    columns: Mapping[str, str]
    source: str


class Importer:
    """Imports files, one at a time per task."""

    def __init__(
        self,
        database: Database,
        objects: Callable[[str], ObjectStore],
        tasks: Tasks,
        spool: Path,
        *,
        segment_rows: int,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._objects = objects
        self._tasks = tasks
        self._spool = spool
        self._segment_rows = segment_rows
        self._max_bytes = max_bytes
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    def sweep(self) -> None:
        """Drop what a process before this one left half received."""
        shutil.rmtree(self._spool, ignore_errors=True)

    async def run(self, request: ImportRequest, chunks: AsyncIterator[bytes]) -> ImportRecord:
        """Import a file and return its counts; the same file under the same name takes nothing twice.

        Raises NotFound (unknown task), InvalidInput (unreadable file, unknown column, more bad rows than the task
        allows: then nothing of it is visible), ResourceExhausted (disk full).
        """
        spec = await self._tasks.spec(request.tenant, request.task, patience=APPLY_SECONDS)
        columns = resolve(spec.data.columns, request.columns)
        if not request.name.strip() or len(request.name) > _MAX_NAME:
            raise InvalidInput(f"the file's name must have 1 to {_MAX_NAME} characters", field="name")
        with _disk_errors(), self._spooled() as path:
            digest = await self._receive(path, chunks)
            turn = self._turns.setdefault((request.tenant, request.task), asyncio.Lock())
            async with turn:
                with span("import file", task=request.task, file=request.name):
                    return await self._import(request, path, digest, columns, spec.data.max_import_errors)

    async def _import(
        self, request: ImportRequest, path: Path, digest: str, columns: Columns, allowed: float
    ) -> ImportRecord:
        format_ = await asyncio.to_thread(files.detect, path, request.name, request.format)
        available = await asyncio.to_thread(files.columns_of, path, request.name, format_)
        columns = settle(columns, available)
        cause = f"{request.tenant}/{request.task}/{request.name}/{request.source}/{digest}/{columns}"
        import_id = f"import-{derived_id(cause, 'import')}"
        before = await store.find(self._database, import_id)
        if before is not None and before.state == COMPLETED:
            return replace(before, accepted=0, already_seen=before.accepted + before.already_seen)
        record = ImportRecord(import_id, request.tenant, request.task, request.name, format_, store.RUNNING)
        async with self._database.unit() as unit:
            await store.begin(unit, record)
        origin = Origin(request.tenant, request.name, request.source or "import", datetime.now(UTC))
        work = _Work(path, columns, origin, self._segment_rows)
        segments, first_reasons = [], list[str]()
        async for rows, bad, read in work.batches(record):
            fresh = await self._fresh(record, rows)
            if fresh:
                data = await asyncio.to_thread(rows_to_parquet, fresh)
                stored = await self._objects(request.tenant).put_bytes(data, kind="segment")
                segments.append(Stored(stored, len(fresh), count(fresh)))
            async with self._database.unit() as unit:
                await store.stage(unit, record, [row.row_id for row in fresh], bad)
            record = replace(
                record,
                rows=record.rows + read,
                accepted=record.accepted + len(fresh),
                quarantined=record.quarantined + len(bad),
                already_seen=record.already_seen + len(rows) - len(fresh),
            )
            first_reasons += [_told(each) for each in bad[: _SHOWN_REASONS - len(first_reasons)]]
        return await self._close(record, segments, first_reasons, allowed)

    async def _close(
        self, record: ImportRecord, segments: list[Stored], reasons: list[str], allowed: float
    ) -> ImportRecord:
        share = record.quarantined / record.rows if record.rows else 1.0
        if share > allowed:
            async with self._database.unit() as unit:
                await store.fail(unit, record)
            raise InvalidInput(
                f"{record.name}: {record.quarantined} of {record.rows} rows are bad, more than the {allowed:.0%} that "
                f"max_import_errors allows; nothing was imported. First: "
                + "; ".join(reasons or ["the file has no rows"]),
                reason="TOO_MANY_BAD_ROWS",
                field="file",
                import_id=record.import_id,
                rows=record.rows,
                quarantined=record.quarantined,
            )
        async with self._database.unit() as unit:
            watermark = await store.complete(unit, record, segments)
        log.info(
            "import completed", task=record.task, file=record.name, rows=record.rows,
            accepted=record.accepted, quarantined=record.quarantined, already_seen=record.already_seen,
        )  # fmt: skip
        return replace(record, state=COMPLETED, watermark=watermark)

    async def _fresh(self, record: ImportRecord, rows: list[Row]) -> list[Row]:
        first = {row.row_id: row for row in rows}
        known = await store.known_rows(self._database, record, list(first))
        return [row for row_id, row in first.items() if row_id not in known]

    async def _receive(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        hashed, size = hashlib.sha256(), 0
        with path.open("wb") as target:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_bytes:
                    raise InvalidInput(f"the file is larger than {self._max_bytes} bytes", field="file")
                hashed.update(chunk)
                await asyncio.to_thread(target.write, chunk)
        return hashed.hexdigest()

    @contextmanager
    def _spooled(self) -> Iterator[Path]:
        self._spool.mkdir(parents=True, exist_ok=True)
        directory = Path(mkdtemp(dir=self._spool))
        try:
            yield directory / "file"
        finally:
            shutil.rmtree(directory, ignore_errors=True)


class _Work:
    """Reads a spooled file in a thread, a segment's worth of records at a time."""

    def __init__(self, path: Path, columns: Columns, origin: Origin, size: int) -> None:
        self._path = path
        self._columns = columns
        self._origin = origin
        self._size = size

    async def batches(self, record: ImportRecord) -> AsyncIterator[tuple[list[Row], list[BadRow], int]]:
        """Rows, quarantined records and the number of records read, batch by batch."""
        records = files.read(self._path, record.name, record.format)
        while True:
            batch = await asyncio.to_thread(self._next, records)
            if batch[2] == 0:
                return
            yield batch

    def _next(self, records: Iterator[files.Record | files.Fault]) -> tuple[list[Row], list[BadRow], int]:
        rows: list[Row] = []
        bad: list[BadRow] = []
        read = 0
        for record in islice(records, self._size):
            read += 1
            if isinstance(record, files.Fault):
                bad.append(BadRow(record.number, record.field, record.reason))
                continue
            try:
                rows.append(row_of(record.fields, record.number, self._columns, self._origin))
            except BadRowError as error:
                bad.append(BadRow(record.number, error.field, error.reason))
        return rows, bad, read


def _told(bad: BadRow) -> str:
    return f"row {bad.row}: {bad.field + ' ' if bad.field else ''}{bad.reason}"


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceExhausted(
            f"the import cannot be spooled: {error.strerror or error}", reason="DISK_FULL"
        ) from error
