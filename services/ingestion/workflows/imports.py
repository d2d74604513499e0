"""An import from its first byte to its facts: spool, read, quarantine, store, and become visible as a whole."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from libs.artifacts import ObjectStore
from libs.artifacts.files import digest_file
from libs.contracts.errors import InvalidInput, PawlError
from libs.contracts.ids import derived_id, digest_bytes, record_of
from libs.contracts.task import DataSpec, TaskSpec
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.ingestion.clients.tasks import Tasks
from services.ingestion.compute import files
from services.ingestion.compute.reading import Reading
from services.ingestion.compute.segments import rows_to_parquet, weight
from services.ingestion.domain.columns import Columns, Wish, resolve, settle
from services.ingestion.domain.imports import ImportRequest, Progress
from services.ingestion.domain.records import Origin
from services.ingestion.domain.rows import Row, count
from services.ingestion.store import imports as store
from services.ingestion.store import leftovers, staged
from services.ingestion.store.imports import COMPLETED, BadRow, ImportRecord
from services.ingestion.store.segments import Stored
from services.ingestion.workflows.spool import Quarantine, Spool

log = get_logger(__name__)

APPLY_SECONDS = 3.0
"""What the word of a task just applied may take to come round."""

QUARANTINE = "quarantine"
_SHOWN_REASONS = 5
_MAX_NAME = 300
_MOST_UNREAD = 100
_MAX_TICKETS = 1000
_EARLY_ROWS = 1000
"""Bad rows before an import is stopped on the way: fewer cost nothing to read to the end."""
_SHORTER = 4
"""How many times shorter than those before the rows to come may be."""


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
        self._spool = Spool(spool, max_bytes)
        self._segment_rows = segment_rows
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._progress: OrderedDict[tuple[str, str], Progress] = OrderedDict()

    def sweep(self) -> None:
        """Drop what a process before this one left half received."""
        self._spool.sweep()

    def progress(self, tenant: str, ticket: str) -> Progress | None:
        """How far the tenant's import of that ticket has come; None when this process has not seen it."""
        return self._progress.get((tenant, ticket))

    async def run(self, request: ImportRequest, chunks: AsyncIterator[bytes]) -> ImportRecord:
        """Import a file and return its counts; the same file under the same name takes nothing twice.

        Raises NotFound (unknown task), InvalidInput (unreadable file, unknown column, more bad rows than the task
        allows: then nothing of it is visible), ResourceExhausted (disk full).
        """
        self._say(request, Progress("receiving"))
        try:
            spec = await self._tasks.spec(request.tenant, request.task, patience=APPLY_SECONDS)
            wish = resolve(spec.data.columns, request.columns, request.shape)
            if not request.name.strip() or len(request.name) > _MAX_NAME:
                raise InvalidInput(f"the file's name must have 1 to {_MAX_NAME} characters", field="name")
            with self._spool.directory() as directory:
                digest = await self._spool.receive(directory / "file", chunks)
                turn = self._turns.setdefault((request.tenant, request.task), asyncio.Lock())
                self._say(request, Progress("waiting" if turn.locked() else "reading"))
                async with turn:
                    with span("import file", task=request.task, file=request.name):
                        record = await self._import(request, directory, digest, wish, spec)
        except BaseException:
            self._say(
                request,
                replace(self._progress.get((request.tenant, request.ticket), Progress("")), state=staged.FAILED),
            )
            raise
        done = Progress(record.state, record.rows, record.accepted, record.quarantined, 1.0)
        self._say(request, done)
        return record

    async def _import(
        self, request: ImportRequest, directory: Path, digest: str, wish: Wish, spec: TaskSpec
    ) -> ImportRecord:
        path = directory / "file"
        format_ = await asyncio.to_thread(files.detect, path, request.name, request.format)
        available, sample = await asyncio.to_thread(files.look, path, request.name, format_)
        columns = settle(wish, available, [each.fields for each in sample])
        cause = f"{request.tenant}/{request.task}/{request.name}/{request.source}/{digest}/{columns}"
        before, import_id = await self._before(cause)
        if before is not None and not (columns.consent and await store.overtaken(self._database, before)):
            return replace(before, accepted=0, already_seen=before.accepted + before.already_seen)
        record = ImportRecord(
            import_id, request.tenant, request.task, request.name, format_, staged.RUNNING, shape=columns.shape,
            unread=tuple(columns.unread(available)[:_MOST_UNREAD]),
        )  # fmt: skip
        async with self._database.unit() as unit:
            record = await store.begin(unit, record)
        aside = Quarantine(directory / QUARANTINE, import_id)
        try:
            try:
                record, segments, reasons = await self._take(request, record, path, columns, aside, spec)
            finally:
                aside.close()
            if record.quarantined:
                record = replace(record, quarantine=await self._put_aside(record, aside.path))
            return await self._close(record, segments, reasons, spec.data)
        except BaseException:  # a cancelled import, too, leaves nothing behind
            await self._give_up(record)
            raise

    async def _before(self, cause: str) -> tuple[ImportRecord | None, str]:
        """The last completed import of this very file, and the id of the one after it."""
        before, import_id, times = None, f"import-{derived_id(cause, 'import')}", 0
        while (found := await store.find(self._database, import_id)) is not None and found.state == COMPLETED:
            before, times = found, times + 1
            import_id = f"import-{derived_id(cause, f'import/{times}')}"
        return before, import_id

    async def _put_aside(self, record: ImportRecord, path: Path) -> str:
        digest, _ = await asyncio.to_thread(digest_file, path)
        async with self._database.unit() as unit:
            await staged.note(unit, record.tenant, record.import_id, digest)
        return await self._objects(record.tenant).put_file(path, kind=QUARANTINE)

    async def _give_up(self, record: ImportRecord) -> None:
        try:
            async with self._database.unit() as unit:
                await store.fail(unit, record)
            await leftovers.drop(self._database, self._objects, record.import_id)
        except PawlError as error:
            log.warning("what an import left stays until it is swept", file=record.name, reason=str(error))

    async def _take(
        self,
        request: ImportRequest,
        record: ImportRecord,
        path: Path,
        columns: Columns,
        aside: Quarantine,
        spec: TaskSpec,
    ) -> tuple[ImportRecord, list[Stored], list[str]]:
        origin = Origin(request.tenant, request.name, request.source or "import", datetime.now(UTC))
        reading = Reading(path, record.name, record.format, columns, origin, self._segment_rows)
        segments, reasons = list[Stored](), list[str]()
        while (part := await asyncio.to_thread(reading.next)).read:
            fresh = await self._fresh(record, part.rows)
            data = await asyncio.to_thread(rows_to_parquet, fresh) if fresh else b""
            bad = [BadRow(each.number, each.field, each.reason) for each in part.faults]
            async with self._database.unit() as unit:
                named = digest_bytes(data) if fresh else None
                await store.stage(unit, record, fresh, bad, named)
            if fresh:
                digest = await self._objects(request.tenant).put_bytes(data, kind="segment")
                segments.append(Stored(digest, len(fresh), weight(data), count(fresh)))
            raws = [fault.raw for fault in part.faults]
            await asyncio.to_thread(aside.write, list(zip(bad, raws, strict=True)))
            record = replace(
                record,
                rows=record.rows + part.read,
                accepted=record.accepted + len(fresh),
                quarantined=record.quarantined + len(bad),
                already_seen=record.already_seen + len(part.rows) - len(fresh),
            )
            reasons += [_told(each) for each in bad[: _SHOWN_REASONS - len(reasons)]]
            share = reading.fraction()
            self._say(request, Progress("reading", record.rows, record.accepted, record.quarantined, share))
            # Were every row still to come a short and good one, there would be too many bad ones all the same.
            most = record.rows * (1 + _SHORTER * (1 - share) / share) if share else math.inf
            if record.quarantined > max(_EARLY_ROWS, spec.data.few_import_errors, spec.data.max_import_errors * most):
                break
        return record, segments, reasons

    async def _close(
        self, record: ImportRecord, segments: list[Stored], reasons: list[str], data: DataSpec
    ) -> ImportRecord:
        allowed, bad = data.max_import_errors, record.quarantined
        share = bad / record.rows if record.rows else 1.0
        # Of a small file one row is a large share; but an import of which no row can be taken is none.
        if share > allowed and (bad > data.few_import_errors or bad == record.rows):
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
            "import completed", task=record.task, file=record.name, shape=record.shape, rows=record.rows,
            accepted=record.accepted, quarantined=record.quarantined, already_seen=record.already_seen,
        )  # fmt: skip
        return replace(record, state=COMPLETED, watermark=watermark)

    async def _fresh(self, record: ImportRecord, rows: list[Row]) -> list[Row]:
        """Rows that were not imported before; consent that is taken back once more is news, under an id of its own."""
        first = {row.row_id: row for row in rows}
        known = await store.known_rows(self._database, record, list(first))
        back = {row_id: record_of(row_id) for row_id, row in first.items() if row_id in known and row.consent is False}
        given = await store.consents(self._database, record, set(back.values())) if back else {}
        return [row for row_id, row in first.items() if row_id not in known] + [
            msgspec.structs.replace(first[row_id], row_id=f"{row_id}.{record.import_id[-8:]}")
            for row_id, of in back.items()
            if given.get(of)
        ]

    def _say(self, request: ImportRequest, progress: Progress) -> None:
        if request.ticket:
            key = (request.tenant, request.ticket)
            self._progress[key] = progress
            self._progress.move_to_end(key)
            while len(self._progress) > _MAX_TICKETS:
                self._progress.popitem(last=False)


def _told(bad: BadRow) -> str:
    return f"row {bad.row}: {bad.field + ' ' if bad.field else ''}{bad.reason}"
